"""What a dead worker's chunk leaves: tasks that run again, and the one that is charged with the death."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runwide.pool import failures
from runwide.pool.policy import Cause
from runwide.pool.slot import split

if TYPE_CHECKING:
    from runwide.pool.call import Tasks
    from runwide.pool.slot import Chunk, Slot
    from runwide.pool.status import Doing


class Loss(NamedTuple):
    """A worker that is gone.

    Args:
        slot: Its place.
        cause: Why it died.
        exitcode: Exit status, negative for a signal, or `runwide.pool.child.UNKNOWN`.
    """

    slot: Slot
    cause: Cause
    exitcode: int


def salvage(chunk: Chunk, ran: Doing | None, loss: Loss) -> None:
    """Hand back what is left of a chunk to its call.

    Args:
        chunk: Its first results have arrived.
        ran: What the worker was doing with it; None if that was something else.
        loss: The worker.
    """
    remains = split(chunk, ran)
    chunk.call.again.extendleft(reversed(remains.uncharged))
    if remains.guilty is not None:
        _charge(chunk, remains.guilty, loss)


def _charge(chunk: Chunk, task: Tasks, loss: Loss) -> None:
    slot, cause, exitcode = loss
    call, charges = chunk.call, task.charges.started().crashed()
    reporter = call.lease.reporter
    tried_again = cause is not Cause.TIMEOUT and call.budget.allows(charges)
    if reporter is not None:
        end = failures.kind_of(cause), f"the worker {cause.value}", tried_again
        reporter.died(slot, chunk, task.first, charges=charges, end=end)
    if tried_again:
        task.charges = charges
        task.alone = cause is Cause.OUT_OF_MEMORY
        call.again.append(task)
        return
    death = failures.Death(cause, exitcode, slot.peak_rss, slot.last_words())
    call.sink.failure(failures.of_death(death, task.first, charges, timeout=call.budget.timeout))
