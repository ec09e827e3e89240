"""Directories and files for the payloads of one pool.

A process that uses a directory holds a shared ``flock`` on the directory itself. The kernel releases the lock with the
process, however it ends. All PID namespaces see it, and there is no lock file that a cleaner could remove. Sweeping takes
the exclusive lock. A directory that is swept between its making and its lock is made again before it is used.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import threading
import time
import zlib
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Span = tuple[int, int]
    """Offset and length of a buffer in a file."""

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NAME = re.compile("runwide-[0-9]+-([0-9a-f]{8})-[0-9a-f]{16}")
_UNLOCKED = "unlocked"  # instead of the machine's mark
_TRIES, _PAUSE = 20, 0.005  # a new directory is empty, and swept in less than a millisecond

_guard = threading.RLock()  # reentrant, since a finalizer may run inside
_held: dict[str, tuple[int, os.stat_result]] = {}
_owners: dict[str, int] = {}


def make(root: str) -> str:
    """Make a directory of this process below another one, sweep those of dead processes there, and return its path."""
    _sweep(root)
    path = name(root)
    try:
        Path(path).mkdir(0o700)
        know(path)
        return path if hold(path) else _never_swept(path)
    except BaseException:  # Ctrl-C
        remove(path)
        raise


def name(root: str, mark: str = "") -> str:
    """Return the path of a new directory. The process id in it is for people, and decides nothing.

    Args:
        mark: A word to write instead of the mark of this machine.

    Raises:
        OSError: The path is relative, and the working directory was removed.
    """
    return f"{Path(root).absolute()}/runwide-{os.getpid()}-{mark or _machine()}-{os.urandom(8).hex()}"


def know(path: str) -> None:
    """Remember the owner of a directory. To find another owner there later is an error.

    On a network disk the owner may differ from the user of the process that made the directory.
    """
    if path not in _owners:
        with suppress(OSError):
            _owners[path] = os.lstat(path).st_uid


def is_known(path: str) -> bool:
    """Return whether this process uses a directory."""
    return path in _owners


def hold(path: str, *, made: bool = True) -> bool:
    """Make sure that a directory exists, belongs to this program and is locked.

    Returns:
        Whether it is locked. It is not if no descriptor is free, or if the file system has no locks.

    Raises:
        OSError: It cannot be made, or something else has its name. Its files are unpickled, so it must be the user's own.
    """
    with _guard:
        for _ in range(_TRIES):
            try:
                found = _found(path, made=made)
            except FileNotFoundError:
                if not made:
                    raise
                continue  # it was swept as soon as it was made
            if path in _held and os.path.samestat(_held[path][1], found):
                return True
            _let_go(path)
            try:
                _held[path] = _locked(path)
            except (BlockingIOError, FileNotFoundError):  # it is being swept, or was
                time.sleep(_PAUSE)
            except OSError:
                return False
            else:
                return True
    return False


def remove(path: str) -> None:
    """Unlock a directory, and remove it with its contents, if it exists."""
    with _guard:
        _let_go(path)
        owner = _owners.pop(path, os.geteuid())
    with suppress(OSError), ExitStack() as stack:
        descriptor = _opened(path, stack)
        if os.fstat(descriptor).st_uid == owner:
            _remove(path, descriptor)


def _found(path: str, *, made: bool) -> os.stat_result:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if not made:
            raise
        found = _made(path)
    theirs = found.st_uid != _owners.get(path, os.geteuid())
    if stat.S_ISLNK(found.st_mode) or (theirs and stat.S_ISDIR(found.st_mode)):
        raise PermissionError(errno.EPERM, "the directory does not belong to this program any more", path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return found


def _made(path: str) -> os.stat_result:
    try:
        Path(path).mkdir(0o700, parents=True)
    except FileExistsError:
        return os.lstat(path)
    found = os.lstat(path)
    _owners[path] = found.st_uid
    return found


def _locked(path: str) -> tuple[int, os.stat_result]:
    """Lock a directory for use; return the descriptor that has the lock, and its status."""
    descriptor = os.open(path, _FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return descriptor, _same(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _let_go(path: str) -> None:
    """Unlock a directory."""
    if path in _held:
        descriptor, locked = _held[path]
        # A program may have closed all descriptors, and have opened others of these numbers.
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), locked):
                os.close(_held.pop(path)[0])
        _held.pop(path, None)


def _same(path: str, descriptor: int) -> os.stat_result:
    """Return the status of an open directory; raise ``FileNotFoundError`` if it has lost its name."""
    found = os.fstat(descriptor)
    if not os.path.samestat(found, os.lstat(path)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return found


def _never_swept(path: str) -> str:
    """Mark a directory that could not be locked: another process may be able to lock it."""
    with _guard:
        _owners.pop(path, None)
    return str(Path(path).rename(name(str(Path(path).parent), _UNLOCKED)))


@cache
def _machine() -> str:
    """Return a mark of this machine since its last start, the same in all containers.

    Machines that share a network disk may not see each other's locks.
    """
    try:
        booted = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        booted = socket.gethostname()
    return f"{zlib.crc32(booted.encode()):08x}"


def _sweep(root: str) -> None:
    # The root may be writable and not readable, and its entries may vanish meanwhile.
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if (match := _NAME.fullmatch(entry.name)) is not None:
                with suppress(OSError):
                    _sweep_one(entry.path, match[1])


def _sweep_one(path: str, machine: str) -> None:
    """Remove a directory; raise ``OSError`` if a process uses it, or if that cannot be found out."""
    with ExitStack() as stack:
        descriptor = _opened(path, stack)
        found = os.fstat(descriptor)
        here = machine == _machine() or predates(found.st_dev, changed=found.st_ctime, started=_started())
        if here and found.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path, descriptor)


def _started() -> float:
    return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def predates(device: int, *, changed: float, started: float) -> bool:
    """Return whether a directory was left on a disk of this machine before its last start.

    Args:
        device: The device of the directory. Network disks have no major number: other machines may use them.
        changed: Time of its last change, in seconds.
        started: Time at which this machine was started, in seconds.

    Example:
        >>> disk, network = os.makedev(8, 1), os.makedev(0, 40)
        >>> predates(disk, changed=10.0, started=20.0), predates(network, changed=10.0, started=20.0)
        (True, False)
    """
    return bool(os.major(device)) and changed < started


def _remove(path: str, descriptor: int) -> None:
    """Empty an open directory, then remove it if it still has its name: another one may have it."""
    for _, folders, files, inside in os.fwalk(".", topdown=False, dir_fd=descriptor):
        for file in files:
            with suppress(OSError):
                os.unlink(file, dir_fd=inside)
        for folder in folders:
            with suppress(OSError):
                os.rmdir(folder, dir_fd=inside)
    _same(path, descriptor)
    Path(path).rmdir()


def _opened(path: str, stack: ExitStack) -> int:
    """Open a directory until a stack is closed."""
    stack.callback(os.close, descriptor := os.open(path, _FLAGS))  # in one line, for Ctrl-C
    return descriptor


def _forget() -> None:
    """Close the copies of the parent's descriptors in a fork; the parent keeps its locks."""
    global _guard  # noqa: PLW0603 - another thread may have held it
    _guard = threading.RLock()
    for path in list(_held):
        _let_go(path)
    _owners.clear()


