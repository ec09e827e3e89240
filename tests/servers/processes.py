"""The states of processes on this machine."""

from __future__ import annotations

from pathlib import Path


def state_of(pid: int) -> str:
    """Return the state of a process as one letter, as in ``/proc/[pid]/stat``; X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return state_of(pid) not in "ZX"
