"""Calls that are submitted within a short time, run as one job on a place."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # a class of its own before Python 3.11
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol

from runwide.api.callbacks import undisturbed
from runwide.api.functions import called, no_place
from runwide.errors import FunctionNotPicklable, InputError, ItemNotPicklable, PoolClosed
from runwide.outcomes import portable_exception_of
from runwide.pickling.unpicklable import raised_by_pickle
from runwide.records import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

QUIET_SECONDS = 0.1
"""A batch starts when no call has been submitted for this time, …"""

LONGEST_SECONDS = 1.0
"""… when its first call has waited for this time, …"""

MOST_CALLS = 100_000
"""… or when it has this number of calls."""


class Streams(Protocol):
    """A place that yields results as they are stored, such as ``runwide_components.Components``."""

    def stream(self, function: Callable[[Any], Any], items: Iterable[Any], **options: Any) -> Any:
        """As `runwide_components.Components.stream`."""


@dataclass(slots=True, eq=False)
class Call:
    """One call and the future of its result.

    Args:
        number: Number of the call among all submitted calls.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    future: Future[Any] = field(default_factory=Future)
    number: int = 0

    def fail(self, error: BaseException) -> None:
        """Give the future an error, unless it has ended."""
        if not self.future.done():
            undisturbed(self.future.set_exception, error)


def seconds_until_due(calls: int, first: float, last: float, now: float) -> float:
    """Return the time for which a batch waits for further calls.

    Args:
        first: Time at which the first was submitted, in seconds of any clock.

    Example:
        >>> seconds_until_due(3, first=0.0, last=0.0, now=0.0)
        0.1
        >>> seconds_until_due(3, first=0.0, last=1.2, now=1.2), seconds_until_due(100_000, 0.0, 0.0, 0.0)
        (0.0, 0.0)
    """
    if calls >= MOST_CALLS:
        return 0.0
    return max(0.0, min(first + LONGEST_SECONDS, last + QUIET_SECONDS) - now)


