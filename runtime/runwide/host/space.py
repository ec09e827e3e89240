"""Where large payloads can lie between processes, and how much room there is."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass

from runwide import settings

SHARED = "/dev/shm"  # noqa: S108 - the kernel's shared memory, not a guessable temporary file


@dataclass(frozen=True, slots=True)
class Space:
    """A file system at a path.

    Args:
        path: The directory.
        total: Its size in bytes.
        free: Bytes that this user may still write.
        writable: Whether a file could be made there just now.
        reason: Why not, where it could not.
    """

    path: str
    total: int
    free: int
    writable: bool
    reason: str = ""


def read(path: str) -> Space:
    """Look at a directory, and make and remove a file in it.

    Example:
        >>> read("/no/such/directory").reason
        'No such file or directory'
    """
    try:
        found = shutil.disk_usage(path)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"runwide")
            file.flush()
    except OSError as error:
        return Space(path, 0, 0, writable=False, reason=error.strerror or type(error).__name__)
    return Space(path, found.total, found.free, writable=True)


def scratch() -> str:
    """The directory for large payloads: ``RUNWIDE_SCRATCH``, else the system's temporary directory.

    Example:
        >>> from pathlib import Path
        >>> Path(scratch()).is_dir()
        True
    """
    return settings.read().scratch or tempfile.gettempdir()
