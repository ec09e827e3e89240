"""Folders opened one by one, so that no link below a store's root is followed.

Each name is opened relative to the descriptor of its folder (openat), so a folder that is meanwhile replaced by a link is
not followed either.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from runwide.store.base import PARTIAL, is_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DEEPEST = 32  # folders between root and object; a job has four, and a deletion keeps all of them open
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_FOLDERS = getattr(os, "O_DIRECTORY", 0)
_RELATIVE = bool(_NO_LINKS and _FOLDERS and os.open in os.supports_dir_fd)
"""Whether files can be opened relative to a folder's descriptor. If not, as on Windows, each name is checked first."""
_ROOT = getattr(os, "O_PATH", os.O_RDONLY) | _FOLDERS  # a folder that may only be searched is enough
_FOLDER = _ROOT | _NO_LINKS
_READABLE = os.O_RDONLY | _FOLDERS | _NO_LINKS
_FILE = (
    os.O_RDONLY
    | _NO_LINKS
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
NEW = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_CLOEXEC", 0)
    | _NO_LINKS
    | getattr(os, "O_BINARY", 0)
)
"""The flags for opening a new file."""

_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT

Folder: TypeAlias = "int | str"
"""A folder that was opened: its descriptor, or its path if `_RELATIVE` is false."""

# A link; a socket, or a device without a driver.
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP)
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class Misplaced(Exception):
    """A file or folder has the name of a thing of another kind.

    Args:
        kind: Its kind, in words.
        wanted: The expected kind.
    """

    def __init__(self, kind: str, wanted: str, path: str) -> None:
        super().__init__(f"this is {kind}, not {wanted}")
        self.path = path
        self.is_link = kind == _KINDS[stat.S_IFLNK]


def open_in(folder: Folder, name: str, flags: int) -> int:
    """Open a file of a folder; a new file may be read and written by all, as far as the umask allows."""
    if isinstance(folder, str):
        return os.open(_joined(folder, name), flags, 0o666)
    return os.open(name, flags, 0o666, dir_fd=folder)


def unlink(folder: Folder, name: str) -> None:
    """Remove a file of a folder, or a link itself."""
    if isinstance(folder, str):
        os.unlink(_joined(folder, name))  # noqa: PTH108 - as its neighbours
    else:
        os.unlink(name, dir_fd=folder)


def rmdir(folder: Folder, name: str) -> None:
    """Remove an empty folder of a folder."""
    if isinstance(folder, str):
        os.rmdir(_joined(folder, name))  # noqa: PTH106 - as its neighbours
    else:
        os.rmdir(name, dir_fd=folder)


def link(folder: Folder, name: str, also: str) -> None:
    """Give a file of a folder another name there."""
    if isinstance(folder, str):
        os.link(_joined(folder, name), _joined(folder, also))
    else:
        os.link(name, also, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)


def _rename(folder: Folder, name: str, where: Folder, new: str) -> None:
    if isinstance(folder, str):
        os.rename(_joined(folder, name), _joined(str(where), new))  # noqa: PTH104 - as its neighbours
    else:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=int(where))


def _mode(name: str, folder: Folder) -> int:
    if isinstance(folder, str):
        found = os.lstat(_joined(folder, name))
        # A junction of Windows has the mode of a folder, and leads elsewhere like a link.
        return stat.S_IFLNK if getattr(found, "st_reparse_tag", 0) == _JUNCTION else found.st_mode
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode


