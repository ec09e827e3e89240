"""The lifetime of a pool: opened with the cores that are there, closed with its block, never left behind."""

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
from runwide.errors import InputError
from runwide.pool import feeding, transfer, warm, worker
from runwide.pool.inplace import InPlaceScheduler
from runwide.pool.shares import shares
from runwide.writing import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from runwide.pool.crew import Timing
    from runwide.pool.lease import Lease
    from runwide.records import TaskEvent


class Base:
    """A pool of workers on the cores of this container; a context manager.

    Args:
        workers: Number of workers; None for `runwide.cores`; ``"per-gpu"`` for one per visible NVIDIA device, each of
            which sees its own alone.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        max_tasks: Tasks after which a worker is replaced by a fresh one.
        max_memory: Resident bytes above which a worker is replaced by a fresh one, once it is free.
        on_event: Called with each `runwide.records.TaskEvent`.
        timing: How long things may take.
        fresh: Start new workers, which end with this pool, in the place of those that are kept between calls.
    """

    outlived = False
    """Whether what it was given is done even when nobody has the pool any more."""

    _apart = False  # whether nobody else has its workers meanwhile
    _threads: int | None = None  # of libraries in each worker; None for its share of the cores

    def __init__(
        self,
        workers: int | str | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks: int | None = None,
        max_memory: int | None = None,
        on_event: Callable[[TaskEvent], None] | None = None,
        timing: Timing | None = None,
        fresh: bool = False,
    ) -> None:
        ending.check_interpreter()
        if isinstance(workers, int) and workers < 1:
            raise InputError(
                f"a pool needs at least one worker, not {workers}", hint="leave workers out for all cores"
            )
        if max_tasks is not None and (not isinstance(max_tasks, int) or max_tasks < 1):
            raise InputError(f"a worker must run at least one task, not {max_tasks!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        shared = shares(workers, each=self._threads)
        definitions.note_initializer(initializer)
        self._initializer = initializer  # functions share its variables for as long as it is there
        if initializer is not None and initargs:
            initializer = partial(initializer, *initargs)
        prepared = None if initializer is None else dump_function(initializer)
        self.workers = shared.workers
        held = _Held()
        self._feeders: set[feeding.Feeder] = set()
        # First of all: Ctrl-C may come at any line from here.
        self._finalizer: weakref.finalize[..., Base] = weakref.finalize(
            self, _leaked, held, type(self).__name__
        )
        self._finalizer.atexit = False
        if worker.inside or multiprocessing.current_process().daemon:  # those may not start processes
            held.lease = InPlaceScheduler(prepared)
        else:
            keep_standard_descriptors()
            wants = warm.Wants(prepared, max_tasks, max_memory, timing)
            held.lease = warm.lease(shared, wants, on_event, fresh=fresh, apart=self._apart)
        self._lease: Lease | InPlaceScheduler = held.lease
        _open.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Workers that leave by themselves close what their tasks have opened.
        self._end(kill=kind is not None)

    def _end(self, *, kill: bool, wait: bool = True) -> None:
        if not kill:
            for feeder in list(self._feeders):  # what was asked for is done, whether or not it is consumed
                feeder.feed_all()
        self._lease.close(kill=kill)
        self._finalizer.detach()  # not before: Ctrl-C may come in between
        if wait and not sys.is_finalizing():  # when threads do not run any more
            self._lease.join()
            _open.discard(self)

    def _end_with_program(self) -> None:
        """What becomes of a pool that is still open when the program ends."""
        self._end(kill=True)

    def kill(self) -> None:
        """Stop the workers at once, without finishing; from any thread."""
        self._end(kill=True)


def dump_function(function: Any) -> transfer.Dumped:
    """Pickle a function for the workers.

    Raises:
        FunctionNotPicklable: It, or something that it closes over, cannot be pickled.
        PoolClosed: The interpreter has shut down.
    """
    return pickled.dumped(function, transfer.dump_by_value)


_open: weakref.WeakSet[Base] = weakref.WeakSet()
_finishing: weakref.WeakSet[Lease | InPlaceScheduler] = weakref.WeakSet()


def let_finish(lease: Lease | InPlaceScheduler) -> None:
    """Have the program wait for a lease before it ends, though nobody else does."""
    _finishing.add(lease)


class _Held:
    """What a pool has opened so far, for its finalizer."""

    __slots__ = ("lease",)

    def __init__(self) -> None:
        self.lease: Lease | InPlaceScheduler | None = None


def _leaked(held: _Held, name: str) -> None:
    if held.lease is not None:
        held.lease.close(kill=True)
        warn_of_leak(name)


def warn_of_leak(name: str) -> None:
    """Say that a pool was dropped without having been closed."""
    warnings.warn(f"a runwide.{name} was not closed; use it in a with block", ResourceWarning, stacklevel=3)


def _abandon_all() -> None:
    """In a fork, the pools are those of the parent: neither closed nor reported as leaked here."""
    for pool in list(_open):
        pool._finalizer.detach()  # noqa: SLF001 - of this module's own class
    _open.clear()
    feeding.forget_all()


os.register_at_fork(after_in_child=_abandon_all)


@atexit.register
def _close_all() -> None:
    feeding.stop_all()  # their iterables may wait for ever
    for pool in list(_open):
        pool._end_with_program()  # noqa: SLF001 - of this module's own class
    for lease in list(_finishing):
        lease.join()
    warm.shutdown()
