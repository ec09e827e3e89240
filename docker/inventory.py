"""List the contents of the image: a CycloneDX bill of materials, and a list of licences.

    inventory.py PYTHON_BOM FOLDER

The Python packages come from the bill that cyclonedx-py made; this program adds Debian's packages and Python itself. It
writes ``FOLDER/sbom.cdx.json`` and ``FOLDER/licenses.json``. It runs while the image is built, so it imports the standard
library only, and the same packages give the same bytes.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

_DPKG = "${Package}\t${Version}\t${Architecture}\n"
_LICENCE_LINE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
_LICENCE_FILE = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]+\w)")
_UNNAMED = "see its copyright file"


def main(python_bom: str, folder: str) -> None:
    """Write both lists."""
    bill = json.loads(Path(python_bom).read_text(encoding="utf-8"))
    debian = _debian_packages()
    python = _component("python", platform.python_version(), "PSF-2.0", purl="pkg:generic/python@{}")
    bill["components"] = sorted(
        [*bill.get("components", []), python, *debian],
        key=lambda component: (component["type"], component["name"], component["version"]),
    )
    image = {
        "type": "container",
        "name": "runwide",
        "version": metadata.version("runwide"),
        "bom-ref": "image",
    }
    bill["metadata"]["component"] = image
    licences = [*_python_packages(), _row_of("interpreter", python)]
    licences += [_row_of("debian", package) for package in debian]
    _write(Path(folder, "sbom.cdx.json"), bill)
    _write(Path(folder, "licenses.json"), licences)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _component(name: str, version: str, licence: str, *, purl: str) -> dict[str, Any]:
    where = purl.format(quote(version, safe="+~"))
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": where,
        "bom-ref": where,
        "licenses": [{"license": {"name": licence}}],
    }


def _row(kind: str, name: str, version: str, licence: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "version": version, "licence": licence}


def _row_of(kind: str, component: dict[str, Any]) -> dict[str, str]:
    licence = component["licenses"][0]["license"]["name"]
    return _row(kind, component["name"], component["version"], licence)


def _python_packages() -> list[dict[str, str]]:
    found = {
        _canonical(package.metadata["Name"]): _row(
            "python",
            _canonical(package.metadata["Name"]),
            package.version,
            _python_licence(package.metadata),
        )
        for package in metadata.distributions()
    }
    return [found[name] for name in sorted(found)]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _python_licence(about: Any) -> str:
    """Return the licence in a package's metadata: its expression, its classifiers, or the first line of the old field."""
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if "License ::" in line]
    if classified:
        return " AND ".join(classified)
    return str(about.get("License") or _UNNAMED).strip().splitlines()[0]


def _debian_packages() -> list[dict[str, Any]]:
    listed = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={_DPKG}"], check=True, capture_output=True, text=True
    )
    release = platform.freedesktop_os_release()
    where = f"pkg:deb/{release['ID']}/{{name}}@{{{{}}}}?arch={{arch}}&distro={release['ID']}-{release['VERSION_ID']}"
    rows = sorted(line.split("\t") for line in listed.stdout.splitlines())
    return [
        _component(
            name, version, _debian_licence(name), purl=where.format(name=quote(name, safe="+"), arch=arch)
        )
        for name, version, arch in rows
    ]


def _debian_licence(package: str) -> str:
    """Return the licences that the copyright file of a package names, if the file is machine-readable."""
    path = Path("/usr/share/doc", package, "copyright")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    named = _LICENCE_LINE.findall(text) or _LICENCE_FILE.findall(text)
    return " AND ".join(sorted({name.strip() for name in named})) or _UNNAMED


if __name__ == "__main__":
    main(*sys.argv[1:])
