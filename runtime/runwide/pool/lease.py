"""A lease: the workers that one pool may use, for as long as it is open."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from runwide.errors import PoolClosed
from runwide.events.emit import Reporter, timed_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.events.model import TaskEvent
    from runwide.pool import transfer
    from runwide.pool.call import Call, Payload
    from runwide.pool.scheduler import Scheduler
    from runwide.pool.shares import Shares


class Lease:
    """The right of one pool to use workers of a scheduler, beside the leases of other pools.

    Args:
        scheduler: The scheduler of the workers. It keeps a reference to the lease while the lease is open.
        shares: The number of workers, and variables that limit the threads of libraries in each.
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
        """Return a pickled function as workers receive it.

        Raises:
            PoolClosed: The pool takes no more calls.
            ScratchError: The file cannot be written.
        """
        self.check_open()
        return self.scheduler.function_payload(dumped)

    def check_open(self) -> None:
        """Check that the pool still takes calls.

        Raises:
            PoolClosed: The pool was closed.
            PoolBroken: An error inside the pool has ended it.
        """
        if self._pid != os.getpid():
            raise PoolClosed(
                "the pool belongs to the parent of this fork", hint="make a new pool in this process"
            )
        self.scheduler.check_open()
        if self.closed:
            raise PoolClosed("the pool is closed", hint="make a new one")

    def start(self, call: Call) -> None:
        """Start a call.

        Raises:
            PoolClosed: The pool takes no more calls.
        """
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
