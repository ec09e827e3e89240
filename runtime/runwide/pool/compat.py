"""`Pool`: the interface of ``multiprocessing.Pool`` on the physical cores, in which a death costs one task."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import ended, standard
from runwide.async_result import AsyncResult
from runwide.calls import Starred
from runwide.errors import FunctionNotPicklable, InputError, PoolClosed
from runwide.options import POOL, WorkerOptions
from runwide.pool import raised, streams
from runwide.pool.base import Base, dump_function
from runwide.pool.call import Call, Source
from runwide.pool.feeding import Feeder, taken
from runwide.pool.policy import Budget
from runwide.pool.sinks import Everything
from runwide.pool.submit import Submitter
from runwide.signatures import taking
from runwide.unpicklable import raised_by_pickle, raising_what_pickle_raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from runwide.async_result import Callback
    from runwide.pool.transfer import Dumped
    from runwide.records import Outcome, TaskEvent

_NOT_RUNNING = "Pool not running"


@taking(WorkerOptions, POOL)
class Pool(Base):
    """Runs functions in worker processes, one per physical core, with the methods of ``multiprocessing.Pool``.

    ``from runwide import Pool`` in the place of ``from multiprocessing import Pool`` is all that changes. Functions may be
    closures, lambdas or nested; a worker that dies fails its own task and no other.

    Args:
        processes: Number of workers; None for one per physical core.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        maxtasksperchild: Tasks after which a worker is replaced by a fresh one.
        **options: As in `runwide.options.WorkerOptions`.

    Example:
        >>> with runwide.Pool(processes=2) as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        on_event: Callable[[TaskEvent], None] | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        given = {**options, "initializer": initializer, "initargs": initargs, "on_event": on_event}
        chosen = standard.chosen(
            POOL, given, (processes, standard.PROCESSES), (maxtasksperchild, standard.MAXTASKSPERCHILD)
        )
        with raising_what_pickle_raised():
            super().__init__(
                chosen.workers, initializer=chosen.initializer, initargs=chosen.initargs, max_tasks=chosen.max_tasks,
                max_memory=chosen.max_memory, on_event=chosen.on_event, fresh=True,
            )  # fmt: skip
        self._chosen = chosen
        self._budget = Budget(chosen.retries, chosen.max_crashes, chosen.timeout)
        self._submitter = Submitter(self._lease, self._budget, raised.in_pool)
        self._closed = False

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function in a worker and return its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `apply`, but returns at once."""
        result = AsyncResult(callback, error_callback, self)
        with self._running():
            # What cannot be unpacked fails in the worker: the error is that of the result.
            given = tuple(args) if isinstance(args, Iterable) else args
            named = dict(kwds) if isinstance(kwds, Mapping) else {} if kwds is None else kwds
            future = self._submitter.submit(func, given, named)
        future.add_done_callback(result.take)
        return result

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Apply the function to each item; results in order."""
        results: list[Any] = self.map_async(func, iterable, chunksize).get()
        return results

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `map`, but returns when all items have been taken; the first tasks run meanwhile."""
        result = AsyncResult(callback, error_callback, self)
        with self._running():
            size = standard.positive(chunksize, standard.POOL_CHUNKSIZE)
            try:
                dumped = dump_function(func)
            except FunctionNotPicklable as error:
                result.settle([], raised_by_pickle(error) if list(iterable) else None)
            else:
                self._start(dumped, iterable, size, result)
        return result

    def _start(self, dumped: Dumped, iterable: Iterable[Any], size: int | None, result: AsyncResult) -> None:
        items = taken(iterable)
        source = Source(closed=False) if items is None else Source(items)
        sink = _Notifying(result)
        payload = self._lease.function_payload(dumped)
        call = Call(payload, source, sink, self._budget, chunksize=size)
        feeder = Feeder(call, iterable, self._lease.ring)
        sink.fed_by(feeder)
        self._lease.start(call)
        try:
            feeder.begin()
        except BaseException:
            self._lease.cancel(call)
            raise

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with each item unpacked into arguments."""
        return self.map(Starred(func), iterable, chunksize)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `starmap`, but returns at once."""
        return self.map_async(Starred(func), iterable, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Results in order, each as soon as those before it are there; items are taken a bounded number ahead.

        An exception takes the place of a result, and the iterator goes on after it. What the iterable raises comes after
        the results of the items before it. ``next(timeout)`` of the iterator raises ``multiprocessing.TimeoutError`` if the
        result is not there in time.
        """
        return self._stream(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As `imap`, in the order in which they finish."""
        return self._stream(func, iterable, chunksize)

    def __enter__(self) -> Self:
        with self._running():
            self._lease.check_open()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def close(self) -> None:
        """Take no more tasks; workers leave when those submitted are done."""
        self._submitter.close()
        self._end(kill=False, wait=False)

    def terminate(self) -> None:
        """Stop at once, without finishing."""
        self._end(kill=True)

    def join(self) -> None:
        """Wait for the workers to leave, after `close` or `terminate`."""
        if not self._closed:
            raise InputError("Pool is still running")
        self._end(kill=False)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _end(self, *, kill: bool, wait: bool = True) -> None:
        self._closed = True
        super()._end(kill=kill, wait=wait)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Say in the standard library's words that the pool was closed, also where that happens meanwhile."""
        if self._closed:
            raise PoolClosed(_NOT_RUNNING)
        try:
            yield
        except PoolClosed:
            if not self._closed:
                raise
            raise PoolClosed(_NOT_RUNNING) from None

    def _stream(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        *,
        ordered: bool = False,
    ) -> Arriving:
        patience = streams.Patience(lasts=True)
        with self._running():
            size = standard.positive(chunksize, standard.POOL_CHUNKSIZE)
            try:
                dumped = dump_function(func)
            except FunctionNotPicklable as error:
                return Arriving(streams.refused(iterable, raised_by_pickle(error)), patience)
            outcomes = streams.stream(
                self, dumped, iterable, self._budget, chunksize=size, patience=patience, ordered=ordered
            )
        return Arriving(outcomes, patience)


class Arriving:
    """The results of `Pool.imap`: an iterator, as ``multiprocessing.pool.IMapIterator``.

    Args:
        outcomes: Of the items.
        patience: How long ``outcomes`` waits for the next.
    """

    def __init__(self, outcomes: Iterator[Outcome], patience: streams.Patience) -> None:
        self._outcomes = outcomes
        self._patience = patience
        self._lock = threading.Lock()  # threads may share it

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next result, so many seconds at most.

        Raises:
            multiprocessing.TimeoutError: It is not there yet; it may be asked for again.
            StopIteration: There are no more.
            Exception: Whatever the function raised for this item; the next result may be asked for.
        """
        with self._lock:
            self._patience.until = None if timeout is None else time.monotonic() + timeout
            outcome = next(self._outcomes)
        if outcome is streams.LATE:
            raise multiprocessing.TimeoutError(f"no result within {timeout} s")
        if outcome.failure is not None:
            raise raised.in_pool(outcome.failure)
        return outcome.value

    def __next__(self) -> Any:
        return self.next()

    def close(self) -> None:
        """Leave it: tasks that have not ended are stopped, as where nobody has the iterator any more."""
        with ended.closed_after(self._outcomes):
            pass


class _Notifying(Everything):
    """All results of one map, handed to an `AsyncResult` at the end."""

    def __init__(self, result: AsyncResult) -> None:
        super().__init__()
        self._result = result

    def finished(self) -> None:
        super().finished()
        error = None
        if self.failures:
            in_pool = partial(raised.in_pool, exception=ended.exception_of)
            error = ended.first_error(self.failures, self.results, in_pool)
        self._result.settle(self.results if error is None else None, error)

    def broken(self, error: BaseException) -> None:
        super().broken(error)
        self._result.settle(None, error)
