"""Files for large payloads between two processes, in directories that a cleaner may remove and a disk may not take."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from runwide.errors import ScratchError, ScratchFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Span = tuple[int, int]
    """Offset and length."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - not a predictable name: a private directory is made below it
_SHM_SPARE = 8 << 20  # left free in /dev/shm, since other programs of the container use it too
_ALIGN = 64  # of buffers in a file: a cache line, and what numpy's vector loops like
_FULL = (errno.ENOSPC, errno.EDQUOT)
_COPIED = 1 << 24  # bytes in one go

_HINTS = {
    errno.ENOENT: "a cleaner of temporary files has removed it: set RUNWIDE_SCRATCH to a directory that none cleans",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or pass references instead of data",
    errno.EMFILE: "close files, or raise the limit on their number (ulimit -n)",
    errno.ENFILE: "close files: the machine has no more descriptors",
}


class Scratch:
    """Directories for large payloads, private to one pool: in shared memory while it has room, else on disk.

    A directory that has vanished is made again.

    Args:
        directories: Candidates in order of preference.
        tag: Start of the names of files made here, so that what a dead worker left can be found.
    """

    __slots__ = ("_serial", "directories", "tag")

    def __init__(
        self, directories: tuple[str, ...], tag: str = "pool", *, serial: count[int] | None = None
    ) -> None:
        self.directories = directories
        self.tag = tag
        self._serial = serial or count()

    @classmethod
    def create(cls, *roots: str) -> Scratch:
        """Make the directories of a new pool, and sweep those of pools whose process is gone.

        Args:
            *roots: Where to make one each, in order of preference; those that cannot be written are left out.

        Raises:
            ScratchFull: None can be written.
        """
        made: list[str] = []
        try:
            for root in roots:
                if os.access(root, os.W_OK):
                    _sweep(root)
                    # Known before it is there, for Ctrl-C; nobody else has that name.
                    made.append(f"{Path(root).absolute()}/runwide-{os.getpid()}-{os.urandom(8).hex()}")
                    try:
                        Path(made[-1]).mkdir(0o700)
                    except OSError:
                        made.pop()
            if not made:
                raise ScratchFull(  # noqa: TRY301 - Ctrl-C may come at any line, so all of them are inside
                    "no directory for large payloads is writable", uri=roots[-1], hint="set RUNWIDE_SCRATCH"
                )
            return cls(tuple(made))
        except BaseException:  # Ctrl-C
            cls(tuple(made)).remove()
            raise

    def tagged(self, tag: str) -> Scratch:
        """The same directories with another start of names."""
        return Scratch(self.directories, tag, serial=self._serial)  # one count, so that no name comes twice

    def write(self, parts: Sequence[bytes | memoryview]) -> tuple[str, list[Span]]:
        """Write buffers to a new file; returns its path and the ``(offset, length)`` of each.

        Raises:
            ScratchFull: None of the directories has room; one may have some later.
            ScratchError: None of them takes the file, for another reason.
        """
        spans, total = _layout([memoryview(part).nbytes for part in parts])
        full, failed = False, None
        for directory in self.directories:
            if not _has_room(directory, total) and directory.startswith(SHARED_MEMORY):
                full = True
                continue
            path = f"{directory}/{self.tag}-{next(self._serial)}"
            try:
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

    def make(self, name: str, size: int) -> str:
        """Make a small file of zeros, on disk if it can be; returns its path.

        Its blocks are there: touching the pages of a file without, when the disk is full, would end the process.

        Raises:
            ScratchError: None of the directories takes it.
        """
        failed = OSError()
        for directory in reversed(self.directories):
            path = f"{directory}/{name}"
            try:
                _write_in(directory, path, [bytes(size)], [(0, size)])
            except OSError as error:
                failed = error
            else:
                return path
        raise error_of(failed, f"a file of {size} bytes cannot be written", self.directories[0])

    def has_room(self, size: int) -> bool:
        """Whether so many bytes might be written now."""
        return any(_has_room(directory, size) for directory in self.directories)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Be the only process that tries whether there is room; False while another one does.

        Of several that write at once, where one would fit, each takes what the others need, and none is ever done.
        """
        with ExitStack() as stack:
            mine = True
            try:
                descriptor = os.open(self.directories[0], os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Closing is not enough: where the task has forked meanwhile, the fork has it open.
                stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
            except BlockingIOError:
                mine = False
            except OSError:  # no locks here, or no more descriptors: all try, and no result is lost by it
                pass
            yield mine

    def forget(self, tag: str) -> None:
        """Remove what a dead worker left, and what it had not fetched."""
        for directory in self.directories:
            for path in Path(directory).glob(f"{tag}-*"):
                remove(path)

    def remove(self) -> None:
        """Remove the directories with all that is in them."""
        for directory in self.directories:
            _remove_tree(directory)


class Kept:
    """Files that are read again and again as long as a call runs, restored where a cleaner removes one."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def add(self, path: str) -> None:
        """Keep a file that was written just now; without a free descriptor it is not restored."""
        with suppress(OSError):
            self._descriptors[path] = os.open(path, os.O_RDONLY)

    def restore(self) -> None:
        """Write those again that are gone, as far as they can be written."""
        for path, descriptor in self._descriptors.items():
            if not Path(path).exists():
                with suppress(OSError):
                    _made_again(str(Path(path).parent))
                    _copy(descriptor, path)

    def remove(self, path: str) -> None:
        """Remove a file."""
        remove(path)
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of all; the files are removed with their directories."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def open_mapping(path: str | None, *, keep: bool = False) -> memoryview | None:
    """Map a payload file privately and writably, and remove its name unless told to keep it.

    Raises:
        ScratchError: It cannot be read.
    """
    if path is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
        with _closing(descriptor):
            mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # a cleaner may also have emptied it
        raise error_of(error, "a payload cannot be read", path) from error
    finally:
        if not keep:
            remove(path)
    return memoryview(mapping)


