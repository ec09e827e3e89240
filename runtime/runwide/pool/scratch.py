"""Files for large payloads between two processes. A cleaner may remove their directories, and a disk may be full."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import ScratchError, ScratchFull
from runwide.pool import folders

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runwide.pool.folders import Span

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - not a predictable name: a private directory is made below it
_SHM_SPARE = 8 << 20  # left free in /dev/shm, since other programs of the container use it too
_FULL = (errno.ENOSPC, errno.EDQUOT)

_HINTS = {
    errno.ENOENT: "a cleaner of temporary files has removed it: set RUNWIDE_SCRATCH to a directory that none cleans",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or pass references instead of data",
    errno.EMFILE: "close files, or raise the limit on their number (ulimit -n)",
    errno.ENFILE: "close files: the machine has no more descriptors",
}


_in_memory: dict[str, int] = {}


class Scratch:
    """Directories for large payloads, private to one pool: in shared memory while it has room, otherwise on disk.

    A directory that has vanished is made again.

    Args:
        directories: Candidates in order of preference.
        tag: Start of the names of files made here, so that the files of a dead worker can be found.
    """

    __slots__ = ("_serial", "directories", "tag")

    def __init__(
        self, directories: tuple[str, ...], tag: str = "pool", *, serial: count[int] | None = None
    ) -> None:
        for directory in directories:
            folders.know(directory)
        self.directories = directories
        self.tag = tag
        self._serial = serial or count()

    @classmethod
    def create(cls, *roots: str) -> Scratch:
        """Make the directories of a new pool, and sweep those of pools whose process is gone.

        Args:
            *roots: Directories in which to make one each, in order of preference; unwritable ones are skipped.

        Raises:
            ScratchError: None can be written. A full one is accepted, since small values need no room.
        """
        made: list[str] = []
        refused: dict[str, OSError] = {}
        try:
            for root in roots:
                try:
                    made.append(folders.make(root))
                except OSError as error:
                    refused[root] = error.with_traceback(None)
            if not made:
                made.append(_made_later(refused))
            return cls(tuple(made))
        except BaseException:  # Ctrl-C
            cls(tuple(made)).remove()
            raise

    def tagged(self, tag: str) -> Scratch:
        """Return the same directories with another start of names."""
        # One counter, so that no name is used twice.
        return Scratch(self.directories, tag, serial=self._serial)

    def write(self, parts: Sequence[bytes | memoryview]) -> tuple[str, list[Span]]:
        """Write buffers to a new file, and return its path and the ``(offset, length)`` of each.

        Raises:
            ScratchFull: No directory has room; one may have room later.
            ScratchError: The file cannot be written in any directory, for another reason.
        """
        spans, total = folders.layout([memoryview(part).nbytes for part in parts])
        full, failed = False, None
        for directory in self.directories:
            path = f"{directory}/{self.tag}-{next(self._serial)}"
            try:
                folders.hold(directory)
                if directory.startswith(SHARED_MEMORY) and not _has_room(directory, total):
                    full = True
                    continue
                _write_in(directory, path, parts, spans)
            except OSError as error:
                full = full or error.errno in _FULL
                if error.errno not in _FULL:
                    failed = error.with_traceback(None)  # its frames would keep the buffers
            else:
                return path, spans
        if failed is not None and not full:
            raise error_of(failed, f"a payload of {total:,} bytes cannot be written", self.directories[-1])
        also = f"; elsewhere: {failed.strerror}" if failed is not None else ""
        raise ScratchFull(
            f"no room for a payload of {total:,} bytes{also}",
            uri=self.directories[-1],
            hint="set RUNWIDE_SCRATCH to a larger disk, or pass references instead of data",
        )

    def make(self, name: str, size: int) -> tuple[str, int]:
        """Make a small file of zeros, on disk if possible, otherwise in memory.

        The file has all its blocks: if it had none and the disk were full, touching its pages would end the process.

        Returns:
            Its path, and a descriptor, since the file may be removed or replaced at any time.
        """
        failed = OSError()
        for directory in reversed(self.directories):
            path = f"{directory}/{name}"
            try:
                folders.hold(directory)
                return path, folders.zeros(path, size)
            except OSError as error:
                failed = error
        try:
            return _made_in_memory(name, size)
        except (OSError, AttributeError):  # no descriptors; or not Linux
            raise error_of(
                failed, f"a file of {size} bytes cannot be written", self.directories[0]
            ) from failed

    def has_room(self, size: int) -> bool:
        """Return whether this many bytes might be written now."""
        return any(_has_room(directory, size) for directory in self.directories)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Let one process at a time look for room; yield False while another one does.

        If several processes wrote at once where one result fits, each would take the room of the others.
        """
        with ExitStack() as stack:
            mine = True
            try:
                # Not the lock of the directory, which marks it as used.
                descriptor = os.open(
                    f"{self.directories[0]}/turn", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
                )
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Closing is not enough: if the task has forked meanwhile, the fork has the file open.
                stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
            except BlockingIOError:
                mine = False
            except OSError:  # no locks here, or no more descriptors: then all try, which loses no result
                pass
            yield mine

    def forget(self, tag: str) -> None:
        """Remove the files of a dead worker, and those that it had not read."""
        for directory in self.directories:
            with suppress(OSError), os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith(f"{tag}-"):
                        remove_file(entry.path)

    def remove(self) -> None:
        """Remove the directories with their contents."""
        for directory in self.directories:
            folders.remove(directory)


