"""`Executor`: a ``concurrent.futures.Executor`` on the physical cores; the death of a worker costs one task."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

from runwide import ended, ending, executors, standard
from runwide.calls import Starred
from runwide.errors import FunctionNotPicklable, PoolClosed, StopIterationRaised
from runwide.options import EXECUTOR, Options
from runwide.pool import raised, streams
from runwide.pool.base import Base, dump_function, let_finish, warn_of_leak
from runwide.pool.feeding import ALL
from runwide.pool.policy import Budget
from runwide.pool.submit import Submitter
from runwide.unpicklable import raised_by_pickle, raising_what_pickle_raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Unpack

    from runwide.pool.inplace import InPlaceScheduler
    from runwide.pool.lease import Lease

_AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
_AFTER_INTERPRETER = "cannot schedule new futures after interpreter shutdown"


class Executor(Base, executors.Executor):
    """`runwide.Executor` on the cores of this container."""

    is_chosen = True
    outlived = True  # futures outlive the standard executor too
    _indices: Sequence[int] | None = None
    _exception_of = staticmethod(raised.in_executor)
    _apart = True  # its tasks may wait for tasks of another executor
    _ends_with_main = True
    _is_shut = False

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        max_tasks_per_child: int | None = None,
        on: Any = None,
        **options: Unpack[Options],
    ) -> None:
        if on is not None:
            executors.take_place(self, executors.Executor).__init__(
                self, max_workers, max_tasks_per_child=max_tasks_per_child, on=on, **options
            )
            return
        self._check_open()
        chosen = standard.chosen(
            EXECUTOR,
            options,
            (max_workers, standard.MAX_WORKERS),
            (max_tasks_per_child, standard.MAX_TASKS_PER_CHILD),
        )
        with raising_what_pickle_raised():
            super().__init__(chosen)
        self._budget = Budget.of(chosen)
        self._submitter = Submitter(self._lease, self._budget, self._exception_of, self._indices)
        dropped: weakref.finalize[..., Base] = weakref.finalize(self, _dropped, self._submitter, self._lease)
        dropped.atexit = False
        self._finalizer.detach()
        self._finalizer = dropped

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)``, and return its future.

        Raises:
            PoolClosed: The executor is shut down, or the program's main thread has ended: a ``RuntimeError``.
        """
        self._check_open()
        try:
            return self._submitter.submit(fn, args, kwargs)
        except PoolClosed:
            self._check_open()  # it may have been shut down meanwhile
            raise

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Return the results of ``fn`` over the zipped iterables, in order. The work starts at once.

        Args:
            fn: Takes one item of each iterable.
            *iterables: Read to the end now, unless ``buffersize`` is given. A task may start as soon as its items are read.
            timeout: Seconds from this call until which the next result must be there; otherwise ``TimeoutError``.
            chunksize: Fixed number of items that travel together; None adapts it to the measured task time.
            buffersize: Read at most this many items ahead of the consumed results. Reading that may take time happens on
                a thread. After `shutdown`, no more items are read.

        Raises:
            PoolClosed: As for `submit`.
            Exception: The iterables' own. If ``buffersize`` is given, the iterator raises it, after the results of the
                earlier items.
        """
        size = standard.positive(chunksize, standard.CHUNKSIZE)
        ahead = standard.positive(buffersize, standard.BUFFERSIZE) or ALL
        deadline = None if timeout is None else time.monotonic() + timeout
        self._check_open()
        several = len(iterables) != 1
        items: Iterable[Any] = zip(*iterables) if several else iterables[0]  # noqa: B905 - the shortest ends it
        try:
            outcomes = streams.stream(
                self,
                dump_function(Starred(fn) if several else fn),
                items,
                self._budget,
                chunksize=size,
                ahead=ahead,
                patience=streams.Patience(deadline),
                ordered=True,
            )
        except FunctionNotPicklable as error:
            return streams.refused(items, raised_by_pickle(error))
        except StopIteration as error:  # the caller may be a generator
            raise StopIterationRaised("the iterable raised StopIteration") from error
        except PoolClosed:
            self._check_open()  # it may have been shut down meanwhile
            raise
        return ended.values(outcomes, "raise", self._exception_of)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's
        """Take no more calls, and free the workers when the submitted calls are done.

        Args:
            wait: Return only when the workers are free.
            cancel_futures: Cancel the calls that have not started.
        """
        self._is_shut = True
        self._finish(_AFTER_SHUTDOWN, wait=wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """Stop the workers at once, without finishing; from any thread."""
        self._is_shut = True
        super().kill()

    def _finish(self, why: str, *, wait: bool = True, cancel_futures: bool = False) -> None:
        for feeder in list(self._feeders):
            if not feeder.at_hand:  # its iterable may be endless
                feeder.stop(PoolClosed(why))
        self._submitter.close(cancel=cancel_futures)
        let_finish(self._lease)
        self._end(kill=False, wait=wait)

    def _end_with_program(self) -> None:
        self._finish(_AFTER_INTERPRETER)

    def _check_open(self) -> None:
        if self._is_shut:
            raise PoolClosed(_AFTER_SHUTDOWN)
        if ending.is_over(with_main=self._ends_with_main):
            raise PoolClosed(_AFTER_INTERPRETER)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.kill()  # at Ctrl-C, the user does not want to wait for the rest
        else:
            self.shutdown()


def _dropped(submitter: Submitter, lease: Lease | InPlaceScheduler) -> None:
    submitter.close()
    lease.close()
    let_finish(lease)
    warn_of_leak("Executor")
