"""A pool without processes, for use inside a worker: all cores are in use already."""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Any

from runwide.causes import Cause
from runwide.errors import PoolClosed, RemoteTraceback
from runwide.naming import text_of
from runwide.pool import transfer
from runwide.pool.call import Payload
from runwide.pool.policy import Charges
from runwide.records import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.pool.call import Call


class InPlaceScheduler:
    """A replacement of `runwide.pool.lease.Lease` that runs each task at once, in the thread that adds it.

    Args:
        initializer: A pickled callable, which is called once, now.
    """

    def __init__(self, initializer: transfer.Dumped | None = None) -> None:
        self._calls: dict[Call, Callable[[Any], Any]] = {}
        self._lock = threading.RLock()  # a task may itself use the pool
        self._closed = False
        if initializer is not None:
            _load(self.function_payload(initializer))()

    def function_payload(self, dumped: transfer.Dumped) -> Payload:
        """Return a pickled function as `start` loads it."""
        return Payload("", None, (transfer.FRAME, *dumped))

    def check_open(self) -> None:
        """Check that the pool still takes calls.

        Raises:
            PoolClosed: The pool was closed.
        """
        if self._closed:
            raise PoolClosed("the pool is closed", hint="make a new one")

    def start(self, call: Call) -> None:
        """Start a call, and run the items that it has."""
        self.check_open()
        with self._lock:
            self._calls[call] = _load(call.function)
        self.ring()

    def ring(self) -> None:
        """Run the items that have come."""
        with self._lock:
            for call, function in list(self._calls.items()):
                self._run(call, function)

    def _run(self, call: Call, function: Callable[[Any], Any]) -> None:
        call.hungry = True
        while not call.over and call.source.available():
            tasks = call.source.take(1)
            if call.sink.claim(tasks.first):
                _run_task(call, function, tasks.first, tasks.items[0])
        if call.done and not call.over:
            self.cancel(call)
            call.sink.finished()

    def cancel(self, call: Call) -> None:
        """Drop a call."""
        call.over = True
        with self._lock:
            self._calls.pop(call, None)

    def join(self) -> None:
        """Return at once: there is nothing to wait for."""

    def drain(self, grace: float) -> None:  # noqa: ARG002 - only the task that the caller waits for runs
        """Drop all calls: the outer pool is about to end."""
        self.close(kill=True)

    def close(self, *, kill: bool = False) -> None:
        """Take no more calls."""
        self._closed = True
        self.ring()
        if kill:
            for call in list(self._calls):
                self.cancel(call)
                call.sink.broken(PoolClosed("the pool was closed before the work was done"))


def _load(payload: Payload) -> Callable[..., Any]:
    function: Callable[..., Any] = transfer.load(payload.entry, None)
    return function


def _run_task(call: Call, function: Callable[[Any], Any], index: int, item: Any) -> None:
    attempts = 0
    while True:
        attempts += 1
        try:
            value = function(item)
        except (Exception, GeneratorExit) as error:
            if attempts <= call.budget.retries:
                continue
            call.sink.failure(_failure(error, index, attempts))
        else:
            call.sink.values(index, [value])
        return


def _failure(error: BaseException, index: int, attempts: int) -> Failure:
    from runwide.pool import failures
    from runwide.pool.failed import failed

    if isinstance(error, GeneratorExit):  # in the caller, it would have another meaning
        return failures.of_entry(failed(Cause.EXCEPTION, error), index, Charges(starts=attempts))
    text = traceback.format_exc()
    error.__cause__ = RemoteTraceback("in place, inside a worker", item=index, traceback=text)
    return Failure(
        index, Cause.EXCEPTION.kind, type(error).__qualname__, text_of(error), text, attempts, error
    )
