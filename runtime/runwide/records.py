"""Records that cross module boundaries."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENDED, RETRIED, FAILED = "task.ended", "task.retried", "task.failed"


class FailureKind(str, Enum):
    """Why a task failed."""

    EXCEPTION = "exception"
    CRASH = "crash"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    PICKLING = "pickling"


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of one task that failed for good.

    Args:
        index: Index of the item in the input of the whole map, from 0.
        kind: Why.
        type: Qualified name of the exception's type.
        message: The exception's text, one line.
        traceback: The remote traceback as text, empty where there is none (a crash has none).
        attempts: How often the task was started.
        exception: The exception itself, where it could cross processes.
    """

    index: int
    kind: FailureKind
    type: str
    message: str
    traceback: str = field(default="", repr=False)
    attempts: int = 1
    exception: BaseException | None = field(default=None, compare=False, repr=False)

    def but(self, **changes: Any) -> Failure:
        """The same with other values of some fields.

        Example:
            >>> Failure(0, FailureKind.CRASH, "WorkerDied", "killed").but(index=7).index
            7
        """
        return replace(self, **changes)

    def __str__(self) -> str:
        return f"item {self.index}: {self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one task: its value or its failure.

    Args:
        index: Index of the item, from 0.
        value: What the function returned; meaningless when ``failure`` is set.
        failure: Set when the task failed for good.
    """

    index: int
    value: Any = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One attempt at a task, from the queue to its end.

    All its phases are in one record: when it was queued, started and ended, and what became of it. ``kind`` tells an
    exception from a worker that was killed.

    Args:
        name: ``task.ended`` with a value, ``task.failed`` for good, or ``task.retried``: it failed, another one follows.
        time: When it ended, Unix time in seconds.
        index: Index of the item, from 0.
        worker: Number of the worker slot, from 0.
        pid: Process id of the worker.
        attempt: 1 for the first one.
        seconds: Its wall time.
        peak_rss: Highest resident memory of the worker until then in bytes, 0 where unknown.
        detail: One line of cause, where it failed.
        queued: When it was sent to the worker, Unix time in seconds.
        started: When it started, Unix time in seconds.
        cpu_seconds: What the worker's process spent in the meantime, its threads included, its children not; 0 for one
            whose worker died.
        cpu: The CPU that the worker was on when it sent the result; None where unknown.
        bytes: What its result took on the way from the worker, 0 for numbers and short texts, and small tuples, lists and
            dicts of such.
        kind: Why it failed; None where it did not.
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
    """Consecutive tasks, one attempt at each, that one worker ended with a value: what `TaskEvent` says of each, in columns.

    There is a row for each time that was taken: of each task, or of some short ones together where nobody asked for each.

    Args:
        index: Index of the first item.
        tasks: How many.
        worker: Number of the worker slot, from 0.
        pid: Process id of the worker.
        attempt: 1 for the first one.
        queued: When they were sent to the worker, Unix time in seconds.
        counts: How many tasks each row is of.
        starts: When they started, Unix time in seconds.
        ends: When they ended.
        cpu_seconds: CPU time of each row.
        peak_rss: Highest resident memory of the worker until then in bytes, 0 where unknown.
        cpu: The CPU that the worker was on when it sent the results; None where unknown.
        sizes: Bytes of each result; empty where all have 0, as in `TaskEvent`.
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
        """Some of the tasks, by position; of a row that is cut, time is shared out evenly.

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
        for count, begin, end, spent in zip(
            self.counts, self.starts, self.ends, self.cpu_seconds, strict=True
        ):
            low, high, each = max(start, at), min(stop, at + count), (end - begin) / count
            if low < high:
                yield (
                    high - low,
                    begin + (low - at) * each,
                    begin + (high - at) * each,
                    spent * (high - low) / count,
                )
            at += count

    def events(self) -> Iterator[TaskEvent]:
        """The same as one record for each task; of a row of several each has its share.

        Example:
            >>> row = array("L", [2]), array("d", [1.0]), array("d", [3.0]), array("d", [2.0])
            >>> batch = TaskBatch(7, 2, 0, 1, 1, 0.0, *row)
            >>> [(event.index, event.started, event.seconds) for event in batch.events()]
            [(7, 1.0, 1.0), (8, 2.0, 1.0)]
        """
        position = 0
        for count, begin, end, spent in zip(
            self.counts, self.starts, self.ends, self.cpu_seconds, strict=True
        ):
            each = (end - begin) / count
            for turn in range(count):
                started = begin + turn * each
                yield TaskEvent(
                    ENDED, started + each, self.index + position, self.worker, self.pid, self.attempt, each,
                    self.peak_rss, queued=self.queued, started=started, cpu_seconds=spent / count, cpu=self.cpu,
                    bytes=self.sizes[position] if self.sizes else 0,
                )  # fmt: skip  # three lines are enough
                position += 1
