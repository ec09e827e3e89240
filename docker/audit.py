"""Refuse an image whose Python packages have known vulnerabilities.

    audit.py BILL_OF_MATERIALS

pip-audit looks up every ``pkg:pypi`` component of a CycloneDX file. The exit code is the verdict:

    0  no vulnerability is known, except those in accepted-vulnerabilities.txt
    1  a vulnerability is known
    3  the service did not answer for all packages; with RUNWIDE_ACCEPT_UNREACHED=yes the exit code is 0
    4  there is no package to judge, or a list cannot be read

``RUNWIDE_ADVISORIES`` names the service: ``osv``, or ``pypi`` if the build can reach only a package index.
``RUNWIDE_OSV_URL`` names another service with the interface of OSV's ``/v1/query``.
Debian's packages are not judged here, since they come from the base image.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ACCEPTED = Path(__file__).with_name("accepted-vulnerabilities.txt")
_PURL = re.compile(r"pkg:pypi/([^@]+)@(.+)")
_LINE = re.compile(r"(\S+)\s+(\d{4}-\d\d-\d\d)\s+(\S.*)")
_OURS = "runwide"
_SERVICES = ("osv", "pypi")
_NAMED = 5  # packages named in one line


class UnreadableError(Exception):
    """A list that cannot be read."""


def requirements(bill: dict[str, Any]) -> list[str]:
    """Return the packages of a bill of materials as pins.

    Example:
        >>> requirements({"components": [{"purl": "pkg:pypi/six@1.17.0"}, {"purl": "pkg:deb/debian/tini@0.19"}]})
        ['six==1.17.0']
    """
    found = (_PURL.fullmatch(component.get("purl", "")) for component in bill.get("components", []))
    return sorted(f"{match[1]}=={match[2]}" for match in found if match and match[1] != _OURS)


def accepted(text: str, today: dt.date) -> list[str]:
    """Return the identifiers that a list of accepted vulnerabilities allows on a day.

    Raises:
        UnreadableError: A line does not have three parts.

    Example:
        >>> accepted("GHSA-1 2027-01-31 never called", datetime.date(2027, 1, 31))
        ['GHSA-1']
        >>> accepted("GHSA-1 2027-01-31 never called", datetime.date(2027, 2, 1))
        []
    """
    through = []
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        match = _LINE.fullmatch(line)
        if not match:
            raise UnreadableError(f"{ACCEPTED.name}: {line!r} is not: identifier, day (2027-01-31), reason")
        if today <= dt.date.fromisoformat(match[2]):
            through.append(match[1])
    return through


def audit(pins: list[str], through: list[str], service: str, url: str) -> tuple[dict[str, Any] | None, str]:
    """Return the findings of pip-audit, or None if it failed, and its messages."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins) + "\n")
        file.flush()
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
        ]
        command += ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"]
        command += ["--osv-url", url] if url else []
        command += [word for one in through for word in ("--ignore-vuln", one)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(ran.stdout), ran.stderr
    except ValueError:
        return None, ran.stderr


def unanswered(found: dict[str, Any]) -> list[str]:
    """Return the packages for which the service had no answer; pip-audit skips them as if they were clean.

    Example:
        >>> unanswered({"dependencies": [{"name": "six", "skip_reason": "not found"}, {"name": "tqdm", "vulns": []}]})
        ['six']
    """
    return sorted(package["name"] for package in found["dependencies"] if "skip_reason" in package)


def main(path: str) -> int:
    """Judge a bill of materials; return the exit code."""
    try:
        pins = requirements(json.loads(Path(path).read_text(encoding="utf-8")))
        through = accepted(ACCEPTED.read_text(encoding="utf-8"), dt.datetime.now(dt.timezone.utc).date())
    except (OSError, ValueError, UnreadableError) as error:
        return _say(4, f"cannot be judged: {error}")
    if not pins:
        return _say(4, f"{path} names no package of Python")
    return judge(pins, through)


def judge(pins: list[str], through: list[str]) -> int:
    """Judge packages, except for accepted vulnerabilities; print the verdict, and return the exit code."""
    service, url = os.environ.get("RUNWIDE_ADVISORIES") or "osv", os.environ.get("RUNWIDE_OSV_URL", "")
    if service not in _SERVICES:
        return _say(4, f"RUNWIDE_ADVISORIES={service} is none of {', '.join(_SERVICES)}")
    where = url or service
    found, said = audit(pins, through, service, url)
    if found is None:
        reason = next(
            (line for line in reversed(said.strip().splitlines()) if line.strip()), "no reason given"
        )
        return _unjudged(f"service not reached ({where})", reason)
    guilty = [(package, flaw) for package in found["dependencies"] for flaw in package.get("vulns", [])]
    for package, flaw in guilty:
        repaired = ", ".join(flaw.get("fix_versions", [])) or "no version yet"
        print(f"{flaw['id']}: {package['name']} {package['version']}; repaired in {repaired}")
    passed = f"; let through: {', '.join(through)}" if through else ""
    if guilty:
        return _say(1, f"{len(guilty)} known against {len(pins)} packages{passed}")
    unknown = unanswered(found)
    if unknown:
        named = ", ".join(unknown[:_NAMED]) + (", …" if len(unknown) > _NAMED else "")
        return _unjudged(
            f"service without an answer for {len(unknown)} of {len(pins)} packages ({where})", named
        )
    return _say(0, f"nothing known against {len(pins)} packages{passed}")


def _unjudged(what: str, reason: str) -> int:
    if os.environ.get("RUNWIDE_ACCEPT_UNREACHED") == "yes":
        return _say(0, f"NOT JUDGED: {what}, accepted by RUNWIDE_ACCEPT_UNREACHED=yes")
    return _say(3, f"{what}: {reason}")


def _say(code: int, text: str) -> int:
    print(f"audit: {text}")
    return code


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its one argument
        sys.exit("usage: audit.py BILL_OF_MATERIALS")
    sys.exit(main(sys.argv[1]))
