"""The base of all pools: opened with the cores of this container, and closed with its block."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import definitions, ending, pickled
from runwide.pool import feeding, transfer, warm, worker
from runwide.pool.call import Call, Source
from runwide.pool.inplace import InPlaceScheduler
from runwide.pool.shares import shares
from runwide.writing import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing_extensions import Self

    from runwide.options import RunOptions
    from runwide.pool.lease import Lease
    from runwide.pool.policy import Budget
    from runwide.pool.sinks import Fed


class Base:
    """A pool of workers on the cores of this container; a context manager.

    Args:
        options: The options of the workers; a pool uses those of `runwide.options.WorkerOptions`.
    """

    outlived = False
    """Whether the work that was given to it is finished even after the last reference to the pool is gone."""

    _fresh = False  # whether its workers always end with it
    _apart = False  # whether no other pool may use its workers meanwhile
    _threads: int | None = None  # threads of libraries in each worker; None for its share of the cores

    def __init__(self, options: RunOptions) -> None:
        ending.check_interpreter()
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
            dumped: The pickled function.
            items: The items.
            sink: The receiver of the results.
            budget: The attempts and the time that each task may use.
            whole: Whether all items are taken at once if reading them runs no code of the user.
            ahead: As for `runwide.pool.feeding.Feeder`.
            one_by_one: Likewise.
            **options: Further options of `runwide.pool.call.Call`.
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
            for feeder in list(
                self._feeders
            ):  # submitted work is done, whether or not the results are consumed
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
    """Pickle a function for the workers.

    Raises:
        FunctionNotPicklable: The function, or a value that it closes over, cannot be pickled.
        PoolClosed: The interpreter has shut down.
    """
    return pickled.dumped(function, transfer.dump_by_value)


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
