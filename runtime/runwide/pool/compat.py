"""`Pool`: the interface of ``multiprocessing.Pool`` on the physical cores, in which a death costs one task."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import ended
from runwide.errors import FunctionNotPicklable, InputError, PoolClosed, StopIterationRaised
from runwide.pool import raised, standard, streams
from runwide.pool.applied import Starred
from runwide.pool.base import Base, dump_function
from runwide.pool.call import Call, Source
from runwide.pool.feeding import Feeder, taken
from runwide.pool.policy import Budget
from runwide.pool.sinks import Everything, undisturbed
from runwide.pool.submit import Submitter
from runwide.unpicklable import raised_by_pickle, raising_what_pickle_raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from runwide.pool.transfer import Dumped
    from runwide.records import Outcome

    Callback = Callable[[Any], object] | None

_NOT_RUNNING = "Pool not running"


class Pool(Base):
    """Runs functions in worker processes, one per physical core, with the methods of ``multiprocessing.Pool``.

    ``from runwide import Pool`` in the place of ``from multiprocessing import Pool`` is all that changes. Functions may be
    closures, lambdas or nested; a worker that dies fails its own task and no other.

    Args:
        processes: Number of workers; None for one per physical core.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        maxtasksperchild: Tasks after which a worker is replaced by a fresh one.
        timeout: Seconds that one attempt at one task may take before its worker is stopped.
        retries: Further attempts after an exception.

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
        timeout: float | None = None,
        retries: int = 0,
    ) -> None:
        workers = standard.workers(processes, standard.PROCESSES)
        max_tasks = standard.positive(maxtasksperchild, standard.MAXTASKSPERCHILD)
        with raising_what_pickle_raised():
            super().__init__(
                workers, initializer=initializer, initargs=tuple(initargs), max_tasks=max_tasks, fresh=True
            )
        self._budget = Budget(retries=retries, timeout=timeout)
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
        with streams.closed_after(self._outcomes):
            pass


class AsyncResult:
    """A result to come, as ``multiprocessing.pool.AsyncResult``.

    Args:
        callback: Called with the value.
        error_callback: Called with the exception.
        pool: Kept until then.
    """

    def __init__(
        self, callback: Callback = None, error_callback: Callback = None, pool: Pool | None = None
    ) -> None:
        self._pool = pool
        self._ended = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._callback = callback
        self._error_callback = error_callback

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result, so many seconds at most.

        Raises:
            multiprocessing.TimeoutError: It is not there yet.
            Exception: Whatever the function raised.
        """
        if not self._ended.wait(timeout):
            raise multiprocessing.TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, so many seconds at most."""
        self._ended.wait(timeout)

    def ready(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    def successful(self) -> bool:
        """Whether it has ended without an exception.

        Raises:
            ValueError: It has not ended.
        """
        if not self.ready():
            raise InputError(f"{self!r} not ready")
        return self._error is None

    def take(self, future: Future[Any]) -> None:
        """End as a future has."""
        error = future.exception()
        if isinstance(error, StopIterationRaised):  # which `get` may raise itself
            error = error.__cause__
        self.settle(None if error is not None else future.result(), error)

    def settle(self, value: Any, error: BaseException | None) -> None:
        """End with a value or an error, and call back."""
        self._value, self._error = value, error
        callback = self._callback if error is None else self._error_callback
        if callback is not None:
            undisturbed(callback, value if error is None else error)
        self._pool = None
        self._ended.set()


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
