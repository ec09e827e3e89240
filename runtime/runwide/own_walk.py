"""Walk folders of data files within limits, without the files that runwide has written."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_JOB = re.compile(r"[0-9a-f]-[0-9]{8}t[0-9]{6}-[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}(\.[a-z]+)?")
_KEPT = frozenset({"names", "code", "items", "constants", "function"})
"""Folders of a store whose files have digests as names."""


def may_travel(path: str) -> bool:
    """Return whether a relative path is valid on every system, stays below its folder, and can be written in an archive.

    Example:
        >>> may_travel("shop/rates.csv"), may_travel("shop/12:00.csv"), may_travel("../rates.csv")
        (True, False, False)
    """
    try:
        path.encode()
    except UnicodeEncodeError:  # bytes that are not text
        return False
    return not {"", ".", ".."} & set(path.split("/")) and not any(mark in path for mark in "\\:\0")


def visits(
    folder: str, entered: Callable[[str], bool], *, most: int | None = None, total: int | None = None
) -> Iterator[tuple[str, list[str] | None]]:
    """Yield each folder with the sorted names of its regular files; stores of runwide are skipped.

    Links to folders are followed, except links to a folder that contains them.

    Args:
        folder: The top folder.
        entered: Returns whether to enter a folder.
        most: Most entries of a folder. A folder with more has None for its names, and is not entered further.
        total: Most entries of all folders together; likewise.

    Example:
        >>> from pathlib import Path
        >>> Path("data").mkdir()
        >>> Path("data/days.csv").write_text("1")
        1
        >>> list(visits("data", lambda place: True))
        [('data', ['days.csv'])]
    """
    waiting = [(folder, frozenset({os.path.realpath(folder)}))]
    while waiting:
        above, around = waiting.pop()
        entries = _entries(above, min((one for one in (most, total) if one is not None), default=None))
        if entries is None:
            yield above, None
            continue
        if total is not None:
            total -= len(entries)
        inner, files = _parted(entries)
        if above != folder and _is_of_a_store(above, inner, files):
            continue
        yield above, files
        for name in sorted(inner, reverse=True):
            place = f"{above}/{name}"
            real = os.path.realpath(place)
            if not _JOB.fullmatch(name) and real not in around and entered(place):
                waiting.append((place, around | {real}))


def _entries(folder: str, most: int | None) -> list[os.DirEntry[str]] | None:
    """Return the entries of a folder; None if there are more than ``most``."""
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(found) == most:
                    return None
                found.append(entry)
    except OSError:  # the folder is gone, or cannot be read
        return []
    return found


def _parted(entries: Iterable[os.DirEntry[str]]) -> tuple[list[str], list[str]]:
    """Return the names of folders and of regular files, without pipes, sockets and devices."""
    inner, files = [], []
    for entry in entries:
        try:
            if entry.is_dir():
                inner.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
        except OSError:  # a link to itself
            continue
    return inner, sorted(files)


def _is_of_a_store(folder: str, inner: list[str], files: list[str]) -> bool:
    """Return whether a folder is one in which runwide keeps names, batches or parts of pipelines."""
    name = os.path.basename(folder)  # noqa: PTH119 - a text
    if name in _KEPT:
        return bool(files) and not inner and all(map(_DIGEST.fullmatch, files))
    if name == "batches":
        return bool(inner) and not files and all(os.path.isdir(f"{folder}/{one}/runs") for one in inner)  # noqa: PTH112 - likewise
    return False
