"""Outcomes as they come: items taken lazily, a bounded number ahead of what is consumed."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runwide.errors import RunwideError
from runwide.pool import policy
from runwide.pool.call import Call, Source
from runwide.pool.sinks import Stream, keep_finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runwide.failure import Failure
    from runwide.pool.base import Base
    from runwide.pool.inplace import InPlaceScheduler
    from runwide.pool.policy import Budget
    from runwide.pool.scheduler import Scheduler
    from runwide.records import Outcome

ALL = sys.maxsize
"""As a number of items ahead: take all of them now."""


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
        items: Taken lazily, a bounded number ahead of what was consumed.
        budget: What each task may use.
        chunksize: Fixed number of items that travel together; None adapts it.
        ahead: Fixed number of items to be ahead; None adapts it, `ALL` takes all of them now.
        indices: Index of each item in a larger input, as workers are to call it.
        deadline: Time on the monotonic clock after which waiting for the next outcome is a ``TimeoutError``.
        ordered: Whether outcomes come by index; those that wait for an earlier one are not consumed.
    """
    size = policy.checked_chunksize(chunksize)
    scheduler = pool._scheduler  # noqa: SLF001 - the rooms of one house
    sink = Stream()
    call = Call(
        scheduler.function_payload(dumped),
        Source(closed=False),
        sink,
        budget,
        chunksize=size,
        indices=indices,
    )
    feeder = Feeder(call, iter(items), pool.workers, scheduler.ring, ahead)
    feeder.feed()
    if ahead == ALL and feeder.error is not None:  # nothing has begun
        raise feeder.error
    feeders = pool._feeders  # noqa: SLF001 - likewise
    feeders.add(feeder)
    scheduler.start(call)
    fetched = _fetched(sink, deadline)
    arriving = _consume(scheduler, call, in_order(fetched) if ordered else fetched, feeder, feeders)
    return arriving if pool.outlived else _holding(pool, arriving)


def _holding(pool: Base, arriving: Iterator[Outcome]) -> Iterator[Outcome]:  # noqa: ARG001 - held as long as this runs
    yield from arriving


def _fetched(sink: Stream, deadline: float | None) -> Iterator[Outcome]:
    while batch := sink.fetch(None if deadline is None else max(0.0, deadline - time.monotonic())):
        batch.reverse()
        while batch:
            yield batch.pop()  # kept nowhere: what the consumer drops is free


def _consume(
    scheduler: Scheduler | InPlaceScheduler,
    call: Call,
    arriving: Iterator[Outcome],
    feeder: Feeder,
    feeders: set[Feeder],
) -> Iterator[Outcome]:
    try:
        for outcome in arriving:
            feeder.consumed += 1
            feeder.feed()
            passed = [outcome]
            del outcome
            yield passed.pop()  # likewise
        if feeder.error is not None:
            raise feeder.error
    finally:
        feeders.discard(feeder)
        scheduler.cancel(call)


class Feeder:
    """Moves items from a lazy iterable to a call, a bounded number ahead of what the consumer has fetched.

    Args:
        call: Where they go.
        items: Where they come from.
        workers: Number of workers.
        ring: Wakes the scheduler.
        ahead: Fixed number of items to be ahead; None adapts it.
    """

    def __init__(
        self, call: Call, items: Iterator[Any], workers: int, ring: Callable[[], None], ahead: int | None
    ) -> None:
        self._call = call
        self._items = items
        self._workers = workers
        self._ring = ring
        self._ahead = ahead
        self._fed = 0
        self.consumed = 0
        self.error: Exception | None = None  # that the items' own iterator raised; those before it are done

    def feed(self) -> None:
        """Put as many items as may be ahead now."""
        source = self._call.source
        limit = self._ahead or self._adapted()
        while not source.closed and self._fed - self.consumed < limit:
            try:
                source.put(next(self._items))
                self._fed += 1
            except StopIteration:
                source.close()
                self._ring()
            except Exception as error:
                self.error = error
                source.close()
                self._ring()
        # The scheduler sets `hungry`, then looks once more; so an item is never put unseen.
        if self._call.hungry and source.available():
            self._call.hungry = False
            self._ring()

    def feed_all(self) -> None:
        """Put all that there is; nobody may be consuming any more."""
        self._ahead = ALL
        self.feed()

    def _adapted(self) -> int:
        adapted = policy.lookahead(self._call.pace, workers=self._workers)
        return max(adapted, 2 * self._workers * (self._call.chunksize or 1))


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
def closed_after(arriving: Iterator[Any]) -> Iterator[None]:
    """Close an iterator when the block is left, here and now, and not whenever and wherever it is collected."""
    try:
        yield
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
                raise exception_of(failure)
            held = [outcome.value if failure is None else failure]
            del outcome, failure
            yield held.pop()  # kept nowhere: what the consumer drops is free


def exception_of(failure: Failure) -> BaseException:
    """The exception of a failure, or its text as one where the exception itself did not come across."""
    return (
        failure.exception
        if failure.exception is not None
        else RuntimeError(f"{failure.type}: {failure.message}")
    )
