"""The processes below a process, as the kernel lists them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def kill_tree(pid: int, *, rests: bool = False) -> None:
    """SIGKILL a process and its descendants, each stopped for a moment before so that none escapes by forking.

    It is a short moment, and none for a process that rests: one that stands still would do so for ever if this process
    were killed meanwhile.

    Args:
        pid: The process.
        rests: Whether it starts no others now.
    """
    below = children(pid)
    if not rests:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        below = [child for child in dict.fromkeys(below + _children_now(pid)) if _parent(child) == pid]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_tree(child)


def children(pid: int) -> list[int]:
    """Process ids of the direct children, from /proc; none where that cannot be read, as without a free descriptor."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - names are wanted
    except OSError:
        return []
    return [child for child in map(int, filter(str.isdigit, names)) if _parent(child) == pid]


def _children_now(pid: int) -> list[int]:
    """The same from where the kernel lists them, which takes no time, but may miss one while another one ends."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:  # a kernel without such lists; or the process is gone
        return children(pid)
    return found


def _parent(pid: int) -> int | None:
    try:
        # the command, in parentheses, may itself contain spaces and parentheses
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):  # it has ended
        return None