class Batches:
    """Runs calls on a place; futures get their results as components store them.

    Calls that are submitted within a short time become one job. One job runs at a time; calls that are submitted meanwhile
    become the next. A thread runs while there are calls.

    Args:
        options: Options of each job, as for ``place.stream``.
    """

    def __init__(self, place: Streams, options: Mapping[str, Any]) -> None:
        self._place = place
        self._options = dict(options)
        self._waiting: deque[Call] = deque()
        self._first = self._last = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._running: Any = None
        self._numbers = count()
        self._closed = self._killed = False

    def submit(self, calls: Sequence[Call], why: str) -> None:
        """Take calls.

        Args:
            calls: The calls, which become parts of the same job.
            why: Message of the error after `close`.
        """
        with self._changed:
            if self._closed:
                raise PoolClosed(why)
            self._last = time.monotonic()
            if not self._waiting:
                self._first = self._last
            for call in calls:
                call.number = next(self._numbers)
            self._waiting.extend(calls)
            if self._thread is None and calls:
                # no daemon: as for the standard executors, the program waits for its calls
                self._thread = threading.Thread(target=self._run, name="runwide-batches", daemon=False)
                self._thread.start()
            self._changed.notify_all()

    def close(self, *, cancel: bool = False) -> None:
        """Take no more calls; with ``cancel``, cancel those that were not sent."""
        with self._changed:
            self._closed = True
            if cancel:
                for call in self._waiting:
                    call.future.cancel()
                    call.future.set_running_or_notify_cancel()
                self._waiting.clear()
            self._changed.notify_all()

    def kill(self) -> None:
        """Cancel the calls that were not sent, and the run."""
        self.close(cancel=True)
        with self._changed:
            self._killed, running = True, self._running
        if running is not None:
            running.stop()

    def join(self) -> None:
        """Wait until all calls have ended."""
        while (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while (calls := self._next()) is not None:
            begun = [call for call in calls if call.future.set_running_or_notify_cancel()]
            try:
                self._work(begun)
            except BaseException as error:
                for call in begun:
                    call.fail(error)
            del calls, begun

    def _next(self) -> list[Call] | None:
        """Wait until the next job is due and return its calls; None if there are none."""
        with self._changed:
            while self._waiting and not self._closed:
                wait = seconds_until_due(len(self._waiting), self._first, self._last, time.monotonic())
                if not wait:
                    break
                self._changed.wait(wait)
            if not self._waiting:
                self._thread = None
                return None
            found, self._waiting = self._waiting, deque()
            return list(found)

    def _work(self, calls: list[Call]) -> None:
        """Run calls; a call that cannot be sent fails alone."""
        results = None
        while calls and results is None:
            functions, items = _packed(calls)
            try:
                results = self._place.stream(
                    partial(called, functions),
                    items,
                    ordered=False,
                    on_error="return",
                    **self._options_of(calls),
                )
            except ItemNotPicklable as error:
                if error.item is None:
                    raise
                calls.pop(error.item).fail(raised_by_pickle(error))
            except FunctionNotPicklable as error:
                left = [call for call in calls if not _fails(call)]
                if len(left) == len(calls):
                    raise raised_by_pickle(error) from error
                calls = left
        items = []  # they are sent, and need no memory any more
        if results is not None:
            self._take(results, calls)

    def _options_of(self, calls: Sequence[Call]) -> dict[str, Any]:
        """Return the options of a job; the user's listener gets events with the number of the call as index."""
        listener = self._options.get("on_event")
        if listener is None:
            return self._options
        numbers = [call.number for call in calls]
        return {
            **self._options,
            "on_event": lambda event: listener(replace(event, index=numbers[event.index])),
        }

    def _take(self, results: Any, calls: list[Call]) -> None:
        """Give each future its result, and drop the call."""
        with self._changed:
            self._running, killed = results, self._killed
        left = dict(enumerate(calls))
        calls.clear()
        error: BaseException = PoolClosed("the executor was stopped before this call had ended")
        try:
            for result in () if killed else results:
                if isinstance(result, Failure):
                    left.pop(result.index).fail(raised_by_pickle(portable_exception_of(result)))
                else:
                    number, value = result
                    undisturbed(left.pop(number).future.set_result, value)
                    del value
                del result
        except BaseException as raised:
            error = raised
        finally:
            with self._changed:
                self._running = None
            results.close()
            for call in left.values():
                call.fail(error)


def _packed(calls: Sequence[Call]) -> tuple[tuple[Callable[..., Any], ...], list[Any]]:
    """Return the different functions of calls, and the calls as items."""
    places: dict[Any, int] = {}
    functions: list[Callable[..., Any]] = []
    items = []
    for number, call in enumerate(calls):
        key = _key(call.function)
        if key not in places:
            places[key] = len(functions)
            functions.append(call.function)
        items.append((number, places[key], call.args, call.kwargs))
    return tuple(functions), items


def _key(function: Callable[..., Any]) -> Any:
    """Return a key of a function; each access to a method makes another object, so its key is that of its parts."""
    if isinstance(function, MethodType):
        return id(function.__self__), id(function.__func__)
    return id(function)


def _fails(call: Call) -> bool:
    """Fail a call whose function cannot be sent, and return True; return False for others."""
    from runwide.pickling.functions import function_pickle

    try:
        function_pickle(call.function)
    except FunctionNotPicklable as error:
        call.fail(raised_by_pickle(error))
        return True
    return False


_NOT_HERE = {
    "name": "each batch of calls is a job of its own: give name= to runwide.map or runwide.imap",
    "reuse": "it is for a job with a name, and these jobs have none",
    "store": "the place of on= has a store",
}


def checked(surface: str, place: Any, options: Mapping[str, Any]) -> None:
    """Reject a place that takes no calls, and options that a batch of calls does not accept.

    Args:
        options: Values by name; None for an option that is not given.
    """
    if isinstance(place, type) or not callable(getattr(place, "stream", None)):
        raise no_place(place)
    for name, why in _NOT_HERE.items():
        if options.get(name) is not None:
            raise InputError(f"{surface}(on=) does not accept {name}=: {why}", hint=f"leave {name}= out")


def in_time(
    futures: Generator[Future[Any], None, None], deadline: float | None
) -> Generator[Any, None, None]:
    """Yield the results of futures in order; leaving this closes the iterator of futures.

    Args:
        deadline: Time on the monotonic clock by which the next result must arrive; None for no limit.

    Raises:
        TimeoutError: It did not arrive in time.
    """
    with closing(futures):
        for future in futures:
            yield _result(future, deadline)
            del future


def until_left(futures: deque[Future[Any]]) -> Generator[Future[Any], None, None]:
    """Yield futures and drop them; leaving this cancels those that were not sent.

    Args:
        futures: The futures, to which others may be appended meanwhile.
    """
    try:
        while futures:
            yield futures.popleft()
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[Any], deadline: float | None) -> Any:
    try:
        return future.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
    except FutureTimeout as error:
        if future.done():  # the error of the call itself
            raise
        future.cancel()
        raise TimeoutError("the next result did not arrive in time") from error
