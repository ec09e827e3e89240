"""A pool of workers: opened with the cores of this container, and closed with its block."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import time
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import interpreter
from runwide.errors import RunwideError
from runwide.outcomes import closed_after, keep_finished
from runwide.pickling import definitions, functions
from runwide.pool import feeding, transfer, warm, worker
from runwide.pool.call import Call, Source
from runwide.pool.feeding import ALL
from runwide.pool.leases import InPlaceScheduler
from runwide.pool.sinks import NotInTime, Stream
from runwide.pool.warm import shares
from runwide.records import Outcome
from runwide.streams import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from runwide.options.record import RunOptions
    from runwide.pool.feeding import Feeder
    from runwide.pool.leases import Lease
    from runwide.pool.policy import Budget
    from runwide.pool.sinks import Fed


class Base:
    """A pool of workers on the cores of this container; a context manager."""

    outlived = False
    """Whether the work that was given to it is finished even after the last reference to the pool is gone."""

    _fresh = False  # whether its workers always end with it
    _apart = False  # whether no other pool may use its workers meanwhile
    _threads: int | None = None  # threads of libraries in each worker; None for its share of the cores

    def __init__(self, options: RunOptions) -> None:
        interpreter.check_interpreter()
        shared = shares(options.workers, each=self._threads)
        initializer = options.initializer
        definitions.note_initializer(initializer)
        self._initializer = initializer  # functions share its variables while this reference exists
        if initializer is not None and options.initargs:
            initializer = partial(initializer, *options.initargs)
        prepared = None if initializer is None else dump_function(initializer)
        self.workers = shared.workers
        held = _Held()
        self._feeders: set[feeding.Feeder] = set()
        # This comes first: Ctrl-C may come at any line from here.
        self._finalizer: weakref.finalize[..., Base] = weakref.finalize(
            self, _leaked, held, type(self).__name__
        )
        self._finalizer.atexit = False
        if worker.inside or multiprocessing.current_process().daemon:  # neither may start processes
            held.lease = InPlaceScheduler(prepared)
        else:
            keep_standard_descriptors()
            wants = warm.Wants(prepared, options.max_tasks, options.max_memory)
            fresh = self._fresh or options.fresh
            held.lease = warm.lease(shared, wants, options.on_event, fresh=fresh, apart=self._apart)
        self._lease: Lease | InPlaceScheduler = held.lease
        _open.add(self)

    def _prepare(
        self,
        dumped: transfer.Dumped,
        items: Iterable[Any],
        sink: Fed,
        budget: Budget,
        *,
        whole: bool = True,
        ahead: int | None = feeding.ALL,
        one_by_one: bool = False,
        **options: Any,
    ) -> tuple[Call, feeding.Feeder]:
        """Return a call that is not started yet, and the feeder of its items.

        Args:
            whole: Whether all items are taken at once if reading them runs no code of the user.
        """
        payload = self._lease.function_payload(dumped)
        ready = feeding.taken(items) if whole else None
        source = Source(closed=False) if ready is None else Source(ready)
        call = Call(payload, source, sink, budget, **options)
        feeder = feeding.Feeder(
            call, items, self._lease.ring, ahead=ahead, workers=self.workers, one_by_one=one_by_one
        )
        sink.fed_by(feeder)
        return call, feeder

    def _begin(self, call: Call, feeder: feeding.Feeder) -> None:
        """Start a call, and read its first items."""
        self._lease.start(call)
        try:
            feeder.begin()
        except BaseException:
            self._lease.cancel(call)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Workers that leave on request close the files that their tasks have opened.
        self._end(kill=kind is not None)

    def _end(self, *, kill: bool, wait: bool = True) -> None:
        if not kill:
            for feeder in list(self._feeders):  # submitted work is done, even if no one reads the results
                feeder.feed_all()
        self._lease.close(kill=kill)
        self._finalizer.detach()  # not before: Ctrl-C may come in between
        if wait and not sys.is_finalizing():  # then threads do not run any more
            self._lease.join()
            _open.discard(self)

    def _end_with_program(self) -> None:
        """End a pool that is still open when the program ends."""
        self._end(kill=True)

    def kill(self) -> None:
        """Stop the workers at once, without finishing. Any thread may call it."""
        self._end(kill=True)


def dump_function(function: Any) -> transfer.Dumped:
    """Pickle a function for the workers."""
    return functions.dumped(function, transfer.dump_by_value)


_open: weakref.WeakSet[Base] = weakref.WeakSet()
_finishing: weakref.WeakSet[Lease | InPlaceScheduler] = weakref.WeakSet()


def let_finish(lease: Lease | InPlaceScheduler) -> None:
    """Make the program wait for a lease before it ends."""
    _finishing.add(lease)


class _Held:
    """The lease of a pool, for its finalizer."""

    __slots__ = ("lease",)

    def __init__(self) -> None:
        self.lease: Lease | InPlaceScheduler | None = None


def _leaked(held: _Held, name: str) -> None:
    if held.lease is not None:
        held.lease.close(kill=True)
        warn_of_leak(name)


def warn_of_leak(name: str) -> None:
    """Warn that a pool was dropped without being closed."""
    warnings.warn(f"a runwide.{name} was not closed; use it in a with block", ResourceWarning, stacklevel=3)


def _abandon_all() -> None:
    """Forget the pools in a fork: they belong to the parent, and are neither closed nor reported as leaked."""
    for pool in list(_open):
        pool._finalizer.detach()  # noqa: SLF001 - of this module's own class
    _open.clear()
    feeding.forget_all()


os.register_at_fork(after_in_child=_abandon_all)


@atexit.register
def _close_all() -> None:
    feeding.stop_all()  # their iterables may wait forever
    for pool in list(_open):
        pool._end_with_program()  # noqa: SLF001 - of this module's own class
    for lease in list(_finishing):
        lease.join()
    warm.shutdown()


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


def stream_outcomes(
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
        items: Read lazily, a bounded number ahead of the consumed outcomes; on a thread of their own if that may take time.
        chunksize: Fixed number of items that travel together; None adapts it.
        ahead: Fixed number of items to read ahead; None adapts it; `ALL` reads all of them now, on this thread.
        indices: The index of each item in a larger input, which workers show.
        named: Whether lines that tasks print may be shown with their items.
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
