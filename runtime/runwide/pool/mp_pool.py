"""`Pool`: the interface of ``multiprocessing.Pool`` on the physical cores."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide.api.callbacks import AsyncResult
from runwide.api.functions import Starred
from runwide.errors import FunctionNotPicklable, InputError, PoolClosed
from runwide.options import standard
from runwide.options.record import POOL, WorkerOptions
from runwide.outcomes import exception_of, first_error
from runwide.pickling.unpicklable import raised_by_pickle, raising_what_pickle_raised
from runwide.pool import base, executor
from runwide.pool.base import Base, dump_function
from runwide.pool.executor import Submitter
from runwide.pool.policy import Budget
from runwide.pool.sinks import Everything

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from runwide.api.callbacks import Callback
    from runwide.events.model import TaskEvent
    from runwide.records import Outcome

_NOT_RUNNING = "Pool not running"


class Pool(Base):
    """`runwide.Pool` on the cores of this container, without a store."""

    _fresh = True

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
            super().__init__(chosen)
        self._chosen = chosen
        self._budget = Budget.of(chosen)
        self._submitter = Submitter(self._lease, self._budget, executor.in_pool)
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
        """Start a call, and return its result to come."""
        result = AsyncResult(callback, error_callback, self)
        with self._running():
            # Arguments that cannot be unpacked fail in the worker, so that the result has the error.
            given = tuple(args) if isinstance(args, Iterable) else args
            named = dict(kwds) if isinstance(kwds, Mapping) else {} if kwds is None else kwds
            future = self._submitter.submit(func, given, named)
        future.add_done_callback(result.take)
        return result

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Apply the function to each item, and return the results in order."""
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
        """Start a map, and return when all items have been read. The first tasks run meanwhile."""
        result = AsyncResult(callback, error_callback, self)
        with self._running():
            size = standard.positive(chunksize, standard.POOL_CHUNKSIZE)
            try:
                dumped = dump_function(func)
            except FunctionNotPicklable as error:
                result.settle([], raised_by_pickle(error) if list(iterable) else None)
            else:
                sink = _Notifying(result)
                self._begin(*self._prepare(dumped, iterable, sink, self._budget, chunksize=size))
        return result

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Run `map` with each item unpacked into arguments."""
        return self.map(Starred(func), iterable, chunksize)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Run `map_async` with each item unpacked into arguments."""
        return self.map_async(Starred(func), iterable, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Return an iterator of the results in order; a bounded number of items is read ahead.

        The iterator raises a task's exception instead of its result, and then goes on. An exception of the iterable comes
        after the results of the earlier items. ``next(timeout)`` of the iterator raises ``multiprocessing.TimeoutError`` if
        the result is not there in time.
        """
        return self._stream(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Return an iterator of the results in the order in which they finish."""
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
        """Take no more tasks; workers leave when the submitted tasks are done."""
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
        """Raise the standard library's error if the pool is closed now or during the block."""
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
        patience = base.Patience(lasts=True)
        with self._running():
            size = standard.positive(chunksize, standard.POOL_CHUNKSIZE)
            try:
                dumped = dump_function(func)
            except FunctionNotPicklable as error:
                return Arriving(base.refused(iterable, raised_by_pickle(error)), patience)
            outcomes = base.stream_outcomes(
                self, dumped, iterable, self._budget, chunksize=size, patience=patience, ordered=ordered
            )
        return Arriving(outcomes, patience)


class Arriving:
    """An iterator of the results of `Pool.imap`, like ``multiprocessing.pool.IMapIterator``."""

    def __init__(self, outcomes: Generator[Outcome, None, None], patience: base.Patience) -> None:
        self._outcomes = outcomes
        self._patience = patience
        self._lock = threading.Lock()  # threads may share it

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next result, at most this many seconds.

        Raises:
            multiprocessing.TimeoutError: The result is not there yet; call again to wait longer.
            StopIteration: There are no more results.
            Exception: The function raised it for this item; call again for the next result.
        """
        with self._lock:
            self._patience.until = None if timeout is None else time.monotonic() + timeout
            outcome = next(self._outcomes)
        if outcome is base.LATE:
            raise multiprocessing.TimeoutError(f"no result within {timeout} s")
        if outcome.failure is not None:
            raise executor.in_pool(outcome.failure)
        return outcome.value

    def __next__(self) -> Any:
        return self.next()

    def close(self) -> None:
        """Stop the tasks that have not ended, as when the last reference to the iterator is gone."""
        self._outcomes.close()


class _Notifying(Everything):
    """A sink that passes all results of one map to an `AsyncResult` at the end."""

    def __init__(self, result: AsyncResult) -> None:
        super().__init__()
        self._result = result

    def finished(self) -> None:
        super().finished()
        error = None
        if self.failures:
            in_pool = partial(executor.in_pool, exception=exception_of)
            error = first_error(self.failures, self.results, in_pool)
        self._result.settle(self.results if error is None else None, error)

    def broken(self, error: BaseException) -> None:
        super().broken(error)
        self._result.settle(None, error)
