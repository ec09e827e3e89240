"""`Pool`: the interface of ``multiprocessing.Pool`` on the physical cores, in which a death costs one task."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, StopIterationRaised
from runwide.pool import policy, reserve, streams
from runwide.pool.applied import Starred
from runwide.pool.base import Base, dump_function
from runwide.pool.call import Call, Source
from runwide.pool.feeding import Feeder, taken
from runwide.pool.policy import Budget
from runwide.pool.sinks import Everything, undisturbed
from runwide.pool.submit import Submitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from runwide.records import Failure

    Callback = Callable[[Any], object] | None


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
        super().__init__(
            processes,
            initializer=initializer,
            initargs=tuple(initargs),
            max_tasks=maxtasksperchild,
            fresh=True,
        )
        self._budget = Budget(retries=retries, timeout=timeout)
        self._submitter = Submitter(self._scheduler, self._budget)
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
        result = AsyncResult(callback, error_callback)
        self._submitter.submit(func, tuple(args), dict(kwds or {})).add_done_callback(result.take)
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
        size = policy.checked_chunksize(chunksize)
        items = taken(iterable)
        source = Source(closed=False) if items is None else Source(items)
        result = AsyncResult(callback, error_callback)
        sink = _Notifying(0 if items is None else len(items), result)
        payload = self._scheduler.function_payload(dump_function(func))
        call = Call(payload, source, sink, self._budget, chunksize=size)
        feeder = Feeder(call, iterable, self._scheduler.ring)
        sink.fed_by(feeder)
        self._scheduler.start(call)
        try:
            feeder.begin()
        except BaseException:
            self._scheduler.cancel(call)
            raise
        return result

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
        """Results in order, each as soon as those before it are there; items are taken a bounded number ahead."""
        return streams.values(self._stream(func, iterable, chunksize, ordered=True), "raise")

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As `imap`, in the order in which they finish."""
        return streams.values(self._stream(func, iterable, chunksize), "raise")

    def __enter__(self) -> Self:
        self._scheduler.check_open()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def close(self) -> None:
        """Take no more tasks; workers leave when those submitted are done."""
        self._closed = True
        self._submitter.close()
        self._end(kill=False, wait=False)

    def terminate(self) -> None:
        """Stop at once, without finishing."""
        self._closed = True
        self._end(kill=True)

    def join(self) -> None:
        """Wait for the workers to leave, after `close` or `terminate`."""
        if not self._closed:
            raise InputError("the pool is still running", hint="call close() or terminate() before join()")
        self._end(kill=False)

    def _stream(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        *,
        ordered: bool = False,
    ) -> Any:
        dumped = dump_function(func)
        return streams.stream(self, dumped, iterable, self._budget, chunksize=chunksize, ordered=ordered)


class AsyncResult:
    """A result to come, as ``multiprocessing.pool.AsyncResult``."""

    def __init__(self, callback: Callback = None, error_callback: Callback = None) -> None:
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
            raise InputError("the result is not ready", hint="wait() for it first")
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
        self._ended.set()


class _Notifying(Everything):
    """All results of one map, handed to an `AsyncResult` at the end."""

    def __init__(self, size: int, result: AsyncResult) -> None:
        super().__init__(size)
        self._result = result

    def finished(self) -> None:
        super().finished()
        error = _first_error(self.failures, self.results)
        self._result.settle(self.results if error is None else None, error)

    def broken(self, error: BaseException) -> None:
        super().broken(error)
        self._result.settle(None, error)


def _first_error(failures: list[Failure], results: list[Any]) -> BaseException | None:
    if not failures:
        return None
    reserve.load("runwide.pool.raised")
    from runwide.pool.raised import first_error  # most runs raise none

    return first_error(failures, results)
