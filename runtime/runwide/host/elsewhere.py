"""What psutil, or a command of every Unix, tells of a machine that has no ``/proc`` and ``/sys``: of a Mac.

psutil is installed on macOS with runwide, and used elsewhere if it is there. What it cannot tell is not known.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

_SECONDS = 10.0  # that a command may take


def physical_cores() -> int | None:
    """The physical cores of the machine; None where nothing says.

    Example:
        >>> found = physical_cores()
        >>> found is None or found > 0
        True
    """
    found: int | None = _asked(lambda psutil: psutil.cpu_count(logical=False))
    return found or None


def memory() -> tuple[int | None, int | None]:
    """The memory that the machine has and what of it is available, in bytes; None for what nothing says.

    Example:
        >>> total, available = memory()
        >>> total is None or total >= available > 0
        True
    """
    found = _asked(lambda psutil: psutil.virtual_memory())
    return (None, None) if found is None else (found.total, found.available)


def rss(pid: int) -> int | None:
    """Resident memory of a process in bytes, shared pages included; None where nothing says.

    Example:
        >>> rss(2**30) is None
        True
    """
    found: int | None = _asked(lambda psutil: psutil.Process(pid).memory_info().rss)
    return found


def children(pid: int) -> list[int]:
    """Process ids of the direct children; none where nothing says.

    Example:
        >>> children(2**30)
        []
    """
    found = _asked(lambda psutil: [child.pid for child in psutil.Process(pid).children()])
    return _told_by_pgrep(pid) if found is None else found


def _asked(question: Any) -> Any:
    """What psutil answers; None where it cannot, or is not installed."""
    with suppress(Exception):  # its own, which has no part in the standard library, and those of the system
        import psutil

        return question(psutil)
    return None


def _told_by_pgrep(pid: int) -> list[int]:
    import subprocess  # slow to load

    with suppress(OSError, subprocess.SubprocessError):  # there is none, or no process for it
        words = ["pgrep", "-P", str(pid)]
        # It exits with 1 where there are none, and with what nobody knows where this program ignores SIGCHLD.
        told = subprocess.run(words, capture_output=True, check=False, timeout=_SECONDS).stdout
        return [int(child) for child in told.split()]
    return []
