"""Facts about a machine without ``/proc`` and ``/sys``, such as a Mac, from psutil or pgrep.

runwide installs psutil on macOS, and uses it on other systems if it is installed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

_SECONDS = 10.0  # that a command may take


def physical_cores() -> int | None:
    """Return the number of physical cores; None if unknown."""
    found: int | None = _from_psutil(lambda psutil: psutil.cpu_count(logical=False))
    return found or None


def total_and_available() -> tuple[int | None, int | None]:
    """Return the total and the available memory of the machine in bytes; None if unknown."""
    found = _from_psutil(lambda psutil: psutil.virtual_memory())
    return (None, None) if found is None else (found.total, found.available)


def resident(pid: int) -> int | None:
    """Return the resident memory of a process in bytes, with shared pages; None if unknown.

    Example:
        >>> resident(2**30) is None
        True
    """
    found: int | None = _from_psutil(lambda psutil: psutil.Process(pid).memory_info().rss)
    return found


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children; empty if unknown.

    Example:
        >>> children(2**30)
        []
    """
    found = _from_psutil(lambda psutil: [child.pid for child in psutil.Process(pid).children()])
    return _from_pgrep(pid) if found is None else found


def _from_psutil(question: Any) -> Any:
    """Return the answer of psutil; None if it fails or is not installed."""
    with suppress(Exception):  # errors of psutil and of the system
        import psutil

        return question(psutil)
    return None


def _from_pgrep(pid: int) -> list[int]:
    import subprocess  # slow to load

    with suppress(OSError, subprocess.SubprocessError):  # pgrep is missing, or cannot be started
        words = ["pgrep", "-P", str(pid)]
        # It exits with 1 if there are no children; if this program ignores SIGCHLD, its exit status is lost.
        found = subprocess.run(words, capture_output=True, check=False, timeout=_SECONDS).stdout
        return [int(child) for child in found.split()]
    return []
