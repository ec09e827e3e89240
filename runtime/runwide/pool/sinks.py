"""The receivers of results: a list to wait for, a stream to iterate, or futures."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runwide.api.callbacks import undisturbed
from runwide.outcomes import keep
from runwide.pool.call import Sink
from runwide.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from runwide.pool.feeding import Feeder
    from runwide.records import Failure

SIGNAL_SECONDS = 1.0
"""The longest single wait: Python handles a signal that comes just before a wait only when the wait ends."""

if sys.version_info >= (3, 11):
    NotInTime = TimeoutError
else:

    class NotInTime(concurrent.futures.TimeoutError, TimeoutError):
        """No result came in time. A caller may catch either class; from Python 3.11 on, both are the same."""


class Fed(Sink):
    """A sink that stops its feeder at the end."""

    _feeder: Callable[[], Feeder | None] = staticmethod(lambda: None)

    def fed_by(self, feeder: Feeder) -> None:
        """Stop this feeder at the end. The feeder refers to the sink, so the sink refers to it weakly."""
        self._feeder = weakref.ref(feeder)

    def _consumed(self, number: int) -> None:
        feeder = self._feeder()
        if feeder is not None:
            feeder.consume(number)

    def _stop_feeding(self) -> None:
        feeder = self._feeder()
        if feeder is not None:
            feeder.stop()


class Everything(Fed):
    """A sink that keeps all outcomes until the call ends.

    Args:
        max_failures: Number of failed items that are accepted; one more ends the call.
    """

    def __init__(self, max_failures: int | None = None) -> None:
        self.results: list[Any] = []  # up to the last item that has ended
        self.failures: list[Failure] = []
        self.done = 0
        self.too_many = False
        self._max_failures = max_failures
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def values(self, first: int, values: list[Any]) -> None:
        """Take results of consecutive items."""
        if self.too_many:  # the call is over, and the caller may be reading the results
            return
        self._reach(first + len(values))
        self.results[first : first + len(values)] = values
        self._count(len(values))

    def failure(self, failure: Failure) -> None:
        """Take the failure of one item, which is not tried again."""
        if self.too_many:
            return
        self._reach(failure.index + 1)
        self.results[failure.index] = failure
        self.failures.append(failure)
        self._count(1)
        if self._max_failures is not None and len(self.failures) > self._max_failures:
            self.too_many = True
            self._end()

    def _count(self, number: int) -> None:
        self.done += number
        self._consumed(number)

    def _reach(self, stop: int) -> None:
        missing = stop - len(self.results)
        if missing > 0:
            self.results += [None] * missing

    def counts(self) -> tuple[int, int]:
        """Return how many items have ended, and how many of them have failed."""
        return self.done, len(self.failures)

    def so_far(self) -> list[Any]:
        """Return values and failures by index, up to the last item that has ended; None for items that have not."""
        return self.results[:]

    def finished(self) -> None:
        """Note that every item has ended."""
        self._end()

    def broken(self, error: BaseException) -> None:
        """Note that the call cannot go on."""
        keep(error, self.so_far(), self.failures)
        self._error = error
        self._end()

    def _end(self) -> None:
        self._ended.set()
        self._stop_feeding()

    def wait(self) -> None:
        """Wait for the end, and raise the error that ended the call."""
        while not self._ended.wait(SIGNAL_SECONDS):
            pass
        if self._error is not None:
            raise self._error


class Stream(Fed):
    """A sink that passes outcomes to one consumer, in batches, in the order of their arrival."""

    def __init__(self) -> None:
        self._arrived: deque[Outcome] = deque()
        self._change = threading.Condition()
        self._over = False
        self._wanting = False
        self._error: BaseException | None = None

    def values(self, first: int, values: list[Any]) -> None:
        """Take results of consecutive items."""
        self._add([Outcome(index, value) for index, value in enumerate(values, first)])

    def failure(self, failure: Failure) -> None:
        """Take the failure of one item, which is not tried again."""
        self._add([Outcome(failure.index, failure=failure)])

    def finished(self) -> None:
        """Note that every item has ended."""
        with self._change:
            self._over = True
            self._change.notify()
        self._stop_feeding()

    def broken(self, error: BaseException) -> None:
        """Note that the call cannot go on."""
        self._error = error
        self.finished()

    def may_drop(self) -> bool:
        """Return whether the consumer may yet drop results; while it waits for more, it has dropped all it will."""
        return not self._wanting

    def fetch(self, seconds: float | None = None) -> list[Outcome]:
        """Wait for outcomes, and return those that have come; an empty list if all have been fetched.

        Raise `NotInTime`, a ``TimeoutError``, if nothing came in this many seconds.
        """
        with self._change:
            self._wanting = True
            try:
                patience = SIGNAL_SECONDS if seconds is None else seconds
                while not self._change.wait_for(lambda: self._arrived or self._over, patience):
                    if seconds is not None:
                        raise NotInTime(f"no result for {seconds} s")
            finally:
                self._wanting = False
            batch = list(self._arrived)
            self._arrived.clear()
        if not batch and self._error is not None:
            raise self._error
        return batch

    def _add(self, outcomes: list[Outcome]) -> None:
        with self._change:
            self._arrived.extend(outcomes)
            self._change.notify()


class Futures(Sink):
    """A sink with one future for each item."""

    claims = True

    def __init__(self, exception: Callable[[Failure], BaseException]) -> None:
        self._exception = exception
        self._waiting: dict[int, Future[Any]] = {}
        self._error: BaseException | None = None

    def expect(self, index: int, future: Future[Any]) -> None:
        """Set the outcome of an item on this future."""
        self._waiting[index] = future
        if self._error is not None:  # the call has broken meanwhile
            self.broken(self._error)

    def cancel_pending(self) -> None:
        """Cancel the futures that are not running."""
        for future in list(self._waiting.values()):
            future.cancel()

    def values(self, first: int, values: list[Any]) -> None:
        """Take results of consecutive items."""
        for index, value in enumerate(values, first):
            undisturbed(self._waiting.pop(index).set_result, value)

    def failure(self, failure: Failure) -> None:
        """Take the failure of one item, which is not tried again."""
        future = self._waiting.pop(failure.index)
        undisturbed(future.set_exception, self._exception(failure))

    def broken(self, error: BaseException) -> None:
        """Set the error on all pending futures, and on those that come later."""
        self._error = error
        for index in list(self._waiting):
            future = self._waiting.pop(index, None)
            if future is None:  # another thread has taken it
                continue
            if future.running() or _is_wanted(future):
                undisturbed(future.set_exception, error)

    def claim(self, index: int) -> bool:
        """Return whether an item is still wanted. If its future is not cancelled, it is running from now on."""
        future = self._waiting[index]
        if future.running():  # the task is tried again
            return True
        wanted = _is_wanted(future)
        if not wanted:
            del self._waiting[index]
        return wanted


def _is_wanted(future: Future[Any]) -> bool:
    """Set a future to running, and return whether that was possible: it may be cancelled, or have a result."""
    with suppress(RuntimeError):
        return future.set_running_or_notify_cancel()
    return False
