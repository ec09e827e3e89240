"""One thread that keeps the workers busy, collects what they finish, and replaces those that die."""

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
from runwide.pool import failures, reserve
from runwide.pool.attendance import Attendant
from runwide.pool.bell import Bell
from runwide.pool.crew import Crew, Timing
from runwide.pool.dispatch import Dispatcher, NoWorker
from runwide.pool.endings import Endings
from runwide.pool.functions import Functions
from runwide.pool.lease import Lease
from runwide.pool.leases import Leases
from runwide.pool.memory_watch import MemoryWatch
from runwide.pool.output import Output
from runwide.pool.room import LOOK_SECONDS, RoomWatch, any_waits
from runwide.pool.scratch import Kept
from runwide.pool.slot import SlotOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.pool import transfer
    from runwide.pool.call import Call, Payload
    from runwide.pool.scratch import Scratch
    from runwide.pool.shares import Shares
    from runwide.records import TaskEvent

_log = Log("pool")

running: weakref.WeakSet[Scheduler] = weakref.WeakSet()
"""All schedulers of this process."""


class Scheduler:
    """The pool's thread; everything that is not thread-safe happens on it.

    Invariants:
        - A task is in exactly one place: its source, ``call.again``, or one chunk of one slot.
        - Every task that was taken ends in exactly one ``values`` or ``failure`` of its sink.
        - Nothing on this thread waits for a worker: sockets do not block, and a process is reaped when it has ended.

    Args:
        devices: Variables that give each worker its own device; workers are started when there is something to do.
        scratch: Directories for large payloads; removed when the scheduler ends.
        initializer: A pickled callable that each worker calls before its first task.
        max_tasks: Tasks after which a worker is replaced.
        max_memory: Resident bytes above which a worker is replaced once it is free.
        timing: How long things may take.
        idle_seconds: How long it stays when nobody has a lease; None to end with the last one.
        is_alike: Whether a worker that is started now would be as those before; None where that is nobody's concern.
    """

    def __init__(
        self,
        devices: Sequence[Mapping[str, str]],
        *,
        scratch: Scratch,
        initializer: transfer.Dumped | None = None,
        max_tasks: int | None = None,
        max_memory: int | None = None,
        timing: Timing | None = None,
        idle_seconds: float | None = None,
        is_alike: Callable[[], bool] | None = None,
    ) -> None:
        self._scratch = scratch
        self._is_alike = is_alike
        timing = timing or Timing()
        self.stays = idle_seconds is not None
        """Whether it is to outlive the lease for which it was made."""
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
        prepared = None if initializer is None else self.function_payload(initializer)
        self._selector = selectors.DefaultSelector()
        options = SlotOptions(scratch, self._output, devices, prepared, stays=self.stays)
        self._crew = Crew(options, timing, self._selector)
        self._dispatcher = Dispatcher(self._crew, self._calls, scratch, max_tasks)
        self._memory = MemoryWatch(timing.memory_seconds, max_memory)
        self._room = RoomWatch()
        self._attendant = Attendant(self._crew, self._dispatcher, self._memory, self._kept, self._fail_all)
        self._bell = Bell(self._selector)
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._main, name="runwide-pool", daemon=True)
        running.add(self)
        try:
            reserve.hold(self)  # before the program can take them
            self.thread.start()
        except BaseException:  # Ctrl-C, when it has started; or it cannot
            reserve.let_go(self)
            self.close(kill=True)
            raise

    # Called from any thread

    def lease(
        self, shares: Shares, on_event: Callable[[TaskEvent], None] | None = None, *, apart: bool = False
    ) -> Lease | None:
        """Some of the workers, for one pool; None where this one is about to end, or others have them.

        Args:
            shares: How many, and what limits the threads in each.
            on_event: Called with each `TaskEvent`, on the scheduler's thread.
            apart: Whether nobody else is to have any meanwhile.
        """
        with self._lock:
            if self._closing or self._broken is not None or not self._leases.may_have(apart=apart):
                return None
            made = Lease(self, shares, on_event, alone=not self.is_kept, apart=apart)
            self._leases.add(made)
            return made

    def release(self, lease: Lease, *, kill: bool) -> None:
        """Take no more calls of a lease, and end it when those under way have ended; at once with ``kill``."""
        with self._lock:
            lease.closed = True
            if kill and lease.alone:  # first: the thread sees at once that a lease has ended
                self._closing = self._killing = True
            if not lease.calls:
                self._let_go(lease)
        if kill:
            self._requests.append(partial(self._drop, lease))
            self.ring()

    def _let_go(self, lease: Lease) -> None:
        """A lease has ended; the lock is held."""
        self._leases.end(lease)
        if not self.is_kept and self._leases.are_over():
            self._closing = True
            self.ring()  # else it looks from time to time

    @property
    def is_kept(self) -> bool:
        """Whether it stays when nobody has a lease."""
        return self._leases.is_kept

    def function_payload(self, dumped: transfer.Dumped) -> Payload:
        """Where workers find a pickled function.

        Raises:
            PoolClosed: The pool takes no more calls.
            ScratchError: The file cannot be written.
        """
        self.check_open()
        return self._functions.payload(dumped)

    def check_open(self) -> None:
        """Make sure that calls are still taken.

        Raises:
            PoolClosed: The pool was closed.
            PoolBroken: An error inside the pool has ended it.
        """
        if self._broken is not None:
            raise failures.of_internal(self._broken)
        if self._closing:
            raise PoolClosed("the pool is closed", hint="make a new one")

    def start(self, call: Call, lease: Lease) -> None:
        """Take up a call.

        Raises:
            PoolClosed: The pool takes no more.
        """
        with self._lock:
            lease.check_open()
            call.lease = lease
            self._requests.append(partial(self._take_up, call))
            lease.calls.add(call)  # last: with it, and not taken up, nobody would end it
        self.ring()

    def cancel(self, call: Call) -> None:
        """Drop a call: what has not started is not started, what runs is stopped."""
        self._requests.append(partial(self._cancel, call))
        self.ring()

    def ring(self) -> None:
        """Make the scheduler look: items, a call or a request have come."""
        self._bell.ring()

    def close(self, *, kill: bool = False) -> None:
        """Take no more calls and end when those under way have; at once with ``kill``."""
        with self._lock:
            self._closing = True
            self._killing = self._killing or kill
        self.ring()

    def end_with_leases(self) -> bool:
        """End with the last lease, or now if there is none; whether it is now."""
        self._leases.keep_no_longer()
        return self.close_idle()

    def close_idle(self) -> bool:
        """End if nobody has a lease; whether it has ended, or is about to."""
        with self._lock:
            closing = self._closing = self._closing or not self._leases
        self.ring()
        return closing

    def join(self) -> None:
        """Wait for the end, unless called by what runs on its thread."""
        if self.thread.ident is not None and self.thread is not threading.current_thread():
            self.thread.join()

    def abandon(self) -> None:
        """In a fork of the pool's process: there is no thread to wait for, and nothing that workers must not outlive."""
        self._lock = threading.Lock()
        self.thread = threading.Thread()
        self._kept.close()
        self._crew.abandon()
        for lease in self._leases:
            lease.ended.set()

    # The loop

    def _main(self) -> None:
        follow_cells()
        # Workers start with these blocked, so that none can strike before it is ignored.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        try:
            while self._has_work():
                self._turn()
        except BaseException as error:
            self._broken = error  # before the pool is closed, for whoever asks why
            self.close(kill=True)
            _tell(error)
        self._end()

    def _has_work(self) -> bool:
        closing = self._closing  # read first: whatever was started before it was set is in the requests
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
        if not self._memory.begun and self._crew.slots:
            with reserve.at_hand():
                self._memory.begin()
        at_once = self._dispatcher.look_again() or self._bell.rung()
        for key, mask in self._selector.select(0 if at_once else self._patience()):
            slot = key.data
            if slot is None:
                self._bell.hear()
            elif slot.gone:  # buried earlier in this turn
                continue
            elif key.fileobj is slot.channel:
                self._attendant.attend(slot, mask)
            else:
                self._attendant.bury(slot)
        self._attendant.stop_overdue()
        self._room.look(self._crew)
        self._leave_if_idle()

    def _dispatch(self) -> None:
        opened = self._crew.opened
        try:
            self._dispatcher.dispatch()
        except NoWorker as none:
            self._fail_all(failures.of_no_start(none.cause))
        if self._crew.opened != opened and self._is_alike is not None and not self._is_alike():
            self._leases.keep_no_longer()

    def _patience(self) -> float | None:
        waits = [self._crew.patience(), self._endings.patience()]
        if self._crew.busy:
            waits.append(self._memory.seconds)
        if self._dispatcher.waits_for_room or any_waits(self._crew):
            waits.append(LOOK_SECONDS)
        if not self._calls:
            waits.append(self._leases.patience())
        drained = [call.lease.drained_at for call in self._calls if call.lease.drained_at is not None]
        waits += [max(0.0, at - time.monotonic()) for at in drained]
        return min((wait for wait in waits if wait is not None), default=None)

    def _leave_if_idle(self) -> None:
        """End when nobody has had a lease for so long, or when others need the memory."""
        if not (self._calls or self._leases) and (self._leases.are_over() or self._memory.is_short()):
            self.close_idle()

    # Ends

    def _finish_calls(self) -> None:
        for call in [call for call in self._calls if call.done]:
            self._conclude(call, call.sink.finished)
        self._endings.look()

    def _conclude(self, call: Call, end: Callable[[], None], *, at_once: bool = False) -> None:
        self._crew.catch_up()
        self._release(call)
        self._endings.tell(partial(self._leave, call), end, at_once=at_once)

    def _finish_draining(self) -> None:
        """Of leases that are drained: ask workers to start no further task, and end the calls when they have stopped."""
        for call in [call for call in self._calls if call.lease.drained_at is not None]:
            busy = [slot for slot in self._crew if any(chunk.call is call for chunk in slot.chunks)]
            for slot in busy:
                slot.stop()
            if not busy or time.monotonic() >= (call.lease.drained_at or 0.0):
                why = "stopped by SIGTERM; what had finished is kept"
                error = Preempted(why, hint="run it again to go on")
                self._conclude(call, partial(call.sink.broken, error), at_once=True)

    def _release(self, call: Call) -> None:
        call.over = True
        self._calls.remove(call)
        if call.function.path is not None:
            for slot in self._crew:
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
            self._attendant.stop(lambda other: other is call)
            self._release(call)
            self._leave(call)

    def _drop(self, lease: Lease) -> None:
        """The lease was closed without waiting for what runs."""
        self._attendant.stop(lambda call: call.lease is lease)
        for call in [call for call in self._calls if call.lease is lease]:
            self._conclude(call, partial(call.sink.broken, self._why_ended()), at_once=True)

    def _fail_all(self, error: BaseException) -> None:
        for call in list(self._calls):
            self._conclude(call, partial(call.sink.broken, error))

    def _end(self) -> None:
        """Leave nothing behind, whatever fails meanwhile: neither a caller that waits, nor a process or a file."""
        _tried(self._take_requests)  # whatever came before the pool was closed
        _tried(partial(self._endings.look, last=True))
        for call in list(self._calls):
            call.over = True
            _tried(partial(call.sink.broken, self._why_ended()))
        _tried(partial(self._crew.close, kill=self._killing))
        for part in (self._kept, self._selector, self._output, self._bell):
            _tried(part.close)
        with reserve.at_hand():
            _tried(self._scratch.remove)
        reserve.let_go(self)
        for lease in self._leases:
            lease.ended.set()

    def _why_ended(self) -> BaseException:
        """One error for each call, which puts into it what it has."""
        if self._broken is not None:
            try:
                return failures.of_internal(self._broken)
            except Exception:
                return self._broken  # its name is not waited for
        return PoolClosed("the pool was closed before the work was done", hint="close it after the results")


def _tried(step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException as error:
        _tell(error)


def _tell(error: BaseException) -> None:
    _log.error("pool.broken", type=type(error).__name__, error=text_of(error))
