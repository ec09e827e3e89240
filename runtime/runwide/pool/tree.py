"""Find the descendants of a process, and kill them so that none escapes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def kill_tree(pid: int, *, rests: bool = False) -> None:
    """Send SIGKILL to a process and its descendants. Each is stopped briefly before, so that none escapes by forking.

    The stop is brief, and an idle process is not stopped: it would stay stopped if this process were killed meanwhile.

    Args:
        pid: The process.
        rests: Whether it is idle, and starts no other processes now.
    """
    below = children(pid)
    if not rests:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        below = _still_below(pid, below)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_tree(child)


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children; none if they cannot be read, as without a free descriptor.

    Example:
        >>> import subprocess
        >>> with subprocess.Popen(["sleep", "60"]) as process:
        ...     found = children(os.getpid())
        ...     process.kill()
        >>> process.pid in found
        True
    """
    try:
        listed = _listed()
    except OSError:
        return []
    return _children_elsewhere(pid) if listed is None else [one for one in listed if _parent(one) == pid]


def _listed() -> list[int] | None:
    """Return all processes from /proc; None if it lists none, as on a Mac.

    Raises:
        OSError: /proc cannot be read now.
    """
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - names are wanted
    except FileNotFoundError:
        return None
    return [int(name) for name in names if name.isdigit()] or None


def _still_below(pid: int, before: list[int]) -> list[int]:
    """Return the children of a stopped process, some of which were known before."""
    found: list[int] = []
    try:
        # The kernel's own list is fast, but may miss a child while another one ends.
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:  # a kernel without such lists; or the process is gone
        return children(pid)
    return [child for child in dict.fromkeys(before + found) if _parent(child) == pid]


def _parent(pid: int) -> int | None:
    try:
        # The command, in parentheses, may itself contain spaces and parentheses.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):  # it has ended
        return None


def _children_elsewhere(pid: int) -> list[int]:
    from runwide.host import elsewhere  # which no worker on Linux loads

    return elsewhere.children(pid)
