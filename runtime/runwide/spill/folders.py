"""Folders and files below a root, opened without following a link: anyone who may write there could plant one.

Each name is opened relative to the descriptor of the folder around it (openat), so a folder that is replaced by a link
meanwhile leads nowhere else either.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from runwide.spill.store import PARTIAL, is_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DEEPEST = 32  # folders between root and object; a job has four, and deletions hold all of them open
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_FOLDERS = getattr(os, "O_DIRECTORY", 0)
_RELATIVE = bool(_NO_LINKS and _FOLDERS and os.open in os.supports_dir_fd)
"""Whether a file is opened relative to a folder's descriptor. Elsewhere, as on Windows, names are looked at first."""
_ROOT = getattr(os, "O_PATH", os.O_RDONLY) | _FOLDERS  # what may only be searched can be walked through, too
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
"""How a new file is opened."""

_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT

Folder: TypeAlias = "int | str"
"""A folder that was opened: its descriptor, or its path where `_RELATIVE` is not so."""

_NO_FILE = (
    errno.ELOOP,
    errno.ENXIO,
    errno.ENODEV,
    errno.EOPNOTSUPP,
)  # a link; a socket, or a device without a driver
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class Misplaced(Exception):
    """Something else has the name of a folder or a file.

    Args:
        kind: What it is, in words.
        wanted: What it should be.
        path: Where it is.
    """

    def __init__(self, kind: str, wanted: str, path: str) -> None:
        super().__init__(f"this is {kind}, not {wanted}")
        self.path = path
        self.is_link = kind == _KINDS[stat.S_IFLNK]


def open_in(folder: Folder, name: str, flags: int) -> int:
    """Open a file of a folder; a new one may be read and written by all, as far as the umask lets them."""
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
        # A junction of Windows is a folder by its mode, and leads elsewhere as a link does.
        return stat.S_IFLNK if getattr(found, "st_reparse_tag", 0) == _JUNCTION else found.st_mode
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode


def _joined(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 - text, as os takes it


@contextmanager
def chain(root: str, names: Sequence[str], *, make: bool = False) -> Iterator[list[Folder]]:
    """Open a root and folders below it, each in the one before.

    Args:
        root: A path, which may be a link or lie behind links.
        names: The names of the folders.
        make: Make those that are not there.

    Returns:
        They, the root first, until the block is left.

    Raises:
        Misplaced: One of them is something else.
        FileNotFoundError: One is not there, or was removed while it was being opened.
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
    """Open a file for reading.

    Args:
        name: Its name.
        folder: Its folder.
        path: Where that is, for the error.

    Returns:
        Its descriptor, until the block is left, and its size.

    Raises:
        Misplaced: It is no regular file. A pipe without a writer, which would block, is opened and closed.
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
"""Name, size, and when it was written."""


def files(root: str, inside: Sequence[str], prefix: str) -> Iterator[Entry]:
    """Names, sizes and times of the regular files below a folder whose names start with ``prefix``, in the order of names.

    No descriptor is open while a caller looks at one. What cannot be opened, is too deep or has a name that no object may
    have is left out.

    Args:
        root: As for `chain`.
        inside: Names of the folders that lead from the root to the folder.
        prefix: Relative to the folder.
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
    """Names of the folders directly below a folder that start with ``prefix``, in their order, whatever is in them.

    Args:
        root: As for `files`.
        inside: As for `files`.
        prefix: As for `files`, without a slash.
    """
    found = (name for name, _, _ in _listed(root, inside, "") if name.endswith("/"))
    return (name[:-1] for name in found if name.startswith(prefix))


def _listed(root: str, inside: Sequence[str], base: str) -> Iterator[Entry]:
    """The files of a folder, and its folders with a slash behind their names, which puts all in the order of a listing."""
    found: list[Entry] = []
    with suppress(OSError, Misplaced), chain(root, [*inside, *base.split("/")[:-1]]) as opened:
        for entry in _entries(opened[-1]):
            if not is_name(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                found.append((f"{entry.name}/", 0, 0.0))
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted since
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
    """Remove from a folder everything that `files` leaves out, and folders that are empty then, itself included.

    Folders that are too deep to be walked into are moved up first: each step of the walk opens a folder from the root.

    Args:
        root: As for `chain`.
        names: Names of the folders that lead from the root to the folder.
    """
    found = [tuple(names)]
    for path in found:  # which grows
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
        with suppress(OSError, Misplaced), chain(root, above) as opened:  # what is not empty stays
            rmdir(opened[-1], name)
