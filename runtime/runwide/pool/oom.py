"""Make the OOM killer choose a worker before the pool."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_SCORE = 500  # thousandths of the limit; a pool never needs as much


def offer_first(pid: int) -> None:
    """Make the OOM killer choose a process before this one, from its start on.

    The process itself could do so only when its interpreter is up. The kernel may kill again while it still frees the
    memory of its first victim, and would then choose the pool.

    Args:
        pid: The process, a child of this one.
    """
    with suppress(OSError, ValueError):  # it has ended, or /proc is incomplete
        ours = int(Path("/proc/self/oom_score_adj").read_text())
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(1000, ours + _SCORE)))
