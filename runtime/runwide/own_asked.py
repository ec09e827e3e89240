"""Find the packages, modules, files and folders that ``code=`` asks for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.imports import DOTTED
from runwide.own import kind_of, reached
from runwide.own_files import File, file_at
from runwide.own_secrets import is_secret
from runwide.own_walk import visits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Asked:
    """Code to send since ``code=`` asks for it.

    Args:
        names: Names of packages and modules.
        files: Other files, by their path below a folder of the search path.
        left_out: Files in these folders that are hidden or look like keys.
    """

    names: tuple[str, ...]
    files: dict[str, File]
    left_out: tuple[str, ...] = ()


def asked_for(asked: Iterable[str | os.PathLike[str]]) -> Asked:
    """Find packages, modules, files and folders.

    Args:
        asked: Names such as ``"shop"`` or ``"shop.prices"``, and paths. In the archive, a path below a folder of the
            search path is relative to that folder; any other path is at the top.

    Raises:
        InputError: A name or path does not exist, or is an installed package.

    Example:
        >>> from pathlib import Path
        >>> Path("labels.json").write_text("{}")
        2
        >>> list(asked_for(["labels.json"]).files)
        ['labels.json']
    """
    if isinstance(asked, (str, os.PathLike)):
        asked = [asked]
    names: list[str] = []
    files: dict[str, File] = {}
    left_out: set[str] = set()
    for one in _checked(asked):
        if isinstance(one, str) and DOTTED.fullmatch(one) and (kind := kind_of(one)):
            if kind == "installed":
                raise InputError(
                    f"code={one!r} is an installed package, and not code of the program's own",
                    hint="name it in requirements=, or build an image with it",
                )
            names.append(one)
            if not reached((), whole=[one]).files and Path(one).exists():  # a folder without modules
                files.update(_below(Path(one), left_out))
        else:
            files.update(_below(Path(one), left_out))
    return Asked(tuple(names), files, tuple(sorted(left_out)))


def _checked(asked: Any) -> list[Any]:
    try:
        found = list(asked)
    except TypeError:
        found = [None]
    if not all(isinstance(one, (str, os.PathLike)) and os.fspath(one) for one in found):
        raise InputError(
            f"code={asked!r} is not a list of names or paths",
            hint='give a list such as ["shop", "data/labels.json"]',
        )
    return found


def _below(path: Path, left_out: set[str]) -> Iterator[tuple[str, File]]:
    place = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    if not place.exists():
        raise InputError(
            f"code={str(path)!r} is not a module of the program's own, and there is no such file or folder",
            hint="give the name of a package that can be imported here, or a path",
        )
    if not place.is_dir() and not place.is_file():
        raise InputError(
            f"code={str(path)!r} is not a regular file",
            hint="give files with content, and no pipes, sockets or devices",
        )
    for file in _files(place, left_out) if place.is_dir() else [place]:
        yield _name(file, place), file_at(str(file))


def _files(folder: Path, left_out: set[str]) -> Iterator[Path]:
    def entered(place: str) -> bool:
        name = os.path.basename(place)  # noqa: PTH119 - a text
        if name.startswith("."):
            left_out.add(place)
        return not name.startswith(".") and name != "__pycache__"

    for above, names in visits(str(folder), entered):
        secret = {name for name in names or () if is_secret(name)}
        left_out.update(f"{above}/{name}" for name in secret)
        yield from (Path(above, name) for name in names or () if name not in secret)


def _name(file: Path, asked: Path) -> str:
    """Return the path of a file relative to the nearest folder of the search path, or else to the parent of ``asked``."""
    folders = [Path(os.path.abspath(entry)) for entry in sys.path]  # noqa: PTH100 - as above
    above = [folder for folder in folders if folder in (asked, *asked.parents) and folder != file]
    folder = max(above, key=lambda one: len(one.parts), default=asked.parent)
    return file.relative_to(folder).as_posix()
