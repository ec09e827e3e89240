"""The pool's events: one frozen record for each attempt at a task, made from what workers say and how they die."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runwide.pool import transfer
from runwide.records import FailureKind, TaskEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide.pool.meter import Report
    from runwide.pool.policy import Charges
    from runwide.pool.slot import Chunk, Slot
    from runwide.records import Failure

End = tuple[FailureKind, str, bool]
"""Why an attempt failed, in one line, and whether another one follows."""

_DETAIL = 500  # characters


class Reporter:
    """Calls one listener, on the scheduler's thread.

    Args:
        listener: Called with each `TaskEvent`.
    """

    def __init__(self, listener: Callable[[TaskEvent], None]) -> None:
        self._listener = listener

    def attempts(
        self,
        slot: Slot,
        chunk: Chunk,
        entries: list[Any],
        report: Report,
        *,
        first: int,
        failed: Mapping[int, End],
    ) -> None:
        """Results of consecutive tasks have come.

        Args:
            slot: From whom.
            chunk: Whose tasks they were.
            entries: What came.
            report: What the worker measured.
            first: Position of the first of them in the chunk.
            failed: Those that are no values, by position in the chunk.
        """
        measured, peak, cpu = report
        slot.peak_rss = peak = max(slot.peak_rss, peak)
        offset = time.time() - time.monotonic()
        queued, attempt = chunk.queued + offset, chunk.tasks.charges.starts + 1
        pid, worker, listener, first_item = slot.process.pid, slot.number, self._listener, chunk.tasks.first
        where = cpu if cpu >= 0 else None
        for position, (entry, (started, ended, spent)) in enumerate(
            zip(entries, measured, strict=True), first
        ):
            size = transfer.entry_size(entry) if type(entry) is tuple else 0
            kind, detail, again = failed.get(position, _ENDED)
            name = "task.ended" if kind is None else _failed(again=again)
            seconds = ended - started
            listener(
                TaskEvent(
                    name=name,
                    time=ended + offset,
                    index=first_item + position,
                    worker=worker,
                    pid=pid,
                    attempt=attempt,
                    seconds=seconds,
                    peak_rss=peak,
                    detail=detail,
                    queued=queued,
                    started=started + offset,
                    cpu_seconds=spent,
                    cpu=where,
                    bytes=size,
                    kind=kind,
                )
            )

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
                detail=detail[:_DETAIL],
                queued=chunk.queued + offset,
                started=started,
                kind=kind,
            )
        )


_ENDED: tuple[None, str, bool] = (None, "", False)


def _failed(*, again: bool) -> str:
    return "task.retried" if again else "task.failed"


def of_failure(failure: Failure, *, again: bool) -> End:
    r"""What an event says of a failure.

    Example:
        >>> from runwide.records import Failure
        >>> of_failure(Failure(3, FailureKind.EXCEPTION, "ValueError", "two\nlines"), again=False)
        (<FailureKind.EXCEPTION: 'exception'>, 'ValueError: two lines', False)
    """
    return failure.kind, " ".join(f"{failure.type}: {failure.message}".split())[:_DETAIL], again
