"""What one pool has of the workers: some of them, for as long as it is open."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from runwide.errors import PoolClosed
from runwide.pool.reporting import Reporter, timed_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.pool import transfer
    from runwide.pool.call import Call, Payload
    from runwide.pool.scheduler import Scheduler
    from runwide.pool.shares import Shares
    from runwide.records import TaskEvent


class Lease:
    """Some workers of a scheduler, which may have others at work beside it.

    Args:
        scheduler: Whose workers they are; it holds this as long as it is open.
        shares: How many, and what limits the threads of libraries in each.
        on_event: Called with each `TaskEvent`, on the scheduler's thread.
        alone: Whether the scheduler ends with this.
        apart: Whether nobody else has any of its workers meanwhile.
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
        self.calls: set[Call] = set()  # that have not ended; as all below, changed under the scheduler's lock
        self.closed = False
        self.drained_at: float | None = None  # on the monotonic clock
        self.ended = threading.Event()

    def function_payload(self, dumped: transfer.Dumped) -> Payload:
        """Where workers find a pickled function.

        Raises:
            PoolClosed: The pool takes no more calls.
            ScratchError: The file cannot be written.
        """
        self.check_open()
        return self.scheduler.function_payload(dumped)

    def check_open(self) -> None:
        """Make sure that calls are still taken.

        Raises:
            PoolClosed: The pool was closed.
            PoolBroken: An error inside the pool has ended it.
        """
        if self._pid != os.getpid():
            raise PoolClosed("the pool belongs to the process of which this is a fork", hint="make one here")
        self.scheduler.check_open()
        if self.closed:
            raise PoolClosed("the pool is closed", hint="make a new one")

    def start(self, call: Call) -> None:
        """Take up a call.

        Raises:
            PoolClosed: The pool takes no more.
        """
        self.scheduler.start(call, self)

    def cancel(self, call: Call) -> None:
        """Drop a call: what has not started is not started, what runs is stopped."""
        self.scheduler.cancel(call)

    def drain(self, grace: float) -> None:
        """Start no further task; those that run may go on for so many seconds, then all calls end with `Preempted`."""
        self.drained_at = time.monotonic() + grace
        self.ring()

    def ring(self) -> None:
        """Make the scheduler look: items have come."""
        self.scheduler.ring()

    def close(self, *, kill: bool = False) -> None:
        """Take no more calls, and let go of the workers when those under way have ended; at once with ``kill``."""
        self.scheduler.release(self, kill=kill)

    def join(self) -> None:
        """Wait until the workers have been let go of, and have ended if they were this one's alone."""
        if self.scheduler.thread is threading.current_thread():
            return
        self.ended.wait()
        if self.alone:
            self.scheduler.join()
