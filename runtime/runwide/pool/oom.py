"""Whom the kernel takes first where memory runs out: workers, and not the pool that knows what became of the others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_SCORE = 500  # thousandths of the limit: more than a pool ever needs


def offer_first(pid: int) -> None:
    """Have the kernel's OOM killer take a process before this one, from the moment that it was started.

    The process itself could do so only once its interpreter is up. Meanwhile the kernel, which kills again while what it
    has killed is still being freed, would find nobody but the pool.

    Args:
        pid: The process, a child of this one.
    """
    with suppress(OSError, ValueError):  # it has ended, or /proc is not what it should be
        ours = int(Path("/proc/self/oom_score_adj").read_text())
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(1000, ours + _SCORE)))
