"""`Executor` and `Pool` on a place, such as components."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections import deque
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from runwide.api.batches import Batches, Call, checked, in_time, until_left
from runwide.api.callbacks import AsyncResult
from runwide.api.pools import Executor, Pool
from runwide.errors import InputError, PoolClosed
from runwide.options import standard
from runwide.options.record import EXECUTOR, POOL, Options, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from runwide.api.callbacks import Callback
    from runwide.events.model import TaskEvent


AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"


class PlacedExecutor(Executor):
    """`runwide.Executor` on a place; it rejects ``name``, ``reuse`` and ``store``."""

    is_chosen = True

    def __init__(
        self,
        max_workers: Any = None,
        *,
        on: Any,
        max_tasks_per_child: int | None = None,
        name: str | None = None,
        reuse: str | None = None,
        store: Any = None,
        **options: Unpack[Options],
    ) -> None:
        checked("Executor", on, {"name": name, "reuse": reuse, "store": store})
        chosen = standard.chosen(
            EXECUTOR,
            options,
            (max_workers, standard.MAX_WORKERS),
            (max_tasks_per_child, standard.MAX_TASKS_PER_CHILD),
        )
        self._batches = Batches(on, chosen.given())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)`` and return its future.

        Raises:
            PoolClosed: The executor is shut down; this is a ``RuntimeError``.
        """
        call = Call(fn, args, kwargs)
        self._batches.submit([call], AFTER_SHUTDOWN)
        return call.future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Yield results of ``fn`` over the zipped iterables, in order; all are one job, unless ``buffersize`` is given.

        Args:
            fn: Takes one item of each iterable.
            *iterables: Taken completely now, unless ``buffersize`` is given.
            timeout: Seconds from this call after which ``TimeoutError`` is raised, if the next result has not arrived.
            chunksize: Ignored: components choose how many items travel to a worker together.
            buffersize: Most items to take ahead of the consumed results.
        """
        standard.positive(chunksize, standard.CHUNKSIZE)
        ahead = standard.positive(buffersize, standard.BUFFERSIZE)
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = (Call(fn, args, {}) for args in zip(*iterables))  # noqa: B905 - the shortest ends it
        first = list(calls if ahead is None else islice(calls, ahead))
        self._batches.submit(first, AFTER_SHUTDOWN)
        futures = deque(call.future for call in first)
        del first
        return in_time(until_left(futures) if ahead is None else self._buffered(futures, calls), deadline)

    def _buffered(
        self, futures: deque[Future[Any]], calls: Iterator[Call]
    ) -> Generator[Future[Any], None, None]:
        """Yield futures, and submit one more call after each."""
        with closing(until_left(futures)) as several:
            for future in several:
                yield future
                for call in islice(calls, 1):
                    self._batches.submit([call], AFTER_SHUTDOWN)
                    futures.append(call.future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's
        """Take no more calls.

        Args:
            wait: True to return only when all submitted calls have ended.
            cancel_futures: True to cancel the calls that were not sent.
        """
        self._batches.close(cancel=cancel_futures)
        if wait:
            self._batches.join()

    def kill(self) -> None:
        """Cancel the run and the calls that were not sent, from any thread."""
        self._batches.kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C: do not wait for the other calls
            self.kill()
        self.shutdown()


_NOT_RUNNING = "Pool not running"


class PlacedPool(Pool):
    """`runwide.Pool` on a place; it rejects ``name``, ``reuse`` and ``store``."""

    is_chosen = True

    def __init__(
        self,
        processes: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        on: Any,
        name: str | None = None,
        reuse: str | None = None,
        store: Any = None,
        on_event: Callable[[TaskEvent], None] | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        checked("Pool", on, {"name": name, "reuse": reuse, "store": store})
        given = {**options, "initializer": initializer, "initargs": initargs, "on_event": on_event}
        chosen = standard.chosen(
            POOL, given, (processes, standard.PROCESSES), (maxtasksperchild, standard.MAXTASKSPERCHILD)
        )
        self._batches = Batches(on, chosen.given())
        self._closed = False

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `apply`, but return at once."""
        result = AsyncResult(callback, error_callback, self)
        (future,) = self._submitted([Call(func, tuple(args), dict(kwds or {}))])
        future.add_done_callback(result.take)
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `map`, but return when all items have been taken."""
        return self._all([Call(func, (item,), {}) for item in iterable], chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `starmap`, but return when all items have been taken."""
        return self._all(
            [Call(func, tuple(item), {}) for item in iterable], chunksize, callback, error_callback
        )

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Yield results in order, each as soon as it and all earlier ones are stored; all items are taken now.

        The iterator raises the exception of a failed item, and continues after it. Its ``next(timeout)`` raises
        ``multiprocessing.TimeoutError`` if the result does not arrive in time.
        """
        return _Results(self._items(func, iterable, chunksize), self, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As `imap`, in the order in which results are stored."""
        return _Results(self._items(func, iterable, chunksize), self, ordered=False)

    def close(self) -> None:
        """Take no more tasks."""
        self._closed = True
        self._batches.close()

    def terminate(self) -> None:
        """Cancel the run and all tasks that were not sent."""
        self._closed = True
        self._batches.kill()
        self._batches.join()

    def join(self) -> None:
        """Wait for the tasks to end, after `close` or `terminate`."""
        if not self._closed:
            raise InputError("Pool is still running")
        self._batches.join()

    def __enter__(self) -> Self:
        self._submitted([])
        return self

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _submitted(self, calls: list[Call]) -> list[Future[Any]]:
        self._batches.submit(calls, _NOT_RUNNING)
        return [call.future for call in calls]

    def _items(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None
    ) -> list[Future[Any]]:
        _check(chunksize)
        return self._submitted([Call(func, (item,), {}) for item in iterable])

    def _all(
        self, calls: list[Call], chunksize: int | None, callback: Callback, error_callback: Callback
    ) -> AsyncResult:
        _check(chunksize)
        result = AsyncResult(callback, error_callback, self)
        _Together(self._submitted(calls), result).begin()
        return result