def remove(path: str | Path) -> None:
    """Remove a file, if it is there and can be removed."""
    with suppress(OSError):
        Path(path).unlink()


def error_of(cause: OSError | ValueError, what: str, uri: str) -> ScratchError:
    """The error of scratch that names its cause and its place.

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


def for_item(error: ScratchError, index: int) -> ScratchError:
    """The same error as that of an item: several items may fail by one file.

    Example:
        >>> for_item(ScratchError("a payload cannot be read"), 3).item
        3
    """
    raised = type(error)(error.message, item=index, uri=error.uri, hint=error.hint)
    raised.__cause__ = error.__cause__
    return raised


def _layout(sizes: list[int]) -> tuple[list[Span], int]:
    spans, offset = [], 0
    for size in sizes:
        spans.append((offset, size))
        offset = -(-(offset + size) // _ALIGN) * _ALIGN
    return spans, max(offset, 1)


def _write_in(directory: str, path: str, parts: Sequence[bytes | memoryview], spans: Sequence[Span]) -> None:
    """Write a new file whole, or leave none."""
    try:
        try:
            _write_at(path, parts, spans)
        except FileNotFoundError:
            _made_again(directory)
            _write_at(path, parts, spans)
    except OSError:
        remove(path)
        raise


def _write_at(path: str, parts: Sequence[bytes | memoryview], spans: Sequence[Span]) -> None:
    # write() and not a shared mapping: a full disk is then an error, not a SIGBUS.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with _closing(descriptor):
        for part, (offset, length) in zip(parts, spans, strict=True):
            view = memoryview(part).cast("B")
            written = 0
            while written < length:
                written += os.pwrite(descriptor, view[written:], offset + written)


def _copy(source: int, path: str) -> None:
    """Make a file whole before it has its name."""
    size, offset, part = os.fstat(source).st_size, 0, f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with _closing(descriptor):
            while offset < size:
                # Not sendfile, which writes to sockets alone on macOS.
                offset += os.pwrite(descriptor, os.pread(source, min(_COPIED, size - offset), offset), offset)
        Path(part).rename(path)
    except OSError:
        remove(part)
        raise


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _made_again(directory: str) -> None:
    """Make a directory that has vanished; nobody else's may be in its place, since what lies there is unpickled."""
    with suppress(FileExistsError):
        Path(directory).mkdir(0o700, parents=True)
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the directory is not this program's any more", directory)


def _has_room(directory: str, size: int) -> bool:
    """Whether so many bytes might be written; so it may be where nothing says, and writing tells what is wrong."""
    try:
        if not Path(directory).exists():
            _made_again(directory)
        status = os.statvfs(directory)
    except OSError:
        return True
    spare = _SHM_SPARE if directory.startswith(SHARED_MEMORY) else 0
    return status.f_bavail * status.f_frsize >= size + spare


def _sweep(root: str) -> None:
    # It may be writable and not readable, and what is in it may go meanwhile.
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            name, *rest = entry.name.split("-")
            if (
                name == "runwide"
                and len(rest) > 1
                and rest[0].isdigit()
                and not Path("/proc", rest[0]).exists()
            ):
                _remove_tree(entry.path)


def _remove_tree(path: str | Path) -> None:
    import shutil  # slow to load

    shutil.rmtree(path, ignore_errors=True)
