"""Iterate over outcomes as they come; a bounded number of items is read ahead."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.ended import closed_after, keep_finished
from runwide.errors import RunwideError
from runwide.pool.feeding import ALL
from runwide.pool.inplace import InPlaceScheduler
from runwide.pool.sinks import NotInTime, Stream
from runwide.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from runwide.pool.base import Base
    from runwide.pool.call import Call
    from runwide.pool.feeding import Feeder
    from runwide.pool.lease import Lease
    from runwide.pool.policy import Budget


T = TypeVar("T")

LATE = Outcome(-1)
"""Returned instead of an outcome that has not come in time."""


class Patience:
    """The time for which the iterator waits for the next outcome.

    Args:
        until: Time on the monotonic clock; None for no limit.
        lasts: Whether the iterator returns `LATE` when that time has passed, and may be asked again. Otherwise it raises a
            ``TimeoutError``, and ends.
    """

    __slots__ = ("lasts", "until")

    def __init__(self, until: float | None = None, *, lasts: bool = False) -> None:
        self.until = until
        self.lasts = lasts

    def seconds(self) -> float | None:
        """Return the remaining seconds."""
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
) -> Generator[Outcome, None, None]:
    """Run a pickled function over items in a pool. The first tasks start now; closing the iterator cancels the rest.

    Args:
        pool: The pool.
        dumped: The pickled function.
        items: Read lazily, a bounded number ahead of the consumed outcomes; on a thread of their own if that may take time.
        budget: The attempts and the time that each task may use.
        chunksize: Fixed number of items that travel together; None adapts it.
        ahead: Fixed number of items to read ahead; None adapts it; `ALL` reads all of them now, on this thread.
        indices: The index of each item in a larger input, which workers show.
        named: Whether lines that tasks print may be shown with their items.
        patience: The time to wait for the next outcome; None for no limit.
        ordered: Whether outcomes come by index. An outcome that waits for an earlier one does not count as consumed.
    """
    lease = pool._lease  # noqa: SLF001 - a module of this package
    sink = Stream()
    call, feeder = pool._prepare(  # noqa: SLF001 - likewise
        dumped,
        items,
        sink,
        budget,
        whole=ahead == ALL,
        ahead=ahead,
        one_by_one=isinstance(lease, InPlaceScheduler),
        chunksize=chunksize,
        indices=indices,
        named=named,
    )
    feeders = pool._feeders  # noqa: SLF001 - likewise
    feeders.add(feeder)
    try:
        pool._begin(call, feeder)  # noqa: SLF001 - likewise
    except BaseException:
        feeders.discard(feeder)
        raise
    fetched = _fetched(sink, patience or Patience(), feeder)
    arriving = _consume(lease, call, in_order(fetched) if ordered else fetched, feeder, feeders)
    return arriving if pool.outlived else _holding(pool, arriving)


def _holding(pool: Base, arriving: Iterator[Outcome]) -> Generator[Outcome, None, None]:  # noqa: ARG001 - kept alive
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
            yield batch.pop()  # no reference stays here, so its memory is free when the consumer drops it


def _consume(
    lease: Lease | InPlaceScheduler,
    call: Call,
    arriving: Iterator[Outcome],
    feeder: Feeder,
    feeders: set[Feeder],
) -> Generator[Outcome, None, None]:
    try:
        for outcome in arriving:
            if outcome is not LATE:
                feeder.consume()
            passed = [outcome]
            del outcome
            yield passed.pop()  # as above
        feeder.check()
    finally:
        feeders.discard(feeder)
        lease.cancel(call)
        feeder.stop()
        feeder.join()


def in_order(arriving: Iterator[Outcome]) -> Iterator[Outcome]:
    """Iterate over outcomes by index, each as soon as the earlier ones are there.

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
                del outcome  # so that only `early` refers to it
                while turn in early:
                    yield early.pop(turn)
                    turn += 1
        except RunwideError as error:
            keep_finished(error, list(early.values()))
            raise


def refused(items: Iterable[Any], error: BaseException) -> Generator[Any, None, None]:
    """Iterate over the results of a function that cannot be pickled: none without items, otherwise an error."""
    for _ in items:
        raise error
    yield from ()
