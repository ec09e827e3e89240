"""The pool's thread: it keeps the workers busy, collects their results, and replaces those that die."""

from __future__ import annotations

import selectors
import signal
import threading
import time
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from runwide.errors import PoolClosed, Preempted
from runwide.log import Log, follow_cells
from runwide.naming import text_of
from runwide.pool import failures, resources
from runwide.pool.call import Functions
from runwide.pool.channel import Bell
from runwide.pool.dispatch import Dispatcher, NoWorker
from runwide.pool.leases import Lease, Leases
from runwide.pool.output import Output
from runwide.pool.prints import Endings
from runwide.pool.resources import LOOK_SECONDS, MemoryWatch, ScratchWatch, any_waits
from runwide.pool.scratch import Kept
from runwide.pool.supervisor import Supervisor
from runwide.pool.workers import SlotOptions, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.events.model import TaskEvent
    from runwide.pool import transfer
    from runwide.pool.call import Call, Payload
    from runwide.pool.scratch import Scratch
    from runwide.pool.warm import Shares, Wants

_log = Log("pool")

running: weakref.WeakSet[Scheduler] = weakref.WeakSet()
"""All schedulers of this process."""


class Scheduler:
    """The pool's thread. Everything that is not thread-safe happens on it.

    Invariants:
        - A task is in exactly one place: its source, ``call.again``, or one chunk of one slot.
        - Every task that was taken ends in exactly one ``values`` or ``failure`` of its sink.
        - Nothing on this thread waits for a worker: sockets do not block, and a process is reaped when it has ended.

    Args:
        devices: Variables that give each worker its own device. Workers are started when there is work.
        scratch: Directories for large payloads; removed when the scheduler ends.
        idle_seconds: How long it stays without a lease; None to end with the last lease.
        is_alike: Returns whether a worker that is started now would be like the earlier ones; None if that does not matter.
    """

    def __init__(
        self,
        devices: Sequence[Mapping[str, str]],
        wants: Wants,
        *,
        scratch: Scratch,
        idle_seconds: float | None = None,
        is_alike: Callable[[], bool] | None = None,
    ) -> None:
        self._scratch = scratch
        self._is_alike = is_alike
        self.stays = idle_seconds is not None
        """Whether it outlives the lease for which it was made."""
        self._leases = Leases(idle_seconds, self.ring)
        self._calls: deque[Call] = deque()
        self._requests: deque[Callable[[], None]] = deque()
        self._closing = False
        self._killing = False
        self._broken: BaseException | None = None
        self._kept = Kept()
        self._functions = Functions(scratch, self._kept)
        self._output = Output()
        self._endings = Endings(self._output, self.ring)
        prepared = None if wants.initializer is None else self.function_payload(wants.initializer)
        self._selector = selectors.DefaultSelector()
        options = SlotOptions(scratch, self._output, devices, prepared, stays=self.stays)
        self._workers = Workers(options, self._selector)
        self._dispatcher = Dispatcher(self._workers, self._calls, scratch, wants.max_tasks)
        self._memory = MemoryWatch(self._workers.timing.memory_seconds, wants.max_memory)
        self._room = ScratchWatch()
        self._supervisor = Supervisor(
            self._workers, self._dispatcher, self._memory, self._kept, self._fail_all
        )
        self._bell = Bell(self._selector)
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._main, name="runwide-pool", daemon=True)
        running.add(self)
        try:
            resources.hold_spare(self)  # before the program uses the last descriptors
            self.thread.start()
        except BaseException:  # Ctrl-C after the start, or the thread cannot be started
            resources.release_spare(self)
            self.close(kill=True)
            raise

    # Any thread may call these.

    def lease(
        self, shares: Shares, on_event: Callable[[TaskEvent], None] | None = None, *, apart: bool = False
    ) -> Lease | None:
        """Return a lease on workers; None if the scheduler is about to end, or if another lease excludes it."""
        with self._lock:
            if self._closing or self._broken is not None or not self._leases.may_have(apart=apart):
                return None
            made = Lease(self, shares, on_event, alone=not self.is_kept, apart=apart)
            self._leases.add(made)
            return made

    def release(self, lease: Lease, *, kill: bool) -> None:
        """Take no more calls of a lease, and end it when its running calls have ended, or at once with ``kill``."""
        with self._lock:
            lease.closed = True
            if kill and lease.alone:  # set first, since the thread sees at once that a lease has ended
                self._closing = self._killing = True
            if not lease.calls:
                self._let_go(lease)
        if kill:
            self._requests.append(partial(self._drop, lease))
            self.ring()

    def _let_go(self, lease: Lease) -> None:
        """End a lease. The caller holds the lock."""
        self._leases.end(lease)
        if not self.is_kept and self._leases.are_over():
            self._closing = True
            self.ring()  # otherwise the thread checks from time to time

    @property
    def is_kept(self) -> bool:
        """Return whether the scheduler stays without leases."""
        return self._leases.is_kept

    def function_payload(self, dumped: transfer.Dumped) -> Payload:
        """Return a pickled function as workers receive it."""
        self.check_open()
        return self._functions.payload(dumped)

    def check_open(self) -> None:
        """Check that the pool still takes calls."""
        if self._broken is not None:
            raise failures.of_internal(self._broken)
        if self._closing:
            raise PoolClosed("the pool is closed", hint="make a new one")

    def start(self, call: Call, lease: Lease) -> None:
        """Start a call."""
        with self._lock:
            lease.check_open()
            call.lease = lease
            self._requests.append(partial(self._take_up, call))
            lease.calls.add(call)  # last: a call that is in here and was not requested would never end
        self.ring()

    def cancel(self, call: Call) -> None:
        """Drop a call: stop its tasks that run, and start no more."""
        self._requests.append(partial(self._cancel, call))
        self.ring()

    def ring(self) -> None:
        """Wake the scheduler: items, a call or a request have come."""
        self._bell.ring()

    def close(self, *, kill: bool = False) -> None:
        """Take no more calls, and end when the running calls have ended, or at once with ``kill``."""
        with self._lock:
            self._closing = True
            self._killing = self._killing or kill
        self.ring()

    def end_with_leases(self) -> bool:
        """End with the last lease, or now without leases; return whether it ends now."""
        self._leases.keep_no_longer()
        return self.close_idle()

    def close_idle(self) -> bool:
        """End if there is no lease; return whether the scheduler has ended, or is about to end."""
        with self._lock:
            closing = self._closing = self._closing or not self._leases
        self.ring()
        return closing

    def join(self) -> None:
        """Wait for the end, unless this runs on the scheduler's thread."""
        if self.thread.ident is not None and self.thread is not threading.current_thread():
            self.thread.join()

    def abandon(self) -> None:
        """Give up the workers in a fork of the pool's process: the fork has no scheduler thread."""
        self._lock = threading.Lock()
        self.thread = threading.Thread()
        self._kept.close()
        self._workers.abandon()
        for lease in self._leases:
            lease.ended.set()

    # The loop

    def _main(self) -> None:
        follow_cells()
        # Workers start with these signals blocked, so that none arrives before they are ignored.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        try:
            while self._has_work():
                self._turn()
        except BaseException as error:
            self._broken = error  # before the pool is closed, so that callers get the reason
            self.close(kill=True)
            _log_broken(error)
        self._end()

    def _has_work(self) -> bool:
        closing = self._closing  # read first: calls that were started before it was set are in the requests
        self._take_requests()
        self._finish_calls()
        return not self._killing and (bool(self._calls or self._endings) or not closing)

    def _take_requests(self) -> None:
        while self._requests:
            self._requests.popleft()()

    def _take_up(self, call: Call) -> None:
        if not self._calls:
            self._dispatcher.widen()
            self._memory.go_on()
        self._functions.begin(call)
        self._calls.append(call)

    def _turn(self) -> None:
        self._dispatch()
        self._finish_draining()
        if not self._memory.begun and self._workers.slots:
            with resources.spare_released():
                self._memory.begin()
        at_once = self._dispatcher.look_again() or self._bell.rung()
        for key, mask in self._selector.select(0 if at_once else self._patience()):
            slot = key.data
            if slot is None:
                self._bell.hear()
            elif slot.gone:  # removed earlier in this turn
                continue
            elif key.fileobj is slot.channel:
                self._supervisor.handle(slot, mask)
            else:
                self._supervisor.discard(slot)
        self._supervisor.stop_overdue()
        self._room.look(self._workers)
        self._leave_if_idle()

    def _dispatch(self) -> None:
        opened = self._workers.opened
        try:
            self._dispatcher.dispatch()
        except NoWorker as none:
            self._fail_all(failures.of_no_start(none.cause))
        if self._workers.opened != opened and self._is_alike is not None and not self._is_alike():
            self._leases.keep_no_longer()

    def _patience(self) -> float | None:
        waits = [self._workers.patience(), self._endings.patience()]
        if self._workers.busy:
            waits.append(self._memory.seconds)
        if self._dispatcher.waits_for_room or any_waits(self._workers):
            waits.append(LOOK_SECONDS)
        if not self._calls:
            waits.append(self._leases.patience())
        drained = [call.lease.drained_at for call in self._calls if call.lease.drained_at is not None]
        waits += [max(0.0, at - time.monotonic()) for at in drained]
        return min((wait for wait in waits if wait is not None), default=None)

    def _leave_if_idle(self) -> None:
        """End after too long without a lease, or if the container is short of memory."""
        if not (self._calls or self._leases) and (self._leases.are_over() or self._memory.is_short()):
            self.close_idle()

    # Ends

    def _finish_calls(self) -> None:
        for call in [call for call in self._calls if call.done]:
            self._conclude(call, call.sink.finished)
        self._endings.look()

    def _conclude(self, call: Call, end: Callable[[], None], *, at_once: bool = False) -> None:
        self._workers.catch_up()
        self._release(call)
        self._endings.finish(partial(self._leave, call), end, at_once=at_once)

    def _finish_draining(self) -> None:
        """Stop the workers of leases that are drained, and end their calls when the workers have stopped."""
        for call in [call for call in self._calls if call.lease.drained_at is not None]:
            busy = [slot for slot in self._workers if any(chunk.call is call for chunk in slot.chunks)]
            for slot in busy:
                slot.stop()
            if not busy or time.monotonic() >= (call.lease.drained_at or 0.0):
                why = "stopped by SIGTERM; finished results are kept"
                error = Preempted(why, hint="run it again to go on")
                self._conclude(call, partial(call.sink.broken, error), at_once=True)

    def _release(self, call: Call) -> None:
        call.over = True
        self._calls.remove(call)
        if call.function.path is not None:
            for slot in self._workers:
                slot.forget(call)
        self._functions.end(call)

    def _leave(self, call: Call) -> None:
        with self._lock:
            lease = call.lease
            lease.calls.discard(call)
            if lease.closed and not lease.calls:
                self._let_go(lease)

    def _cancel(self, call: Call) -> None:
        if not call.over:
            self._supervisor.stop(lambda other: other is call)
            self._release(call)
            self._leave(call)

    def _drop(self, lease: Lease) -> None:
        """End the calls of a lease that was closed without waiting."""
        self._supervisor.stop(lambda call: call.lease is lease)
        for call in [call for call in self._calls if call.lease is lease]:
            self._conclude(call, partial(call.sink.broken, self._why_ended()), at_once=True)

    def _fail_all(self, error: BaseException) -> None:
        for call in list(self._calls):
            self._conclude(call, partial(call.sink.broken, error))

    def _end(self) -> None:
        """End everything, even if a step fails: no caller waits, and no process or file is left."""
        _tried(self._take_requests)  # those that came before the pool was closed
        _tried(partial(self._endings.look, last=True))
        for call in list(self._calls):
            call.over = True
            _tried(partial(call.sink.broken, self._why_ended()))
        _tried(partial(self._workers.close, kill=self._killing))
        for part in (self._kept, self._selector, self._output, self._bell):
            _tried(part.close)
        with resources.spare_released():
            _tried(self._scratch.remove)
        resources.release_spare(self)
        for lease in self._leases:
            lease.ended.set()

    def _why_ended(self) -> BaseException:
        """Return a new error for each call, since the call adds its results to it."""
        if self._broken is not None:
            try:
                return failures.of_internal(self._broken)
            except Exception:
                return self._broken  # better than no error
        return PoolClosed(
            "the pool was closed before the work was done", hint="read all results before you close it"
        )


def _tried(step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException as error:
        _log_broken(error)


def _log_broken(error: BaseException) -> None:
    _log.error("pool.broken", type=type(error).__name__, error=text_of(error))
