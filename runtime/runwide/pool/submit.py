"""Run single calls: each is an item of one standing call, and has a future."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from runwide import calls
from runwide.errors import PoolClosed
from runwide.pool.base import dump_function
from runwide.pool.call import Call, Source
from runwide.pool.sinks import Futures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.inplace import InPlaceScheduler
    from runwide.pool.lease import Lease
    from runwide.pool.policy import Budget
    from runwide.records import Failure


class Submitter:
    """Sends single calls to workers.

    Args:
        lease: The lease of the pool.
        budget: The attempts and the time that each call may use.
        exception: Returns the exception of a failed call.
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
        """Schedule one call.

        Raises:
            PoolClosed: The pool takes no more calls.
        """
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
        payload = self._lease.function_payload(dump_function(calls.apply))
        self._call = Call(
            payload, Source(closed=False), self._sink, self._budget, indices=self._indices, hungry=True
        )
        self._lease.start(self._call)
        return self._call
