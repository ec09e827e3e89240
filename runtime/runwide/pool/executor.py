"""`Executor`: a ``concurrent.futures.Executor`` on the physical cores, in which a death costs one task."""

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
from runwide.signatures import taking
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


@taking(Options, EXECUTOR)
class Executor(Base, executors.Executor):
    """Runs calls in worker processes, one per physical core.

    Whatever takes a ``concurrent.futures.Executor`` takes it. Functions may be closures, lambdas or nested. A worker that
    dies fails the future of the task that it ran, with `runwide.errors.WorkerDied` (a ``BrokenProcessPool``), after one
    more try; every other future is served, and so are later ones.

    Args:
        max_workers: Number of workers; None for one per physical core.
        max_tasks_per_child: Tasks after which a worker is replaced by a fresh one.
        on: As for `runwide.Executor`, which chooses another class where one is given.
        **options: As in `runwide.options.Options`.

    Raises:
        InputError: A number is too small, or an option is about all items of one call, which there is not.

    Example:
        >>> with runwide.Executor(max_workers=2) as executor:
        ...     executor.submit(pow, 2, 10).result()
        1024
    """

    is_chosen = True
    outlived = True  # as the standard executor is by its futures
    _indices: Sequence[int] | None = None
    _exception_of = staticmethod(raised.in_executor)
    _apart = True  # its tasks may wait for those of another one
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
            executors.take_place(self).__init__(
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
            super().__init__(
                chosen.workers, initializer=chosen.initializer, initargs=chosen.initargs, max_tasks=chosen.max_tasks,
                max_memory=chosen.max_memory, on_event=chosen.on_event, fresh=chosen.fresh,
            )  # fmt: skip
        self._budget = Budget(chosen.retries, chosen.max_crashes, chosen.timeout)
        self._submitter = Submitter(self._lease, self._budget, self._exception_of, self._indices)
        dropped: weakref.finalize[..., Base] = weakref.finalize(self, _dropped, self._submitter, self._lease)
        dropped.atexit = False
        self._finalizer.detach()
        self._finalizer = dropped

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)``; returns its future.

        Raises:
            PoolClosed: The executor is shut down, or the program's main thread has ended: a ``RuntimeError``.
        """
        self._check_open()
        try:
            return self._submitter.submit(fn, args, kwargs)
        except PoolClosed:
            self._check_open()  # it was shut down meanwhile
            raise

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Results of ``fn`` over the zipped iterables, in order, computed at once.

        Args:
            fn: Takes one item of each iterable.
            *iterables: Taken whole now, unless ``buffersize`` is given; each task may start as soon as its items are there.
            timeout: Seconds from this call within which the next result must be there, else ``TimeoutError``.
            chunksize: Fixed number of items that travel together; None adapts it to the measured task time.
            buffersize: Take no more than so many items ahead of the results that were consumed, on a thread where that
                may take time; after `shutdown` no more are taken.

        Raises:
            PoolClosed: As of `submit`.
            Exception: The iterables' own, unless ``buffersize`` is given: then the iterator raises it, after the results of
                the items before it.
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
            self._check_open()  # it was shut down meanwhile
            raise
        return ended.values(outcomes, "raise", self._exception_of)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's
        """Take no more calls; free the workers when those submitted are done.

        Args:
            wait: Return only when that has happened.
            cancel_futures: Cancel what has not started.
        """
        self._is_shut = True
        self._finish(_AFTER_SHUTDOWN, wait=wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """Stop the workers at once, without finishing; from any thread."""
        self._is_shut = True
        super().kill()

    def _finish(self, why: str, *, wait: bool = True, cancel_futures: bool = False) -> None:
        for feeder in list(self._feeders):
            if not feeder.at_hand:  # it may be endless
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
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C: nobody wants to wait for the rest
            self.kill()
        else:
            self.shutdown()


def _dropped(submitter: Submitter, lease: Lease | InPlaceScheduler) -> None:
    submitter.close()
    lease.close()
    let_finish(lease)
    warn_of_leak("Executor")
