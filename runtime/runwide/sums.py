"""What the attempts of one worker add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.records import ENDED, FAILED, RETRIED

if TYPE_CHECKING:
    from runwide.records import TaskBatch, TaskEvent


@dataclass(slots=True)
class WorkerSums:
    """What one worker of a run did, exactly.

    Args:
        ended: Attempts that gave a value.
        retried: Attempts that failed and were followed by another.
        failed: Attempts that failed for good.
        seconds: Wall time of attempts that gave a value.
        wasted: Wall time of the others.
        cpu_seconds: CPU time of all.
        bytes: Bytes of results.
        first: Start of the first attempt, Unix time in seconds.
        last: End of the last attempt, likewise.
        peak_rss: Highest resident memory in bytes.
    """

    ended: int = 0
    retried: int = 0
    failed: int = 0
    seconds: float = 0.0
    wasted: float = 0.0
    cpu_seconds: float = 0.0
    bytes: int = 0
    first: float = float("inf")
    last: float = 0.0
    peak_rss: int = 0

    def add(self, event: TaskEvent) -> None:
        """Count one attempt."""
        if event.name == ENDED:
            self.ended += 1
            self.seconds += event.seconds
        else:
            self.retried += event.name == RETRIED
            self.failed += event.name == FAILED
            self.wasted += event.seconds
        self.cpu_seconds += event.cpu_seconds
        self.bytes += event.bytes
        self.first = min(self.first, event.started)
        self.last = max(self.last, event.time)
        self.peak_rss = max(self.peak_rss, event.peak_rss)

    def add_batch(self, batch: TaskBatch) -> None:
        """Count tasks that have all ended with a value."""
        self.ended += batch.tasks
        self.seconds += sum(batch.ends) - sum(batch.starts)
        self.cpu_seconds += sum(batch.cpu_seconds)
        self.bytes += sum(batch.sizes)
        self.first = min(self.first, batch.starts[0])
        self.last = max(self.last, batch.ends[-1])
        self.peak_rss = max(self.peak_rss, batch.peak_rss)

    def merge(self, other: WorkerSums) -> None:
        """Add what the same worker did in another part."""
        for name in ("ended", "retried", "failed", "seconds", "wasted", "cpu_seconds", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)
        self.peak_rss = max(self.peak_rss, other.peak_rss)
