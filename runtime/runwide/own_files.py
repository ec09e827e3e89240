"""Read a file of the program's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from runwide.own_archived import loader_of
from runwide.own_source import Source, read


@dataclass(frozen=True, slots=True)
class File:
    """A file of the program's own.

    Args:
        place: Its path.
        digest: SHA-256, in hex: of the syntax tree of a source, of the bytes of any other file.
        module: The name of the module in it; empty for a data file.
        loader: Reads the file if it is in an archive.
    """

    place: str
    digest: str
    module: str = ""
    loader: Any = None

    @property
    def executable(self) -> bool:
        """True if its owner may run it as a program; False for modules, which are imported."""
        return not self.module and os.path.isfile(self.place) and os.access(self.place, os.X_OK)  # noqa: PTH113 - a text

    def read(self) -> bytes:
        """Return the bytes of the file.

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
    """Return a file that is not known as a module."""
    loader = None if os.path.exists(place) else loader_of(place)  # noqa: PTH110 - a text
    source = source_of(place, loader)
    return File(place, "" if source is None else source.digest, loader=loader)


known: dict[str, tuple[tuple[int, int], Source]] = {}


def source_of(path: str, loader: Any) -> Source | None:
    """Return the source in a file; None if the file does not exist."""
    try:
        about = os.stat(path)  # noqa: PTH116 - a text
        state = about.st_mtime_ns, about.st_size
        if path in known and known[path][0] == state:
            return known[path][1]
        with open(path, "rb") as file:  # noqa: PTH123 - likewise
            source = read(file.read(), path)
    except OSError:
        return _archived(path, loader)
    known[path] = state, source
    return source


def _archived(path: str, loader: Any) -> Source | None:
    """Return the source in a file of an archive."""
    try:
        return read(loader.get_data(path), path)
    except (AttributeError, OSError):
        return None