def _joined(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 - os takes text


@contextmanager
def chain(root: str, names: Sequence[str], *, make: bool = False) -> Iterator[list[Folder]]:
    """Open a root and folders below it, each relative to the folder before it.

    Only the path of the root may contain links. Yield the folders, the root first; they are open until the block ends.

    Raises:
        Misplaced: One of them is not a folder.
        FileNotFoundError: A folder is missing, or was removed while it was being opened.
    """
    opened: list[Folder] = []
    try:
        opened.append(_root(root, make=make))
        for depth, name in enumerate(names):
            try:
                opened.append(_below(name, opened[-1], make=make))
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                path = str(Path(root, *names[: depth + 1]))
                raise Misplaced(_kind(_mode(name, opened[-1])), "a folder", path) from error
        yield opened
    finally:
        for folder in opened:
            if not isinstance(folder, str):
                os.close(folder)


def _root(path: str, *, make: bool) -> Folder:
    try:
        return _opened_root(path)
    except FileNotFoundError:
        if not make:
            raise
    Path(path).mkdir(parents=True, exist_ok=True)
    return _opened_root(path)


def _opened_root(path: str) -> Folder:
    if _RELATIVE:
        return os.open(path, _ROOT)
    if not stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - as its neighbours
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return path


def _below(name: str, folder: Folder, *, make: bool) -> Folder:
    try:
        return _opened(name, folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # another writer was first
        if isinstance(folder, str):
            os.mkdir(_joined(folder, name))  # noqa: PTH102 - as its neighbours
        else:
            os.mkdir(name, dir_fd=folder)
    return _opened(name, folder)


def _opened(name: str, folder: Folder) -> Folder:
    if not isinstance(folder, str):
        return os.open(name, _FOLDER, dir_fd=folder)
    if not stat.S_ISDIR(_mode(name, folder)):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return _joined(folder, name)


@contextmanager
def regular(name: str, folder: Folder, path: str) -> Iterator[tuple[int, int]]:
    """Open a regular file for reading; yield its descriptor, which is open until the block ends, and its size.

    Raises:
        Misplaced: It is not a regular file. A pipe without a writer, which would block, is opened and closed.
    """
    if not _RELATIVE and not stat.S_ISREG(_mode(name, folder)):
        raise Misplaced(_kind(_mode(name, folder)), "an object", path)
    try:
        descriptor = open_in(folder, name, _FILE)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise Misplaced(_kind(_mode(name, folder)), "an object", path) from error
        raise
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Misplaced(_kind(about.st_mode), "an object", path)
        yield descriptor, about.st_size
    finally:
        os.close(descriptor)


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a device")


Entry: TypeAlias = "tuple[str, int, float]"
"""Name, size, and the time of writing."""


def files(root: str, inside: Sequence[str], prefix: str) -> Iterator[Entry]:
    """Yield the regular files below a folder whose names start with ``prefix``, in the order of names.

    No descriptor stays open between two of them. Files that cannot be opened, are too deep or have an invalid name are left
    out.

    Args:
        inside: Names of the folders from the root to the folder.
    """
    base = prefix[: prefix.rfind("/") + 1]
    waiting = [(base, _listed(root, inside, base))]
    while waiting:
        base, entries = waiting[-1]
        for name, size, written in entries:
            full = base + name
            if not full.startswith(prefix):
                continue
            if not name.endswith("/"):
                yield full, size, written
            elif len(inside) + full.count("/") <= _DEEPEST:
                waiting.append((full, _listed(root, inside, full)))
                break
        else:
            waiting.pop()


def below(root: str, inside: Sequence[str], prefix: str) -> Iterator[str]:
    """Yield the names of the folders directly below a folder that start with ``prefix``, in their order, as `files` does."""
    found = (name for name, _, _ in _listed(root, inside, "") if name.endswith("/"))
    return (name[:-1] for name in found if name.startswith(prefix))


def _listed(root: str, inside: Sequence[str], base: str) -> Iterator[Entry]:
    """Return files and folders of a folder; the names of folders end in a slash, so that they sort as in a listing."""
    found: list[Entry] = []
    with suppress(OSError, Misplaced), chain(root, [*inside, *base.split("/")[:-1]]) as opened:
        for entry in _entries(opened[-1]):
            if not is_name(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                found.append((f"{entry.name}/", 0, 0.0))
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    about = entry.stat(follow_symlinks=False)
                    found.append((entry.name, about.st_size, about.st_mtime))
    return iter(sorted(found))


def _entries(folder: Folder) -> Iterator[os.DirEntry[str]]:
    if isinstance(folder, str):
        with os.scandir(folder) as entries:
            yield from entries
        return
    descriptor = os.open(".", _READABLE, dir_fd=folder)
    try:
        with os.scandir(descriptor) as entries:
            yield from entries
    finally:
        os.close(descriptor)


def remove_others(root: str, names: Sequence[str]) -> None:
    """Remove everything from a folder that `files` leaves out, then empty folders, and the folder itself if it is empty.

    Folders that are too deep are moved up first: each step opens all folders from the root.
    """
    found = [tuple(names)]
    for path in found:  # the loop appends to it
        with suppress(FileNotFoundError), chain(root, path) as opened:
            holds_objects = len(path) <= _DEEPEST and all(map(is_name, path[len(names) :]))
            for entry in list(_entries(opened[-1])):
                if not entry.is_dir(follow_symlinks=False):
                    is_object = holds_objects and is_name(entry.name) and entry.is_file(follow_symlinks=False)
                    if not is_object:
                        unlink(opened[-1], entry.name)
                elif len(path) - len(names) < _DEEPEST:
                    found.append((*path, entry.name))
                else:
                    moved = f"{PARTIAL}{os.urandom(8).hex()}"
                    _rename(opened[-1], entry.name, opened[len(names)], moved)
                    found.append((*names, moved))
    for *above, name in reversed(found):
        with suppress(OSError, Misplaced), chain(root, above) as opened:  # a folder that is not empty stays
            rmdir(opened[-1], name)