def _check(chunksize: int | None) -> None:
    """Reject an invalid number; a valid one is ignored: components choose how many items travel to a worker together."""
    standard.positive(chunksize, standard.POOL_CHUNKSIZE)


class _Together:
    """Settles a result when all of its futures have ended."""

    def __init__(self, futures: list[Future[Any]], result: AsyncResult) -> None:
        self._futures = futures
        self._result = result
        self._left = len(futures)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Wait for the futures through callbacks."""
        if not self._futures:
            self._result.settle([], None)
        for future in self._futures:
            future.add_done_callback(self._done)

    def _done(self, _: Future[Any]) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        errors = [error for error in map(_error_of, self._futures) if error is not None]
        values = None if errors else [future.result() for future in self._futures]
        self._result.settle(values, errors[0] if errors else None)


def _error_of(future: Future[Any]) -> BaseException | None:
    if future.cancelled():
        return PoolClosed(_NOT_RUNNING)
    return future.exception()


class _Results:
    """The results of `PlacedPool.imap`: an iterator, as ``multiprocessing.pool.IMapIterator``."""

    def __init__(self, futures: list[Future[Any]], pool: PlacedPool, *, ordered: bool) -> None:
        self._pool = pool  # kept alive until all results are consumed
        self._left = len(futures)
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._turns = deque(futures) if ordered else None
        if not ordered:
            for future in futures:
                future.add_done_callback(self._ended.put)

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next result, for at most ``timeout`` seconds.

        Raises:
            multiprocessing.TimeoutError: It has not arrived; call again to wait further.
            StopIteration: There are no more results.
            Exception: The function raised it for this item; call again for the next result.
        """
        if not self._left:
            raise StopIteration
        future = self._next_ended(None if timeout is None else time.monotonic() + timeout)
        if future is None:
            raise multiprocessing.TimeoutError(f"no result within {timeout} s")
        self._left -= 1
        error = _error_of(future)
        if error is not None:
            raise error
        return future.result()

    def __next__(self) -> Any:
        return self.next()

    def _next_ended(self, deadline: float | None) -> Future[Any] | None:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self._turns is None:
            try:
                return self._ended.get(timeout=wait)
            except queue.Empty:
                return None
        from concurrent.futures import wait as wait_for

        if not wait_for([self._turns[0]], wait).done:
            return None
        return self._turns.popleft()  # so that only the caller keeps it
