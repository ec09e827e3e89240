"""Compare requirements with the installed packages, from their metadata."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from runwide.cli.requirements import CONSTRAINT, parsed
from runwide.distributions import canonical
from runwide.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packaging.requirements import Requirement

_OURS = "runwide"
_NOT_IN_STEPS = frozenset({"kfp"})  # runwide needs it only where pipelines are written


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requirements, divided for pip.

    Args:
        missing: The requirements that the installed packages do not satisfy.
        lines: The lines for pip: options of pip, and the missing requirements.
        kept: The requirements that the installed packages satisfy.
        given: The constraints in the text.
        constraints: These constraints, and the installed versions of the kept requirements.
    """

    missing: tuple[str, ...]
    lines: tuple[str, ...]
    kept: tuple[str, ...]
    given: tuple[str, ...]
    constraints: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Wanted:
        r"""Compare a text of `runwide.cli.requirements.text_of` with the installed packages.

        Raises:
            InputError: The requirements ask for another version of runwide.

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
    """Return whether a requirement is the installed runwide itself.

    Raises:
        InputError: It is another version of runwide.
    """
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
