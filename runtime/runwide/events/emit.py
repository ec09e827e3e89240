"""Events of a pool: one record for each attempt at a task, made from the messages and the deaths of workers."""

from __future__ import annotations

import time
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide.api.callbacks import undisturbed
from runwide.events.model import FAILED, RETRIED, TaskBatch, TaskEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.events.measure import Report
    from runwide.pool.call import Chunk
    from runwide.pool.policy import Charges
    from runwide.pool.workers import Slot
    from runwide.records import Failure, FailureKind

End = tuple["FailureKind", str, bool]
"""The kind of a failure, its cause in one line, and True if another attempt follows."""

_DETAIL = 1_000
"""Characters of a cause: twice as many as are shown. Secrets are removed when it is shown, so no secret may be cut in two
here; a search for secrets would delay the scheduler."""


def timed_by(listener: Callable[[TaskEvent], None] | None) -> bool | None:
    """Return True to time each task, False to time short tasks in groups, None without a listener."""
    return None if listener is None else not getattr(listener, "grouped", False)


class Guarded:
    """A listener whose exceptions do not reach the caller: the first one is logged, and later events are passed on to it.

    Args:
        listener: Called with each `TaskEvent`. If it has a method ``batch``, that is called with each `TaskBatch` instead.

    Example:
        >>> Guarded(print)("an event")
        an event
    """

    def __init__(self, listener: Callable[[Any], None]) -> None:
        self._listener = listener
        self._whole = getattr(listener, "batch", None)
        self._has_failed = False

    def __call__(self, event: TaskEvent) -> None:
        """Pass on one event."""
        self._pass(self._listener, event)

    def batch(self, batch: TaskBatch) -> None:
        """Pass on tasks that have all ended with a value."""
        if self._whole is not None:
            self._pass(self._whole, batch)
            return
        for event in batch.events():
            self._pass(self._listener, event)

    def _pass(self, function: Callable[[Any], object], about: object) -> None:
        self._has_failed |= not undisturbed(function, about, logs=not self._has_failed)


class Reporter:
    """Calls one listener, on the scheduler's thread.

    Args:
        listener: As for `Guarded`; with an attribute ``grouped = True``, short tasks are timed in groups.
    """

    def __init__(self, listener: Callable[[TaskEvent], None]) -> None:
        self._listener = Guarded(listener)

    def attempts(
        self,
        slot: Slot,
        chunk: Chunk,
        tasks: int,
        report: Report,
        *,
        first: int,
        failed: Mapping[int, End],
        sizes: Sequence[int] = (),
    ) -> None:
        """Report the results of consecutive tasks.

        Args:
            first: Position of the first task in the chunk.
            failed: The failures, by position in the chunk.
            sizes: Bytes of each result; empty if all are 0.
        """
        (counts, starts, ends, cpu), peak, where = report
        slot.peak_rss = max(slot.peak_rss, peak)
        offset = time.time() - time.monotonic()
        batch = TaskBatch(
            index=chunk.tasks.first + first,
            tasks=tasks,
            worker=slot.number,
            pid=slot.process.pid,
            attempt=chunk.tasks.charges.starts + 1,
            queued=chunk.queued + offset,
            counts=counts,
            starts=array("d", [one + offset for one in starts]),
            ends=array("d", [one + offset for one in ends]),
            cpu_seconds=cpu,
            peak_rss=slot.peak_rss,
            cpu=where if where >= 0 else None,
            sizes=sizes,
        )
        done = 0
        for position, (kind, detail, again) in sorted(failed.items()):
            at = position - first
            self._values(batch, done, at)
            event = next(batch.part(at, at + 1).events())
            self._listener(replace(event, name=_failed(again=again), kind=kind, detail=detail))
            done = at + 1
        self._values(batch, done, tasks)

    def _values(self, batch: TaskBatch, start: int, stop: int) -> None:
        if start < stop:
            self._listener.batch(batch if stop - start == batch.tasks else batch.part(start, stop))

    def died(self, slot: Slot, chunk: Chunk, index: int, *, charges: Charges, end: End) -> None:
        """Report a task whose worker died or was stopped."""
        now, offset = time.time(), time.time() - time.monotonic()
        kind, detail, again = end
        started = (slot.task_started or time.monotonic()) + offset
        self._listener(
            TaskEvent(
                _failed(again=again),
                now,
                index,
                slot.number,
                slot.process.pid,
                charges.starts,
                seconds=max(0.0, now - started),
                peak_rss=slot.peak_rss,
                detail=_one_line(detail),
                queued=chunk.queued + offset,
                started=started,
                kind=kind,
            )
        )


def _failed(*, again: bool) -> str:
    return RETRIED if again else FAILED


def of_failure(failure: Failure, *, again: bool) -> End:
    r"""Return the end of an attempt that failed.

    Example:
        >>> from runwide.records import Failure, FailureKind
        >>> of_failure(Failure(3, FailureKind.EXCEPTION, "ValueError", "two\nlines"), again=False)
        (<FailureKind.EXCEPTION: 'exception'>, 'ValueError: two lines', False)
    """
    return failure.kind, _one_line(f"{failure.type}: {failure.message}"), again


def _one_line(text: str) -> str:
    """Return the beginning of a text as one line, cut between two words."""
    line = " ".join(text[: 2 * _DETAIL].split())
    if len(line) <= _DETAIL and len(text) <= 2 * _DETAIL:
        return line
    return f"{line[: _DETAIL + 1].rpartition(' ')[0]} …"
