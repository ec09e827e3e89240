"""Outcomes as they come, while items are taken a bounded number ahead of what is consumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.ended import closed_after, keep_finished
from runwide.errors import RunwideError
from runwide.pool.call import Call, Source
from runwide.pool.feeding import ALL, Feeder, taken
from runwide.pool.inplace import InPlaceScheduler
from runwide.pool.sinks import NotInTime, Stream
from runwide.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runwide.pool.base import Base
    from runwide.pool.lease import Lease
    from runwide.pool.policy import Budget


T = TypeVar("T")

LATE = Outcome(-1)
"""Comes in the place of an outcome that is not there in time."""


class Patience:
    """How long the next outcome is waited for.

    Args:
        until: Time on the monotonic clock; None for any time.
        lasts: Whether outcomes may still be asked for when it has passed, and `LATE` is one; otherwise it is a
            ``TimeoutError``, and the end.
    """

    __slots__ = ("lasts", "until")

    def __init__(self, until: float | None = None, *, lasts: bool = False) -> None:
        self.until = until
        self.lasts = lasts

    def seconds(self) -> float | None:
        """Seconds that are left."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())


def stream(
    pool: Base,
    dumped: Any,
    items: Iterable[Any],
    budget: Budget,
    *,
    chunksize: int | None = None,
    ahead: int | None = None,
    patience: Patience | None = None,
    indices: Sequence[int] | None = None,
    named: bool = False,
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
        named: Whether what tasks print may be shown with their items.
        patience: How long the next outcome is waited for; None for any time.
        ordered: Whether outcomes come by index; those that wait for an earlier one are not consumed.
    """
    lease = pool._lease  # noqa: SLF001 - the rooms of one house
    sink = Stream()
    payload = lease.function_payload(dumped)
    whole = taken(items) if ahead == ALL else None
    source = Source(closed=False) if whole is None else Source(whole)
    call = Call(payload, source, sink, budget, chunksize=chunksize, indices=indices, named=named)
    feeder = Feeder(
        call,
        items,
        lease.ring,
        ahead=ahead,
        workers=pool.workers,
        one_by_one=isinstance(lease, InPlaceScheduler),
    )
    sink.fed_by(feeder)
    feeders = pool._feeders  # noqa: SLF001 - likewise
    feeders.add(feeder)
    lease.start(call)
    try:
        feeder.begin()
    except BaseException:
        feeders.discard(feeder)
        lease.cancel(call)
        raise
    fetched = _fetched(sink, patience or Patience(), feeder)
    arriving = _consume(lease, call, in_order(fetched) if ordered else fetched, feeder, feeders)
    return arriving if pool.outlived else _holding(pool, arriving)


def _holding(pool: Base, arriving: Iterator[Outcome]) -> Iterator[Outcome]:  # noqa: ARG001 - held as long as this runs
    yield from arriving


def _fetched(sink: Stream, patience: Patience, feeder: Feeder) -> Iterator[Outcome]:
    while True:
        feeder.supply()
        try:
            batch = sink.fetch(patience.seconds())
        except NotInTime:
            if not patience.lasts:
                raise
            yield LATE
            continue
        if not batch:
            return
        batch.reverse()
        while batch:
            yield batch.pop()  # kept nowhere: what the consumer drops is free


def _consume(
    lease: Lease | InPlaceScheduler,
    call: Call,
    arriving: Iterator[Outcome],
    feeder: Feeder,
    feeders: set[Feeder],
) -> Iterator[Outcome]:
    try:
        for outcome in arriving:
            if outcome is not LATE:
                feeder.consume()
            passed = [outcome]
            del outcome
            yield passed.pop()  # likewise
        feeder.check()
    finally:
        feeders.discard(feeder)
        lease.cancel(call)
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
                if outcome is LATE:
                    yield LATE
                    continue
                early[outcome.index] = outcome
                del outcome  # it is kept no longer than until its turn
                while turn in early:
                    yield early.pop(turn)
                    turn += 1
        except RunwideError as error:
            keep_finished(error, list(early.values()))
            raise


def refused(items: Iterable[Any], error: BaseException) -> Iterator[Any]:
    """The results of a function that cannot be run: none of no items, else an error."""
    for _ in items:
        raise error
    yield from ()