os.register_at_fork(after_in_child=_forget)


_ALIGN = 64  # alignment of buffers in a file: a cache line, and good for numpy's vector loops
_COPIED = 1 << 24  # bytes of one read


def layout(sizes: list[int]) -> tuple[list[Span], int]:
    """Return the places of buffers of these sizes in a file, and its size.

    Example:
        >>> layout([100, 0, 10])
        ([(0, 100), (128, 0), (128, 10)], 192)
    """
    spans, offset = [], 0
    for size in sizes:
        spans.append((offset, size))
        offset = -(-(offset + size) // _ALIGN) * _ALIGN
    return spans, max(offset, 1)


def write(path: str, parts: Sequence[bytes | memoryview], spans: Sequence[Span]) -> None:
    """Write buffers to a new file."""
    # pwrite() instead of a shared mapping: a full disk is then an error, and not a SIGBUS.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with closing(descriptor):
        for part, (offset, length) in zip(parts, spans, strict=True):
            view = memoryview(part).cast("B")
            written = 0
            while written < length:
                written += os.pwrite(descriptor, view[written:], offset + written)


def zeros(path: str, size: int) -> int:
    """Make a file of zeros without holes, and return a descriptor of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.pwrite(descriptor, bytes(size), 0)
    except OSError:
        os.close(descriptor)
        with suppress(OSError):
            Path(path).unlink()
        raise
    return descriptor


def copy(source: int, path: str) -> None:
    """Copy an open file. The copy is complete before it has its name."""
    size, offset, part = os.fstat(source).st_size, 0, f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with closing(descriptor):
            while offset < size:
                # Not sendfile, which writes only to sockets on macOS.
                offset += os.pwrite(descriptor, os.pread(source, min(_COPIED, size - offset), offset), offset)
        Path(part).rename(path)
    except OSError:
        with suppress(OSError):
            Path(part).unlink()
        raise


@contextmanager
def closing(descriptor: int) -> Iterator[None]:
    """Close a descriptor at the end of the block."""
    try:
        yield
    finally:
        os.close(descriptor)
