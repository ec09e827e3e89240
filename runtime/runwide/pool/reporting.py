"""The pool's events: one frozen record for each attempt at a task, made from what workers say and how they die."""

from __future__ import annotations

import time
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide.callbacks import undisturbed
from runwide.pool import transfer
from runwide.records import FAILED, RETRIED, Failure, FailureKind, TaskBatch, TaskEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.pool.meter import Report
    from runwide.pool.policy import Charges
    from runwide.pool.slot import Chunk, Slot

End = tuple[FailureKind, str, bool]
"""Why an attempt failed, in one line, and whether another one follows."""

_DETAIL = 1_000
"""Characters of a cause: twice what is shown of it. Secrets are taken out where it is shown, so none may be cut in two here,
and looking for them would hold up the scheduler."""


def timed_by(listener: Callable[[TaskEvent], None] | None) -> bool | None:
    """Whether tasks are to be timed one by one, or False for groups of short ones; None where nobody listens."""
    return None if listener is None else not getattr(listener, "grouped", False)


class Guarded:
    """A listener that disturbs nobody: the first exception that it raises is logged, and it hears of all that follows.

    Args:
        listener: Called with each `TaskEvent`. One that has a method ``batch`` is called with a `TaskBatch` there.

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
        listener: As for `Guarded`; with ``grouped = True`` it has short tasks timed in groups.
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
        sized: Sequence[Any] = (),
    ) -> None:
        """Results of consecutive tasks have come.

        Args:
            slot: From whom.
            chunk: Whose tasks they were.
            tasks: How many.
            report: What the worker measured.
            first: Position of the first of them in the chunk.
            failed: Those that are no values, by position in the chunk.
            sized: What came, where any of it has a size.
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
            sizes=tuple(map(transfer.entry_size, sized)),
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
        """The worker died of a task, or was stopped.

        Args:
            slot: Which.
            chunk: What it was at.
            index: The task.
            charges: What it has used of its budget now.
            end: Why it died.
        """
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
    r"""What an event says of a failure.

    Example:
        >>> from runwide.records import Failure
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
