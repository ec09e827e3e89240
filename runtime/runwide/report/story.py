"""What a report is made of: attempts, runs, and the job that they are of."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runwide.job.ran import Ran
from runwide.sums import WorkerSums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide.job import events
    from runwide.records import Failure


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a task, as it was written; see `runwide.records.TaskEvent`. Or at a few that were timed together.

    Args:
        name: ``task.ended``, ``task.retried`` or ``task.failed``.
        time: When it ended.
        started: When it started.
        queued: When it was sent to the worker.
        seconds: Its wall time.
        item: Index of the item in the whole job.
        shard: Where.
        worker: On which worker there.
        attempt: 1 for the first.
        cpu_seconds: CPU time.
        peak_rss: Highest memory of the worker until then.
        bytes: Of the result.
        kind: Why it failed, empty where it did not.
        detail: The same in one line.
        count: How many tasks it stands for, from ``item`` on.
    """

    name: str
    time: float
    started: float
    queued: float
    seconds: float
    item: int
    shard: int
    worker: int
    attempt: int
    cpu_seconds: float
    peak_rss: int
    bytes: int
    kind: str
    detail: str
    count: int = 1

    @property
    def each(self) -> float:
        """Wall time of one of them."""
        return self.seconds / self.count

    @property
    def killed(self) -> bool:
        """Whether its worker died or was stopped."""
        return self.kind in ("crash", "out-of-memory", "timeout")


@dataclass(slots=True)
class RunLog:
    """What one run wrote, all its parts together.

    Args:
        run: What it said of itself.
        ended: When it ended; None for one that was killed.
        sums: What each worker did, exactly.
        attempts: The attempts that were written one by one.
        objects: The operations on the store.
        memory: Bytes in use in its container, with the time of each sample.
    """

    run: events.Run
    ended: float | None = None
    sums: dict[int, WorkerSums] = field(default_factory=lambda: defaultdict(WorkerSums))
    attempts: list[Attempt] = field(default_factory=list)
    objects: list[events.ObjectEvent] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def last(self) -> float:
        """When the last of its tasks ended."""
        return max((row.last for row in self.sums.values()), default=self.run.started)

    @property
    def end(self) -> float:
        """When it ended, or was last heard of."""
        return max(self.ended or 0.0, self.last, self.run.started)

    @property
    def workers(self) -> int:
        """Number of workers."""
        return max(int(self.run.host.get("workers") or 0), len(self.sums), 1)


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of a job.

    Args:
        title: Its id, or a name.
        function: Name of the function.
        items: Number of items.
        shards: Number of shards.
        finished: Number of shards that have finished.
        runs: What was written, by shard and time.
        failures: The items that failed for good, with tracebacks, of the shards that have finished.
        uri: Where the job is, empty for a map.
        reference: The job's reference, empty for a map.
        ran: Where its shards ran, as far as it is known.
        created: When the job was made, empty where that is not known.
        environment: Versions that made it.
        unreadable: Number of lines that made no sense.
    """

    title: str
    function: str
    items: int
    shards: int
    finished: int
    runs: tuple[RunLog, ...]
    failures: tuple[Failure, ...] = ()
    uri: str = ""
    reference: str = ""
    ran: Ran = Ran()  # noqa: RUF009 - frozen
    created: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    unreadable: int = 0


def last_attempts(runs: Iterable[RunLog]) -> dict[int, Attempt]:
    """How each item ended last, of those that are written one by one."""
    last: dict[int, Attempt] = {}
    for log in runs:
        for attempt in log.attempts:
            before = last.get(attempt.item)
            if before is None or attempt.time >= before.time:
                last[attempt.item] = attempt
    return last
