"""The directories for temporary files and large payloads, and their free space."""

from __future__ import annotations

from dataclasses import dataclass

from runwide import settings

SHARED = "/dev/shm"  # noqa: S108 - the kernel's shared memory, not a guessable temporary file


@dataclass(frozen=True, slots=True)
class Space:
    """A file system at a path.

    Args:
        total: Its size in bytes.
        free: Bytes that this user may still write.
        writable: Whether a file could be made there now.
        reason: The error if not.
    """

    path: str
    total: int
    free: int
    writable: bool
    reason: str = ""


def measure(path: str) -> Space:
    """Measure the size of a directory's file system, and try to make a file there.

    Example:
        >>> measure("/no/such/directory").reason
        'No such file or directory'
    """
    import shutil  # slow to load, like the next
    import tempfile

    try:
        found = shutil.disk_usage(path)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"runwide")
            file.flush()
    except OSError as error:
        return Space(path, 0, 0, writable=False, reason=error.strerror or type(error).__name__)
    return Space(path, found.total, found.free, writable=True)


def temporary() -> str:
    """Return the directory for temporary files: the system's, else the kernel's shared memory.

    A container with a read-only file system may have no other directory to write to. If that cannot be written either,
    making a file there raises the error.
    """
    import tempfile  # slow to load

    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return SHARED


def scratch() -> str:
    """Return the directory for large payloads: ``RUNWIDE_SCRATCH``, or else the one for temporary files."""
    return settings.read().scratch or temporary()
