"""The trace of a map: kept in memory at little cost, and enough for a report that is asked for later."""

from __future__ import annotations

import time
from array import array
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from runwide.events.emit import Guarded
from runwide.events.model import WorkerSums
from runwide.host import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runwide.events.model import TaskBatch, TaskEvent

_ROWS = 200_000
"""Rows that are kept, of 56 bytes each, for a map of any length."""

_FAILED = 20_000  # failed attempts that are kept; the sums count all
_SAMPLES = 300  # of the memory, or up to about twice as many

Row = tuple[int, int, int, float, float, float, float]
"""First item, number of tasks, attempt, start and end as Unix times, wall seconds, CPU seconds."""


class Rows:
    """Times of one worker's tasks, in columns.

    Example:
        >>> rows = Rows()
        >>> for item, start in ((0, 1.0), (5, 3.0), (6, 4.0)):
        ...     rows.extend([item], [1], [1], [start], [start + 1], [1.0], [0.5])
        >>> rows.halve()
        >>> list(rows)
        [(0, 2, 1, 1.0, 4.0, 2.0, 1.0), (6, 1, 1, 4.0, 5.0, 1.0, 0.5)]
    """

    def __init__(self) -> None:
        self._columns = _columns()

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Row]:
        return zip(*self._columns, strict=True)

    def extend(self, *columns: Iterable[float]) -> None:
        """Add rows."""
        for column, more in zip(self._columns, columns, strict=True):
            column.extend(more)

    def halve(self) -> None:
        """Merge each two neighbouring rows into one; the items of a merged row may have gaps."""
        rows = list(self)
        merged = [_together(*rows[place : place + 2]) for place in range(0, len(rows), 2)]
        self._columns = _columns()
        self.extend(*zip(*merged, strict=True))


def _columns() -> tuple[array[Any], ...]:
    return tuple(array(kind) for kind in "qLqdddd")  # the types of `Row` and `TaskBatch`


def _together(first: Row, second: Row | None = None) -> Row:
    if second is None:
        return first
    item, count, attempt, start, _, seconds, cpu = first
    return item, count + second[1], attempt, start, second[4], seconds + second[5], cpu + second[6]


class Trace:
    """A listener that keeps the events of a map; short tasks are timed in groups, unless the user listens as well.

    Args:
        workers: Number of workers that the user gave.
        listener: The user's listener, called with each attempt.

    Example:
        >>> trace = Trace("abs")
        >>> runwide.map(abs, [-1, -2], workers=1, on_event=trace)
        [1, 2]
        >>> trace.sums[0].ended
        2
    """

    def __init__(
        self,
        function: str,
        *,
        workers: int | str | None = None,
        listener: Callable[[TaskEvent], None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.options = options or {}
        self.workers = workers if isinstance(workers, int) else None
        self.grouped = listener is None
        self.started = time.time()
        self.ended: float | None = None
        self.rows: dict[int, Rows] = defaultdict(Rows)
        self.sums: dict[int, WorkerSums] = defaultdict(WorkerSums)
        self.failed: list[TaskEvent] = []
        self.memory: list[tuple[float, int]] = []
        self._listener = None if listener is None else Guarded(listener)
        self._kept = 0
        self._next_sample = self.started + 0.5

    def __call__(self, event: TaskEvent) -> None:
        """Add a failed attempt."""
        self.sums[event.worker].add(event)
        if len(self.failed) < _FAILED:
            self.failed.append(event)
        if self._listener is not None:
            self._listener(event)

    def batch(self, batch: TaskBatch) -> None:
        """Add tasks that ended with a value."""
        self.sums[batch.worker].add_batch(batch)
        self._keep(batch)
        if batch.ends[-1] > self._next_sample:
            self._sample(batch.ends[-1])
        if self._listener is not None:
            self._listener.batch(batch)

    def _keep(self, batch: TaskBatch) -> None:
        counts, starts, ends = batch.counts, batch.starts, batch.ends
        items = accumulate(counts[:-1], initial=batch.index)
        seconds = [end - start for start, end in zip(starts, ends, strict=True)]
        attempts = [batch.attempt] * len(counts)
        self.rows[batch.worker].extend(items, counts, attempts, starts, ends, seconds, batch.cpu_seconds)
        self._kept += len(counts)
        if self._kept > _ROWS:
            for rows in self.rows.values():
                rows.halve()
            self._kept = sum(map(len, self.rows.values()))

    def _sample(self, now: float) -> None:
        self._next_sample = now + max(1.0, (now - self.started) / _SAMPLES)
        used = memory.read().used
        if used is not None:
            self.memory.append((now, used))

    def end(self) -> None:
        """Record that the map has ended."""
        self.ended = time.time()