class Kept:
    """Files that are read repeatedly while a call runs, and restored if a cleaner removes them."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def add(self, path: str) -> None:
        """Keep a new file. Without a free descriptor, it cannot be restored."""
        with suppress(OSError):
            self._descriptors[path] = os.open(path, os.O_RDONLY)

    def restore(self) -> None:
        """Write missing files again, if possible."""
        for path, descriptor in self._descriptors.items():
            with suppress(OSError):
                if not Path(path).exists():
                    folders.hold(str(Path(path).parent))
                    folders.copy(descriptor, path)

    def remove(self, path: str) -> None:
        """Remove a file."""
        remove_file(path)
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close all descriptors; the files are removed with their directories."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def roots() -> list[str]:
    """Return the directories below which a pool makes its own, the best first."""
    preferred = settings.read().scratch
    if preferred:
        try:
            Path(preferred).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable({preferred: error}) from error
        return [preferred]
    from runwide.host import space  # no worker needs it

    return list(dict.fromkeys((SHARED_MEMORY, space.temporary())))


def open_mapping(path: str | None, *, keep: bool = False) -> memoryview | None:
    """Map a payload file privately and writably; remove its name unless ``keep`` is set."""
    if path is None:
        return None
    try:
        if folders.is_known(directory := path.rpartition("/")[0]):
            folders.hold(directory, made=False)
        descriptor = os.open(path, os.O_RDONLY)
        with folders.closing(descriptor):
            mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # a cleaner may also have emptied it
        raise error_of(error, "a payload cannot be read", path) from error
    finally:
        if not keep:
            remove_file(path)
    return memoryview(mapping)


def remove_file(path: str) -> None:
    """Remove a file, if it exists and can be removed."""
    if path in _in_memory:
        os.close(_in_memory.pop(path))
    else:
        with suppress(OSError):
            Path(path).unlink()


def error_of(cause: OSError | ValueError, what: str, uri: str) -> ScratchError:
    """Return a scratch error with its cause and its place.

    Example:
        >>> str(error_of(OSError(errno.EFBIG, "File too large"), "a payload cannot be written", "/tmp")).partition(";")[0]
        'a payload cannot be written: File too large [/tmp]'
    """
    number = getattr(cause, "errno", None)
    reason = getattr(cause, "strerror", None) or str(cause)
    error = ScratchError(
        f"{what}: {reason}", uri=uri, hint=_HINTS.get(number or 0, "set RUNWIDE_SCRATCH to another disk")
    )
    error.errno = number
    error.__cause__ = cause
    return error


def cut_short(size: int, wanted: int) -> ScratchError:
    """Return the error of a payload file that has lost its end.

    Example:
        >>> cut_short(100, 4096).message
        'a payload cannot be read: its file has 100 bytes of 4,096'
    """
    message = f"a payload cannot be read: its file has {size:,} bytes of {wanted:,}"
    return ScratchError(message, hint=_HINTS[errno.ENOENT].replace("removed", "cut"))


def for_item(error: ScratchError, index: int) -> ScratchError:
    """Return a copy of an error for one item: several items may fail because of one file.

    Example:
        >>> for_item(ScratchError("a payload cannot be read"), 3).item
        3
    """
    raised = type(error)(error.message, item=index, uri=error.uri, hint=error.hint)
    raised.__cause__ = error.__cause__
    return raised


def _unusable(refused: dict[str, OSError]) -> ScratchError:
    """Return the error of a pool without a directory for large payloads."""
    reasons = ", ".join(f"{root}: {error.strerror}" for root, error in refused.items())
    last, cause = refused.popitem()
    error = ScratchError(
        f"no directory for large payloads can be made: {reasons}",
        uri=last,
        hint="set RUNWIDE_SCRATCH to a directory that this program can write",
    )
    error.errno = cause.errno
    error.__cause__ = cause
    return error


def _made_later(refused: dict[str, OSError]) -> str:
    """Return the path of a directory for which there was no room; the next payload tries to make it."""
    for root, error in refused.items():
        if error.errno in _FULL:
            return folders.name(root)
    raise _unusable(refused)


def _made_in_memory(name: str, size: int) -> tuple[str, int]:
    """Make a file that is in no directory. Other processes open it through this one, which holds it until `remove`."""
    with ExitStack() as undone:
        descriptor = os.memfd_create(name)
        undone.callback(os.close, descriptor)
        os.pwrite(descriptor, bytes(size), 0)
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        found = path, os.dup(descriptor)
        _in_memory[path] = descriptor
        undone.pop_all()
    return found


def _write_in(directory: str, path: str, parts: Sequence[bytes | memoryview], spans: Sequence[Span]) -> None:
    """Write a new file completely, or leave none."""
    try:
        try:
            folders.write(path, parts, spans)
        except FileNotFoundError:  # removed just now
            folders.hold(directory)
            folders.write(path, parts, spans)
    except OSError:
        remove_file(path)
        raise


def _has_room(directory: str, size: int) -> bool:
    """Return whether this many bytes might be written. If that is unknown, return True; writing then reports the error."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return True
    spare = _SHM_SPARE if directory.startswith(SHARED_MEMORY) else 0
    return status.f_bavail * status.f_frsize >= size + spare
