"""The records of events: attempts at tasks and their sums, runs, and operations on a store.

`runwide.events.lines` derives how a record is written from its fields, so a new field needs a declaration here, and a value
where the record is made.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runwide.records import FailureKind

ENDED, RETRIED, FAILED = "task.ended", "task.retried", "task.failed"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One attempt at a task, from the queue to its end.

    One record has all phases: when the task was queued, started and ended, and how it ended. ``kind`` distinguishes an
    exception from the death of a worker.

    Args:
        name: ``task.ended`` with a value; ``task.retried`` if it failed and another attempt follows; ``task.failed`` if it
            failed and no attempt follows.
        time: End of the attempt, Unix time in seconds.
        index: Index of the item, from 0.
        worker: Number of the worker slot, from 0.
        pid: Process id of the worker.
        attempt: Number of the attempt, from 1.
        seconds: Wall time.
        peak_rss: Highest resident memory of the worker so far in bytes; 0 if unknown.
        detail: Cause of a failure, in one line.
        queued: Time at which the task was sent to the worker, Unix time in seconds.
        started: Start of the attempt, Unix time in seconds.
        cpu_seconds: CPU time of the worker's process during the attempt, with its threads but without its child processes;
            0 if the worker died.
        cpu: Number of the CPU on which the worker ran when it sent the result; None if unknown.
        bytes: Size of the result on its way from the worker; 0 for numbers and short texts, and for small tuples, lists and
            dicts of such.
        kind: Cause of a failure; None for a value.
    """

    name: str
    time: float
    index: int
    worker: int
    pid: int
    attempt: int = 1
    seconds: float = 0.0
    peak_rss: int = 0
    detail: str = ""
    queued: float = 0.0
    started: float = 0.0
    cpu_seconds: float = 0.0
    cpu: int | None = None
    bytes: int = 0
    kind: FailureKind | None = None


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """Consecutive tasks that one worker ended with values, at the same attempt: the facts of `TaskEvent` in columns.

    A row of the columns is one measured interval: one task, or several short tasks if no listener needs each.

    Args:
        index: Index of the first item.
        worker: Number of the worker slot, from 0.
        attempt: Number of the attempt, from 1.
        queued: Time at which the tasks were sent to the worker, Unix time in seconds.
        counts: Number of tasks in each row.
        starts: Start of each row, Unix time in seconds.
        ends: End of each row.
        cpu_seconds: CPU time of each row.
        peak_rss: Highest resident memory of the worker so far in bytes; 0 if unknown.
        cpu: Number of the CPU on which the worker ran when it sent the results; None if unknown.
        sizes: Bytes of each result, as in `TaskEvent`; empty if all are 0.
    """

    index: int
    tasks: int
    worker: int
    pid: int
    attempt: int
    queued: float
    counts: array[int]
    starts: array[float]
    ends: array[float]
    cpu_seconds: array[float]
    peak_rss: int = 0
    cpu: int | None = None
    sizes: Sequence[int] = ()

    def part(self, start: int, stop: int) -> TaskBatch:
        """Return some of the tasks, by position; a row that is cut divides its time evenly among its tasks.

        Example:
            >>> row = array("L", [4]), array("d", [1.0]), array("d", [3.0]), array("d", [2.0])
            >>> batch = TaskBatch(7, 4, 0, 1, 1, 0.0, *row)
            >>> part = batch.part(1, 3)
            >>> part.index, part.tasks, part.starts[0], part.ends[0], part.cpu_seconds[0]
            (8, 2, 1.5, 2.5, 1.0)
        """
        if len(self.counts) == self.tasks:
            counts, cpu = self.counts[start:stop], self.cpu_seconds[start:stop]
            starts, ends = self.starts[start:stop], self.ends[start:stop]
        else:
            rows = list(self._cut(start, stop))
            counts = array("L", [row[0] for row in rows])
            starts, ends, cpu = (array("d", [float(row[column]) for row in rows]) for column in (1, 2, 3))
        return replace(
            self, index=self.index + start, tasks=stop - start, counts=counts, starts=starts, ends=ends, cpu_seconds=cpu,
            sizes=self.sizes[start:stop],
        )  # fmt: skip  # two lines are enough

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, float, float, float]]:
        at = 0
        for count, begin, end, spent in self._rows():
            low, high, each = max(start, at), min(stop, at + count), (end - begin) / count
            if low < high:
                number = high - low
                yield number, begin + (low - at) * each, begin + (high - at) * each, spent * number / count
            at += count

    def _rows(self) -> Iterator[tuple[int, float, float, float]]:
        return zip(self.counts, self.starts, self.ends, self.cpu_seconds, strict=True)

    def events(self) -> Iterator[TaskEvent]:
        """Yield one record for each task; the tasks of a row share its time evenly.

        Example:
            >>> row = array("L", [2]), array("d", [1.0]), array("d", [3.0]), array("d", [2.0])
            >>> batch = TaskBatch(7, 2, 0, 1, 1, 0.0, *row)
            >>> [(event.index, event.started, event.seconds) for event in batch.events()]
            [(7, 1.0, 1.0), (8, 2.0, 1.0)]
        """
        position = 0
        for count, begin, end, spent in self._rows():
            each = (end - begin) / count
            for turn in range(count):
                started = begin + turn * each
                yield TaskEvent(
                    ENDED, started + each, self.index + position, self.worker, self.pid, self.attempt, each,
                    self.peak_rss, queued=self.queued, started=started, cpu_seconds=spent / count, cpu=self.cpu,
                    bytes=self.sizes[position] if self.sizes else 0,
                )  # fmt: skip  # three lines are enough
                position += 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at a task as it is read from a log, or several tasks that were timed together; fields as in `TaskEvent`.

    Args:
        name: ``task.ended``, ``task.retried`` or ``task.failed``.
        time: End.
        item: Index of the item in the whole job; the first one, if there are several.
        worker: Number of the worker slot in the shard.
        seconds: Wall time.
        kind: Cause of a failure, as text, since a later version may have other causes; empty for a value.
        detail: Cause of a failure, in one line.
        count: Number of tasks, from ``item`` on.
    """

    name: str
    time: float
    item: int
    worker: int
    shard: int = 0
    attempt: int = 1
    started: float = 0.0
    queued: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss: int = 0
    bytes: int = 0
    kind: str = ""
    detail: str = ""
    count: int = 1

    @property
    def each(self) -> float:
        """Wall time of one task."""
        return self.seconds / self.count

    @property
    def killed(self) -> bool:
        """True if the worker died or was stopped."""
        return self.kind in ("crash", "out-of-memory", "timeout")


@dataclass(slots=True)
class WorkerSums:
    """Exact sums of the attempts of one worker of a run.

    Args:
        ended: Number of attempts that returned a value.
        retried: Number of attempts that failed and were followed by another.
        failed: Number of attempts that failed and were not followed by another.
        seconds: Wall time of attempts that returned a value.
        wasted: Wall time of the other attempts.
        cpu_seconds: CPU time of all attempts.
        first: Start of the first attempt, Unix time in seconds.
        last: End of the last attempt, Unix time in seconds.
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
        """Add one attempt."""
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
        """Add tasks that have all ended with a value."""
        self.ended += batch.tasks
        self.seconds += sum(batch.ends) - sum(batch.starts)
        self.cpu_seconds += sum(batch.cpu_seconds)
        self.bytes += sum(batch.sizes)
        self.first = min(self.first, batch.starts[0])
        self.last = max(self.last, batch.ends[-1])
        self.peak_rss = max(self.peak_rss, batch.peak_rss)

    def merge(self, other: WorkerSums) -> None:
        """Add the sums of the same worker from another part of the log."""
        for name in ("ended", "retried", "failed", "seconds", "wasted", "cpu_seconds", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)
        self.peak_rss = max(self.peak_rss, other.peak_rss)


@dataclass(frozen=True, slots=True)
class Run:
    """One process that runs a shard, or a map, from its start to its end.

    Args:
        id: Name that distinguishes it from other runs of the same shard.
        started: Unix time in seconds.
        shard: Index of the shard; 0 for a map without shards.
        sampled: Share of the successful tasks that are written.
        job: Id of the job; empty for a map without a job.
        image: Image of its container; empty outside of a container, or if its variable ``RUNWIDE_IMAGE`` is not set.
        options: Options of the call that differ from their defaults, as far as they are numbers or texts.
        host: Facts of its machine: ``workers``, ``physical``, ``logical``, ``quota``, ``memory``, ``python``, ….
    """

    id: str
    started: float
    shard: int = 0
    items: int = 0
    sampled: float = 1.0
    job: str = ""
    function: str = ""
    image: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One operation on a store.

    Args:
        name: ``items.fetched``, ``chunk.spilled``, or ``object.read``, ``object.written``, ``objects.listed`` for others.
        time: End, Unix time in seconds.
        seconds: Wall time, with retries.
        bytes: Number of bytes that were moved.
        object: Name of the object in the job.
    """

    name: str
    time: float
    seconds: float
    bytes: int
    object: str
