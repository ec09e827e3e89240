"""Handle the chunk of a dead worker: some of its tasks run again, and one is charged with the death."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runwide.causes import Cause
from runwide.pool import failures

if TYPE_CHECKING:
    from runwide.pool.call import Chunk, Tasks
    from runwide.pool.failures import Death
    from runwide.pool.status import Doing


class Remains(NamedTuple):
    """The tasks of a dead worker's chunk that have no result.

    Args:
        uncharged: Tasks that had not begun, or that had ended and whose results had not arrived, in order of index.
        guilty: The task that ran when the worker died, if that is known.
    """

    uncharged: tuple[Tasks, ...] = ()
    guilty: Tasks | None = None


def split(chunk: Chunk, doing: Doing | None) -> Remains:
    """Separate the task that killed a worker from the other tasks of its chunk.

    Args:
        chunk: The chunk; its first ``ended`` results have arrived.
        doing: The worker's work on this chunk; None if it worked on another one.
    """
    tasks, ended, size = chunk.tasks, chunk.ended, len(chunk)
    if doing is None or doing.position is None or doing.position < ended:
        return Remains(_not_empty(tasks.part(ended)))
    position, stop = doing.position, min(doing.position + doing.tasks, size)
    before, after = tasks.part(ended, position), tasks.part(stop)
    if doing.tasks == 1:
        return Remains(_not_empty(before, after), tasks.part(position, stop))
    # The worker ran several tasks in one go, and one of them killed it: they run again one by one.
    among = tasks.part(position, stop)
    among.fine = True
    return Remains(_not_empty(before, among, after))


def _not_empty(*parts: Tasks) -> tuple[Tasks, ...]:
    return tuple(part for part in parts if part.items)


def salvage(chunk: Chunk, doing: Doing | None, death: Death) -> None:
    """Give the rest of a dead worker's chunk back to its call.

    Args:
        chunk: The chunk; its first results have arrived.
        doing: The worker's work on this chunk; None if it worked on another one.
        death: The worker's death.
    """
    remains = split(chunk, doing)
    chunk.call.again.extendleft(reversed(remains.uncharged))
    if remains.guilty is not None:
        _charge(chunk, remains.guilty, death)


def _charge(chunk: Chunk, task: Tasks, death: Death) -> None:
    cause = death.cause
    call, charges = chunk.call, task.charges.started().crashed()
    reporter = call.lease.reporter
    tried_again = cause is not Cause.TIMEOUT and call.budget.allows(charges)
    if reporter is not None:
        end = cause.kind, f"the worker {cause.value.ended}", tried_again
        reporter.died(death.slot, chunk, task.first, charges=charges, end=end)
    if tried_again:
        task.charges = charges
        task.alone = cause is Cause.OUT_OF_MEMORY
        call.again.append(task)
        return
    call.sink.failure(failures.of_death(death, task.first, charges, timeout=call.budget.timeout))
