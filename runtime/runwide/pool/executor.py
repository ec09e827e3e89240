"""`Executor`: a ``concurrent.futures.Executor`` on the physical cores."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from runwide import interpreter, naming
from runwide.api import functions, pools
from runwide.api.functions import Starred
from runwide.errors import FunctionNotPicklable, PoolClosed, ResultNotPicklable, StopIterationRaised
from runwide.options import standard
from runwide.options.record import EXECUTOR, Options
from runwide.outcomes import portable_exception_of, values
from runwide.pickling.unpicklable import raised_by_pickle, raising_what_pickle_raised
from runwide.pool import base, resources
from runwide.pool.base import Base, dump_function, let_finish, warn_of_leak
from runwide.pool.call import Call, Source
from runwide.pool.feeding import ALL
from runwide.pool.policy import Budget
from runwide.pool.sinks import Futures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Unpack

    from runwide.pool.leases import InPlaceScheduler, Lease
    from runwide.records import Failure


def in_executor(failure: Failure) -> BaseException:
    """Return the exception that a ``ProcessPoolExecutor`` raises: if pickling failed, the one that pickling raised.

    Example:
        >>> from runwide.errors import ItemNotPicklable
        >>> from runwide.records import Failure
        >>> from runwide.records import FailureKind
        >>> error = naming.caused(ItemNotPicklable("no", item=2), TypeError("cannot pickle"))
        >>> in_executor(Failure(2, FailureKind.PICKLING, "ItemNotPicklable", "no", exception=error))
        TypeError('cannot pickle')
    """
    return raised_by_pickle(portable_exception_of(failure))


def in_pool(
    failure: Failure, exception: Callable[[Failure], BaseException] = portable_exception_of
) -> BaseException:
    """Return the exception that ``multiprocessing.Pool`` raises: for a result, a ``MaybeEncodingError``."""
    error = exception(failure)
    if isinstance(error, ResultNotPicklable):
        return naming.caused(_maybe_encoding_error(error), error)
    return raised_by_pickle(error)


def _maybe_encoding_error(error: ResultNotPicklable) -> BaseException:
    resources.import_modules("multiprocessing.pool")
    # Loaded here, since it is rarely needed; typeshed does not list it.
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    cause = error.__cause__
    reason = error.message if cause is None else f"{type(cause).__name__}({naming.text_of(cause)!r})"
    raised: Exception = MaybeEncodingError(None, None)
    raised.args = reason, error.value  # set afterwards, since the constructor would quote them again
    vars(raised).update(exc=reason, value=error.value)
    return raised


class Submitter:
    """Sends single calls to workers.

    Args:
        indices: Numbers of the calls, which workers show; None for 0, 1, ….
    """

    def __init__(
        self,
        lease: Lease | InPlaceScheduler,
        budget: Budget,
        exception: Callable[[Failure], BaseException],
        indices: Sequence[int] | None = None,
    ) -> None:
        self._lease = lease
        self._budget = budget
        self._exception = exception
        self._indices = indices
        self._sink = Futures(exception)  # of the standing call
        self._call: Call | None = None
        self._submitted = 0
        self._closed = False
        self._lock = threading.Lock()

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """Schedule one call."""
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise PoolClosed("the pool is closed", hint="make a new one")
            self._lease.check_open()
            call = self._call
            if call is None or call.over:
                call = self._open()
            self._sink.expect(self._submitted, future)
            self._submitted += 1
            call.source.put((function, args, kwargs))
        if call.hungry:
            call.hungry = False
            self._lease.ring()
        return future

    def close(self, *, cancel: bool = False) -> None:
        """Take no more calls; with ``cancel``, cancel those that have not started."""
        with self._lock:
            self._closed = True
            if cancel:
                self._sink.cancel_pending()
            if self._call is not None:
                self._call.source.close()
        self._lease.ring()

    def _open(self) -> Call:
        """Start a standing call: the first one, or a new one after one that could not go on."""
        self._sink = Futures(self._exception)
        self._submitted = 0
        payload = self._lease.function_payload(dump_function(functions.apply))
        self._call = Call(
            payload, Source(closed=False), self._sink, self._budget, indices=self._indices, hungry=True
        )
        self._lease.start(self._call)
        return self._call


_AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
_AFTER_INTERPRETER = "cannot schedule new futures after interpreter shutdown"


class Executor(Base, pools.Executor):
    """`runwide.Executor` on the cores of this container."""

    is_chosen = True
    outlived = True  # futures outlive the standard executor too
    _indices: Sequence[int] | None = None
    _exception_of = staticmethod(in_executor)
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
            pools.take_place(self, pools.Executor).__init__(
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
            outcomes = base.stream_outcomes(
                self,
                dump_function(Starred(fn) if several else fn),
                items,
                self._budget,
                chunksize=size,
                ahead=ahead,
                patience=base.Patience(deadline),
                ordered=True,
            )
        except FunctionNotPicklable as error:
            return base.refused(items, raised_by_pickle(error))
        except StopIteration as error:  # the caller may be a generator
            raise StopIterationRaised("the iterable raised StopIteration") from error
        except PoolClosed:
            self._check_open()  # it may have been shut down meanwhile
            raise
        return values(outcomes, "raise", self._exception_of)

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
        if interpreter.is_over(with_main=self._ends_with_main):
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
