"""Install the requirements of a step that its image does not satisfy."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from runwide import settings
from runwide.cli.requirements import CONSTRAINT, checked, parsed
from runwide.code.distributions import canonical
from runwide.errors import EnvironmentMismatch, InputError
from runwide.host import space
from runwide.log import Log
from runwide.redaction import shortened
from runwide.sigterm import leaves_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.requirements import Requirement


_OURS = "runwide"
_NOT_IN_STEPS = frozenset({"kfp"})  # runwide needs it only where pipelines are written


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requirements, divided for pip.

    Args:
        lines: The lines for pip: options of pip, and the missing requirements.
        kept: The requirements that the installed packages satisfy.
        constraints: The constraints in the text, and the installed versions of the kept requirements.
    """

    missing: tuple[str, ...]
    lines: tuple[str, ...]
    kept: tuple[str, ...]
    given: tuple[str, ...]
    constraints: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Wanted:
        r"""Compare a text of `runwide.cli.requirements.text_of` with the installed packages.

        Example:
            >>> Wanted.of("click>=8\nno-such-thing==1\n--pre").missing
            ('no-such-thing==1',)
        """
        lines = text.splitlines()
        given = tuple(line.removeprefix(CONSTRAINT) for line in lines if line.startswith(CONSTRAINT))
        options = [line for line in lines if line.startswith("-") and not line.startswith(CONSTRAINT)]
        wanted = [line for line in lines if line and not line.startswith("-") and not _is_ours(line)]
        limits = [found for line in given if (found := parsed(line)) is not None]
        missing = tuple(line for line in wanted if not _holds_here(line, limits))
        if any("--hash" in line for line in wanted) or "--require-hashes" in options:
            # In this mode, pip needs a hash for each package that it installs, and only the lines have hashes.
            return cls(missing, (*options, *wanted), (), given, given)
        kept = tuple(line for line in wanted if line not in missing)
        pins = tuple(pin for line in kept if (pin := _pin(line)))
        return cls(missing, (*options, *missing), kept, given, (*given, *pins))


def _is_ours(line: str) -> bool:
    """Return whether a requirement is the installed runwide; reject another version of runwide."""
    found = parsed(line)
    if found is None or canonical(found.name) != _OURS:
        return False
    from runwide import __version__

    if not found.specifier.contains(__version__, prereleases=True):
        raise InputError(
            f"the requirements ask for {line}, and this step runs runwide {__version__}",
            hint="remove that line, and give image= with that release",
        )
    return True


def _holds_here(line: str, limits: Sequence[Requirement]) -> bool:
    found = parsed(line)
    seen: set[tuple[str, str]] = set()
    if found is None or not _holds(found, seen):
        return False
    names = {name for name, _ in seen}
    return all(_allows(one) for one in limits if canonical(one.name) in names and _applies(one))


def _holds(requirement: Requirement, seen: set[tuple[str, str]], extra: str = "") -> bool:
    """Return whether a requirement and all its dependencies are installed."""
    if not _applies(requirement, extra):
        return True
    if requirement.url is not None or not _allows(requirement):
        return False
    for one in ("", *sorted(requirement.extras)):
        key = canonical(requirement.name), one
        if key not in seen:
            seen.add(key)
            if not all(_holds(further, seen, one) for further in _required_by(requirement.name)):
                return False
    return True


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _allows(requirement: Requirement) -> bool:
    here = _version(requirement.name)
    return here is not None and requirement.specifier.contains(here, prereleases=True)


def _pin(line: str) -> str | None:
    found = parsed(line)
    here = None if found is None else _version(found.name)
    return None if found is None or here is None else f"{found.name}=={here}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required_by(name: str) -> Iterator[Requirement]:
    from packaging.requirements import InvalidRequirement, Requirement

    for text in metadata.requires(name) or ():
        try:
            yield Requirement(text)
        except InvalidRequirement:  # of an old package, which pip has installed nevertheless
            continue


def needed_by_runwide() -> list[str]:
    """Return the installed versions of runwide's own dependencies as constraints: other versions could break it.

    Example:
        >>> [line.partition("==")[0] for line in needed_by_runwide() if line.startswith(("click=", "kfp="))]
        ['click']
    """
    found: dict[str, str] = {}
    waiting = [_OURS]
    while waiting:
        name = waiting.pop()
        version = _version(name)
        if version is None or canonical(name) in found:
            continue
        found[canonical(name)] = f"{name}=={version}"
        waiting += [
            one.name
            for one in _required_by(name)
            if canonical(one.name) not in _NOT_IN_STEPS and _applies(one)
        ]
    found.pop(_OURS, None)
    return sorted(found.values())


log = Log("cli")

_FOLDER = "site-packages"  # packages in a folder of this name count as installed
_SITES = (_FOLDER, "dist-packages")
_WORDS = (
    "install", "--no-user", "--no-input", "--disable-pip-version-check", "--no-warn-script-location",
    "--progress-bar", "off", "--root-user-action", "ignore",
)  # fmt: skip
_OTHER_PLACES = ("PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV")
_CONFLICT = "conflicting dependencies"  # as pip's resolver says
_HINT = "change them, name another index (env={'PIP_INDEX_URL': …}), or build an image (runwide image)"
_HINT_CONFLICT = (
    "allow the versions of the packages that runwide itself needs, or build an image (runwide image)"
)
_REASON = 800  # characters
# Messages of pip about an index that it cannot reach; later pip reports only that no distribution was found.
_UNREACHED = re.compile(r"Could not fetch URL|Retrying \(")


