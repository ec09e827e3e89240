"""Outcomes as they come, while items are taken a bounded number ahead of what is consumed."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.errors import RunwideError
from runwide.pool import policy
from runwide.pool.call import Call, Source
from runwide.pool.feeding import ALL, Feeder, taken
from runwide.pool.inplace import InPlaceScheduler
from runwide.pool.sinks import Stream, keep_finished

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runwide.pool.base import Base
    from runwide.pool.lease import Lease
    from runwide.pool.policy import Budget
    from runwide.records import Outcome


T = TypeVar("T")


def stream(
    pool: Base,
    dumped: Any,
    items: Iterable[Any],
    budget: Budget,
    *,
    chunksize: int | None = None,
    ahead: int | None = None,
    deadline: float | None = None,
    indices: Sequence[int] | None = None,
    ordered: bool = False,
) -> Iterator[Outcome]:
    """Run a pickled function over items in a pool; the first tasks start now, leaving the iterator cancels the rest.

    Args:
        pool: Where they run.
        dumped: The function.
        items: Taken lazily, a bounded number ahead of what was consumed, on a thread of their own where that may take time.
        budget: What each task may use.
        chunksize: Fixed number of items that travel together; None adapts it.
        ahead: Fixed number of items to be ahead; None adapts it, `ALL` takes all of them now, on this thread.
        indices: Index of each item in a larger input, as workers are to call it.
        deadline: Time on the monotonic clock after which waiting for the next outcome is a ``TimeoutError``.
        ordered: Whether outcomes come by index; those that wait for an earlier one are not consumed.
    """
    size = policy.checked_chunksize(chunksize)
    scheduler = pool._scheduler  # noqa: SLF001 - the rooms of one house
    sink = Stream()
    payload = scheduler.function_payload(dumped)
    whole = taken(items) if ahead == ALL else None
    source = Source(closed=False) if whole is None else Source(whole)
    call = Call(payload, source, sink, budget, chunksize=size, indices=indices)
    feeder = Feeder(
        call,
        items,
        scheduler.ring,
        ahead=ahead,
        workers=pool.workers,
        one_by_one=isinstance(scheduler, InPlaceScheduler),
    )
    sink.fed_by(feeder)
    feeders = pool._feeders  # noqa: SLF001 - likewise
    feeders.add(feeder)
    scheduler.start(call)
    try:
        feeder.begin()
    except BaseException:
        feeders.discard(feeder)
        scheduler.cancel(call)
        raise
    fetched = _fetched(sink, deadline, feeder)
    arriving = _consume(scheduler, call, in_order(fetched) if ordered else fetched, feeder, feeders)
    return arriving if pool.outlived else _holding(pool, arriving)


def _holding(pool: Base, arriving: Iterator[Outcome]) -> Iterator[Outcome]:  # noqa: ARG001 - held as long as this runs
    yield from arriving


def _fetched(sink: Stream, deadline: float | None, feeder: Feeder) -> Iterator[Outcome]:
    while True:
        feeder.supply()
        batch = sink.fetch(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if not batch:
            return
        batch.reverse()
        while batch:
            yield batch.pop()  # kept nowhere: what the consumer drops is free


def _consume(
    scheduler: Lease | InPlaceScheduler,
    call: Call,
    arriving: Iterator[Outcome],
    feeder: Feeder,
    feeders: set[Feeder],
) -> Iterator[Outcome]:
    try:
        for outcome in arriving:
            feeder.consume()
            passed = [outcome]
            del outcome
            yield passed.pop()  # likewise
        feeder.check()
    finally:
        feeders.discard(feeder)
        scheduler.cancel(call)
        feeder.stop()
        feeder.join()


def in_order(arriving: Iterator[Outcome]) -> Iterator[Outcome]:
    """Outcomes by index, each as soon as those before it are there.

    Example:
        >>> from runwide.records import Outcome
        >>> [outcome.index for outcome in in_order(iter([Outcome(1), Outcome(0), Outcome(2)]))]
        [0, 1, 2]
    """
    early: dict[int, Outcome] = {}
    turn = 0
    with closed_after(arriving):
        try:
            for outcome in arriving:
                early[outcome.index] = outcome
                del outcome  # it is kept no longer than until its turn
                while turn in early:
                    yield early.pop(turn)
                    turn += 1
        except RunwideError as error:
            keep_finished(error, list(early.values()))
            raise


@contextmanager
def closed_after(arriving: T) -> Iterator[T]:
    """Close an iterator when the block is left, here and now, and not whenever and wherever it is collected."""
    try:
        yield arriving
    finally:
        close = getattr(arriving, "close", None)
        if close is not None:
            close()


def values(arriving: Iterator[Outcome], on_error: str) -> Iterator[Any]:
    """The values of outcomes; a failure is raised or stands in their place."""
    with closed_after(arriving):
        for outcome in arriving:
            failure = outcome.failure
            if failure is not None and on_error == "raise":
                from runwide.pool.raised import portable_exception_of  # most runs raise none

                raise portable_exception_of(failure)
            held = [outcome.value if failure is None else failure]
            del outcome, failure
            yield held.pop()  # kept nowhere: what the consumer drops is free
