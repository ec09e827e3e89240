"""A file of the program's own, and what was read of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide import own_archived, own_source

if TYPE_CHECKING:
    from runwide.own_source import Source


@dataclass(frozen=True, slots=True)
class File:
    """A file of the program's own.

    Args:
        place: Where it is.
        digest: SHA-256, in hex: of what a source does, of the bytes of any other file.
        module: Name of the module that it is; empty for a data file.
        loader: Reads it where it is in an archive.
    """

    place: str
    digest: str
    module: str = ""
    loader: Any = None

    @property
    def executable(self) -> bool:
        """Whether it is a program for its owner; modules are imported, not run."""
        return not self.module and os.path.isfile(self.place) and os.access(self.place, os.X_OK)  # noqa: PTH113 - a text

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            OSError: It cannot be read.
        """
        try:
            with open(self.place, "rb") as file:  # noqa: PTH123 - a text
                return file.read()
        except OSError:
            if not hasattr(self.loader, "get_data"):
                raise
            data: bytes = self.loader.get_data(self.place)
            return data


def file_at(place: str) -> File:
    """Return a file that travels since it was asked for.

    Args:
        place: Where it is.
    """
    loader = None if os.path.exists(place) else own_archived.loader_of(place)  # noqa: PTH110 - a text
    source = source_of(place, loader)
    return File(place, "" if source is None else source.digest, loader=loader)


known: dict[str, tuple[tuple[int, int], Source]] = {}


def source_of(path: str, loader: Any) -> Source | None:
    """What is in a file; None where it is not there."""
    try:
        about = os.stat(path)  # noqa: PTH116 - of a text
        state = about.st_mtime_ns, about.st_size
        if path in known and known[path][0] == state:
            return known[path][1]
        with open(path, "rb") as file:  # noqa: PTH123 - likewise
            source = own_source.read(file.read(), path)
    except OSError:
        return _archived(path, loader)
    known[path] = state, source
    return source


def _archived(path: str, loader: Any) -> Source | None:
    """What is in a file of an archive."""
    try:
        return own_source.read(loader.get_data(path), path)
    except (AttributeError, OSError):
        return None
