"""Leases: the workers that one pool may use, for as long as it is open."""

from __future__ import annotations

import os
import threading
import time
import traceback
import weakref
from typing import TYPE_CHECKING, Any

from runwide.causes import Cause
from runwide.errors import PoolClosed, RemoteTraceback
from runwide.events.emit import Reporter, timed_by
from runwide.naming import text_of
from runwide.pool import transfer
from runwide.pool.call import Payload
from runwide.pool.policy import Charges
from runwide.records import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.events.model import TaskEvent
    from runwide.pool.call import Call
    from runwide.pool.scheduler import Scheduler
    from runwide.pool.warm import Shares


class Lease:
    """The right of one pool to use workers of a scheduler, beside the leases of other pools.

    Args:
        scheduler: The scheduler of the workers. It keeps a reference to the lease while the lease is open.
        on_event: Called with each `TaskEvent`, on the scheduler's thread.
        alone: Whether the scheduler ends with this lease.
        apart: Whether no other lease may use these workers meanwhile.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        shares: Shares,
        on_event: Callable[[TaskEvent], None] | None = None,
        *,
        alone: bool = False,
        apart: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.alone = alone
        self.apart = apart
        self._pid = os.getpid()
        self.shares = shares
        self.reporter = None if on_event is None else Reporter(on_event)
        self.timed = timed_by(on_event)
        self.calls: set[Call] = set()  # that have not ended. The scheduler's lock guards this and all below
        self.closed = False
        self.drained_at: float | None = None  # on the monotonic clock
        self.ended = threading.Event()

    def function_payload(self, dumped: transfer.Dumped) -> Payload:
        """Return a pickled function as workers receive it."""
        self.check_open()
        return self.scheduler.function_payload(dumped)

    def check_open(self) -> None:
        """Check that the pool still takes calls."""
        if self._pid != os.getpid():
            raise PoolClosed(
                "the pool belongs to the parent of this fork", hint="make a new pool in this process"
            )
        self.scheduler.check_open()
        if self.closed:
            raise PoolClosed("the pool is closed", hint="make a new one")

    def start(self, call: Call) -> None:
        """Start a call."""
        self.scheduler.start(call, self)

    def cancel(self, call: Call) -> None:
        """Drop a call: stop its tasks that run, and start no more."""
        self.scheduler.cancel(call)

    def drain(self, grace: float) -> None:
        """Start no more tasks; after this many seconds at most, all calls end with `Preempted`."""
        self.drained_at = time.monotonic() + grace
        self.ring()

    def ring(self) -> None:
        """Wake the scheduler: items have come."""
        self.scheduler.ring()

    def close(self, *, kill: bool = False) -> None:
        """Take no more calls, and release the workers when running calls have ended, or at once with ``kill``."""
        self.scheduler.release(self, kill=kill)

    def join(self) -> None:
        """Wait until the workers are released; if they belong to this lease alone, until they have ended."""
        if self.scheduler.thread is threading.current_thread():
            return
        self.ended.wait()
        if self.alone:
            self.scheduler.join()


LOOK_SECONDS = 1.0
"""Interval at which a scheduler without work checks whether it should end."""

_UNCLAIMED_SECONDS = 5.0
"""Time after which a scheduler without a first lease ends: Ctrl-C may have ended the call that made it."""


class Leases:
    """The open leases of one scheduler.

    Args:
        idle_seconds: How long the scheduler stays without a lease; None to end with the last lease.
        gone: Called when a lease is garbage-collected that was not closed.
    """

    def __init__(self, idle_seconds: float | None, gone: Callable[[], None]) -> None:
        # Weak references, since Ctrl-C may lose a lease before the caller has it.
        self._open: weakref.WeakKeyDictionary[Lease, weakref.finalize[..., Lease]] = (
            weakref.WeakKeyDictionary()
        )
        self._idle_seconds = idle_seconds
        self._idle_since = time.monotonic()
        self._began = False
        self._gone = gone
        self._last = False  # whether no more leases are given

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._open))

    def may_have(self, *, apart: bool) -> bool:
        """Return whether one more lease may be given; if ``apart``, no other lease may use its workers."""
        return not self._last and not any(apart or other.apart for other in self)

    def add(self, lease: Lease) -> None:
        """Add a lease."""
        self._open[lease] = gone = weakref.finalize(lease, self._gone)
        gone.atexit = False
        self._began = True

    def end(self, lease: Lease) -> None:
        """Remove a lease that has ended."""
        lease.ended.set()
        gone = self._open.pop(lease, None)
        if gone is not None:
            gone.detach()
        self._idle_since = time.monotonic()

    @property
    def is_kept(self) -> bool:
        """Return whether the scheduler stays without leases."""
        return self._idle_seconds is not None

    def keep_no_longer(self) -> None:
        """Let the scheduler end with its present leases. Any thread may call it."""
        self._idle_seconds, self._began, self._last = None, True, True

    def patience(self) -> float | None:
        """Return the seconds until the next check whether the scheduler is idle for too long; None for never."""
        idle_seconds = self._idle_seconds  # once: another thread may change it
        if idle_seconds is None:
            return None if self._began else LOOK_SECONDS
        return min(LOOK_SECONDS, idle_seconds)

    def are_over(self) -> bool:
        """Return whether there has been no lease for so long that the scheduler should end."""
        if self._open:
            return False
        patience = (self._idle_seconds or 0.0) if self._began else _UNCLAIMED_SECONDS
        return time.monotonic() - self._idle_since >= patience


class InPlaceScheduler:
    """A replacement of `runwide.pool.leases.Lease` that runs each task at once, in the thread that adds it.

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
        """Check that the pool still takes calls."""
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
        """Cancel all calls, without a grace period: the outer pool ends."""
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
    from runwide.pool.outbox import failed

    if isinstance(error, GeneratorExit):  # in the caller, it would have another meaning
        return failures.of_entry(failed(Cause.EXCEPTION, error), index, Charges(starts=attempts))
    text = traceback.format_exc()
    error.__cause__ = RemoteTraceback("in place, inside a worker", item=index, traceback=text)
    return Failure(
        index, Cause.EXCEPTION.kind, type(error).__qualname__, text_of(error), text, attempts, error
    )