def install(text: str | None, at: str | None = None) -> str | None:
    """Install requirements for this command and its workers, until the command ends.

    If the image has everything in allowed versions, install nothing, and do not start pip.

    Args:
        at: The folder in which the parent process has installed the requirements.

    Returns:
        The folder of the installed packages; None if nothing had to be installed.
    """
    if not (text or at):
        return None
    return click.get_current_context().with_resource(installed(text or "", at))


@contextmanager
def installed(text: str, at: str | None = None) -> Iterator[str | None]:
    """Install requirements as `install` does, until the block ends.

    Example:
        >>> with installed("click>=8") as folder:
        ...     print(folder)
        None
    """
    if at is not None:
        with _on_path(at):
            yield at
        return
    try:
        wanted = Wanted.of(checked(text))
    except InputError:
        raise
    except ValueError as error:  # of a text that `text_of` did not make
        raise InputError(
            f"the requirements cannot be read: {str(error).partition(chr(10))[0]}",
            hint='give requirements such as "nltk==3.9.1"',
        ) from error
    if not wanted.missing:
        yield None
        return
    with (
        leaves_on_sigterm(),
        TemporaryDirectory(
            prefix="runwide-requirements-", dir=space.scratch(), ignore_cleanup_errors=True
        ) as folder,
    ):
        site = Path(folder, _FOLDER)
        _install(wanted, Path(folder), site)
        with _on_path(str(site)):
            yield str(site)


def _install(wanted: Wanted, folder: Path, site: Path) -> None:
    began = time.monotonic()
    log.info("requirements.installing", missing=", ".join(wanted.missing)[:_REASON], folder=str(site))
    said = _pip(wanted.lines, wanted.constraints, folder, site)
    if said and _CONFLICT in said and wanted.kept:  # another version of an installed package may fit
        said = _pip([*wanted.lines, *wanted.kept], wanted.given, folder, site)
    if said is not None:
        raise EnvironmentMismatch(
            f"the requirements cannot be installed: {reason_of(said)}",
            hint=_HINT_CONFLICT if _CONFLICT in said else _HINT,
        )
    count = sum(1 for _ in site.glob("*.dist-info"))
    log.info("requirements.installed", packages=count, seconds=round(time.monotonic() - began, 1))


def _pip(lines: Sequence[str], constraints: Sequence[str], folder: Path, site: Path) -> str | None:
    """Run pip; return its output if it fails."""
    files = {"requirements.txt": lines, "constraints.txt": [*constraints, *needed_by_runwide()]}
    for name, content in files.items():
        Path(folder, name).write_text("\n".join([*content, ""]), encoding="utf-8")
    (folder / "tmp").mkdir(exist_ok=True)
    words = ["--target", str(site), "-r", "requirements.txt", "-c", "constraints.txt"]
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pip", *_WORDS, *words],
            cwd=folder,  # -m searches this directory first
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return f"pip cannot be started: {error}"
    return None if ran.returncode == 0 else ran.stdout or f"pip ended with exit code {ran.returncode}"


def _environment(folder: Path) -> Mapping[str, str]:
    """Return the variables for pip: without the signing key, and with writable folders."""
    found = settings.with_variables({"TMPDIR": str(folder / "tmp")})
    for name in _OTHER_PLACES:
        found.pop(name, None)
    home = found.get("HOME", "")
    if not home or not os.access(home, os.W_OK):
        found.update(HOME=str(folder), PIP_NO_CACHE_DIR="1")
    return found


def reason_of(said: str) -> str:
    r"""Return the reason of a failure of pip, on one line, from its output.

    Example:
        >>> reason_of("WARNING: retrying\nERROR: No matching distribution found for nltk==0\n\nTo fix this …")
        'No matching distribution found for nltk==0'
        >>> reason_of("WARNING: Retrying (Retry(total=0)): refused\nERROR: No matching distribution found for nltk==0")
        'WARNING: Retrying (Retry(total=0)): refused No matching distribution found for nltk==0'
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    first = next((place for place, line in enumerate(lines) if line.startswith("ERROR:")), None)
    found = lines[-3:] if first is None else [*filter(_UNREACHED.search, lines[:first][-1:]), *lines[first:]]
    kept: list[str] = []
    for line in found:
        if line.startswith(("To fix this", "[notice]", "hint:", "Additionally,")):
            break
        kept.append(line.removeprefix("ERROR:").strip())
    return shortened(" ".join(dict.fromkeys(kept)), _REASON)


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    """Put a folder on the search path between the standard library and installed packages, and its bin last on PATH."""
    place = next(
        (at for at, entry in enumerate(sys.path) if any(site in Path(entry).parts for site in _SITES)),
        len(sys.path),
    )
    sys.path.insert(place, folder)
    importlib.invalidate_caches()
    path = settings.value("PATH")
    settings.set_value("PATH", os.pathsep.join(filter(None, (path, str(Path(folder, "bin"))))))
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's function may have removed it
            sys.path.remove(folder)
        settings.set_value("PATH", path or os.defpath)
