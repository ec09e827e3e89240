"""What a map leaves behind of itself at next to no cost: enough for a report, without anybody having asked for one."""

from __future__ import annotations

import time
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from runwide.host import memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.records import TaskBatch, TaskEvent

_ROWS = 200_000
"""Times that are kept, of 32 bytes each; of more, neighbours are put together."""

_SAMPLES = 300  # of the memory, at most about twice as many


class Trace:
    """A listener that keeps what it hears; short tasks are timed in groups, unless somebody else listens as well.

    Args:
        function: Name of the function.
        workers: Number of workers that was asked for.
        listener: Who else hears of each attempt.

    Example:
        >>> from runwide.pool.mapping import map
        >>> trace = Trace("abs")
        >>> map(abs, [-1, -2], workers=1, on_event=trace)
        [1, 2]
        >>> sum(batch.tasks for batch in trace.batches)
        2
    """

    def __init__(
        self,
        function: str,
        *,
        workers: int | str | None = None,
        listener: Callable[[TaskEvent], None] | None = None,
    ) -> None:
        self.function = function
        self.workers = workers if isinstance(workers, int) else None
        self.grouped = listener is None
        self.started = time.time()
        self.ended: float | None = None
        self.batches: list[TaskBatch] = []
        self.failed: list[TaskEvent] = []
        self.memory: list[tuple[float, int]] = []
        self._listener = listener
        self._rows = 0
        self._next_sample = self.started + 0.5

    def __call__(self, event: TaskEvent) -> None:
        """An attempt has failed."""
        self.failed.append(event)
        if self._listener is not None:
            self._listener(event)

    def batch(self, batch: TaskBatch) -> None:
        """Tasks have ended with a value."""
        self.batches.append(batch)
        self._rows += len(batch.counts)
        if self._rows > _ROWS:
            self.batches = [_coarser(one) for one in self.batches]
            self._rows = sum(len(one.counts) for one in self.batches)
        if batch.ends[-1] > self._next_sample:
            self._sample(batch.ends[-1])
        if self._listener is not None:
            self._pass_on(batch, self._listener)

    @staticmethod
    def _pass_on(batch: TaskBatch, listener: Callable[[TaskEvent], None]) -> None:
        whole = getattr(listener, "batch", None)
        if whole is not None:
            whole(batch)
            return
        for event in batch.events():
            listener(event)

    def _sample(self, now: float) -> None:
        self._next_sample = now + max(1.0, (now - self.started) / _SAMPLES)
        used = memory.read().used
        if used is not None:
            self.memory.append((now, used))

    def end(self) -> None:
        """The map has ended."""
        self.ended = time.time()


def _coarser(batch: TaskBatch) -> TaskBatch:
    """The same with two neighbouring rows in one; what happened between them counts as theirs.

    Example:
        >>> from runwide.records import TaskBatch
        >>> rows = array("L", [1, 1, 1]), array("d", [1, 2, 3]), array("d", [2, 3, 4]), array("d", [0.5, 0.5, 1])
        >>> made = _coarser(TaskBatch(0, 3, 0, 1, 1, 0.0, *rows))
        >>> [list(column) for column in (made.counts, made.starts, made.ends, made.cpu_seconds)]
        [[2, 1], [1.0, 3.0], [3.0, 4.0], [1.0, 1.0]]
    """
    rows = range(0, len(batch.counts), 2)
    return replace(
        batch,
        counts=array("L", [sum(batch.counts[row : row + 2]) for row in rows]),
        starts=batch.starts[::2],
        ends=array("d", [batch.ends[row : row + 2][-1] for row in rows]),
        cpu_seconds=array("d", [sum(batch.cpu_seconds[row : row + 2]) for row in rows]),
        sizes=(sum(batch.sizes), *[0] * (batch.tasks - 1)) if batch.sizes else (),
    )
