"""The pool whose calls run on a place: `runwide.Pool` with ``on=``."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from runwide import standard
from runwide.async_result import AsyncResult
from runwide.batches import Batches, Call, checked
from runwide.errors import InputError, PoolClosed
from runwide.options import POOL, WorkerOptions
from runwide.pools import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from typing_extensions import Self, Unpack

    from runwide.async_result import Callback
    from runwide.records import TaskEvent

_NOT_RUNNING = "Pool not running"


class PlacedPool(Pool):
    """Runs functions on a place, such as components.

    Args:
        processes: Worker processes in each component; None for one per physical core.
        initializer: As for `runwide.Pool`.
        initargs: As for `runwide.Pool`.
        maxtasksperchild: As for `runwide.Pool`.
        on: Where.
        name: Refused, as are the next two.
        reuse: About jobs with a name.
        store: The place has one.
        on_event: As for `runwide.Pool`.
        **options: As in `runwide.options.WorkerOptions`.

    Raises:
        InputError: An option cannot be honoured there.
    """

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
        """As `apply`, but returns at once."""
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
        """As `map`, but returns when all items have been taken."""
        return self._all([Call(func, (item,), {}) for item in iterable], chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `starmap`, but returns when all items have been taken."""
        return self._all(
            [Call(func, tuple(item), {}) for item in iterable], chunksize, callback, error_callback
        )

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Results in order, each as soon as it and those before it are stored; all items are taken now.

        An exception takes the place of a result, and the iterator goes on after it. ``next(timeout)`` of the iterator raises
        ``multiprocessing.TimeoutError`` if the result is not there in time.
        """
        return _Results(self._items(func, iterable, chunksize), self, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As `imap`, in the order in which they are stored."""
        return _Results(self._items(func, iterable, chunksize), self, ordered=False)

    def close(self) -> None:
        """Take no more tasks."""
        self._closed = True
        self._batches.close()

    def terminate(self) -> None:
        """Stop at once: cancel the run and all tasks that were not sent."""
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
    """Refuse a wrong number; a right one changes nothing: components choose how many items travel to a worker together."""
    standard.positive(chunksize, standard.POOL_CHUNKSIZE)


class _Together:
    """Settles one result when all of some futures have ended."""

    def __init__(self, futures: list[Future[Any]], result: AsyncResult) -> None:
        self._futures = futures
        self._result = result
        self._left = len(futures)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Listen to them."""
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
        self._pool = pool  # kept until then
        self._left = len(futures)
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._turns = deque(futures) if ordered else None
        if not ordered:
            for future in futures:
                future.add_done_callback(self._ended.put)

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next result, so many seconds at most.

        Raises:
            multiprocessing.TimeoutError: It is not there yet; it may be asked for again.
            StopIteration: There are no more.
            Exception: Whatever the function raised for this item; the next result may be asked for.
        """
        if not self._left:
            raise StopIteration
        future = self._ended_one(None if timeout is None else time.monotonic() + timeout)
        if future is None:
            raise multiprocessing.TimeoutError(f"no result within {timeout} s")
        self._left -= 1
        error = _error_of(future)
        if error is not None:
            raise error
        return future.result()

    def __next__(self) -> Any:
        return self.next()

    def _ended_one(self, deadline: float | None) -> Future[Any] | None:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self._turns is None:
            try:
                return self._ended.get(timeout=wait)
            except queue.Empty:
                return None
        from concurrent.futures import wait as wait_for

        if not wait_for([self._turns[0]], wait).done:
            return None
        return self._turns.popleft()  # kept no longer
