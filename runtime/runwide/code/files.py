"""Read and list files in folders and zip archives."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.code.source import Source, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_listings: dict[str, tuple[tuple[int, int], dict[str, int]]] = {}


def archived_sizes(folder: str) -> dict[str, int]:
    """Return the sizes of the files below a folder in an archive, by their paths below it; empty if it is not in an archive.

    Example:
        >>> with zipfile.ZipFile("app.pyz", "w") as archive:
        ...     archive.writestr("lib/rates.csv", "1.2")
        >>> archived_sizes(os.path.abspath("app.pyz/lib"))
        {'rates.csv': 3}
    """
    archive, inside = _split(folder)
    start = f"{inside}/" if inside else ""
    members = _members(archive) if archive else {}
    return {name[len(start) :]: size for name, size in members.items() if name.startswith(start)}


def archived_size(place: str) -> int | None:
    """Return the size of a file in an archive; None if it is not in an archive."""
    archive, inside = _split(place)
    return _members(archive).get(inside) if archive else None


def loader_of(place: str) -> Any:
    """Return the loader that reads a file in an archive; None if it is not in an archive."""
    import zipimport

    archive, _ = _split(place)
    try:
        return zipimport.zipimporter(archive) if archive else None
    except zipimport.ZipImportError:
        return None


def _split(place: str) -> tuple[str, str]:
    """Return the archive that contains a path, and the path in it; empty texts if there is no such archive."""
    archive, inside = place, ""
    while not os.path.exists(archive):  # noqa: PTH110 - a text
        archive, name = os.path.split(archive)
        if not name:
            return "", ""
        inside = f"{name}/{inside}" if inside else name
    return (archive, inside) if os.path.isfile(archive) else ("", "")  # noqa: PTH113 - likewise


def _members(archive: str) -> dict[str, int]:
    try:
        about = os.stat(archive)  # noqa: PTH116 - a text
        state = about.st_mtime_ns, about.st_size
        if archive not in _listings or _listings[archive][0] != state:
            with zipfile.ZipFile(archive) as opened:
                files = (one for one in opened.infolist() if not one.is_dir())
                _listings[archive] = state, {one.filename: one.file_size for one in files}
        return _listings[archive][1]
    except (OSError, zipfile.BadZipFile):
        return {}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the program's own.

    Args:
        digest: SHA-256, in hex: of the syntax tree of a source, of the bytes of any other file.
        module: The name of the module in it; empty for a data file.
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
        """Return the bytes of the file."""
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
        most: Most entries of a folder. A folder with more has None for its names, and is not entered further.

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


_SECRET = re.compile(
    r"""
    ^\.                                                              # hidden, such as .env
    | \.(pem|key|p12|pfx|jks|keystore|kdbx|env)(\.(bak|old|orig|local))?$
    | ^id_(rsa|dsa|ecdsa|ed25519)(\.(?!pub$).*)?$
    | ^token\.json$
    | (credential|client[-_]?secret|service[-_]?account).*\.(json|ya?ml)$
    | ^(secret|password)s?([-_.].*)?\.(json|ya?ml|toml|ini|cfg|txt)$
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_secret(name: str) -> bool:
    """Return whether a file is hidden, or its name (without folders) is one that files with keys have.

    Example:
        >>> is_secret("client_secret_123.json"), is_secret("special_tokens_map.json")
        (True, False)
    """
    return _SECRET.search(name) is not None
