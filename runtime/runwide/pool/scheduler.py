"""One thread that keeps the workers busy, collects what they finish, and replaces those that die."""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from runwide.errors import PoolClosed, Preempted, ScratchError
from runwide.log import Log
from runwide.naming import text_of
from runwide.pool import arrivals, failures, outbox, reserve, transfer, worker
from runwide.pool.bell import Bell
from runwide.pool.crew import Crew, Timing
from runwide.pool.dispatch import Dispatcher, NoWorker
from runwide.pool.losses import Loss, salvage
from runwide.pool.memory_watch import MemoryWatch
from runwide.pool.output import Output
from runwide.pool.policy import Cause
from runwide.pool.reporting import Reporter, timed_by
from runwide.pool.room import LOOK_SECONDS, RoomWatch, any_waits
from runwide.pool.scratch import Kept, open_mapping
from runwide.pool.slot import SlotOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.pool.call import Call
    from runwide.pool.meter import Report
    from runwide.pool.reporting import End
    from runwide.pool.scratch import Scratch
    from runwide.pool.slot import Slot
    from runwide.records import TaskEvent

_log = Log("pool")


class Scheduler:
    """The pool's thread; everything that is not thread-safe happens on it.

    Invariants:
        - A task is in exactly one place: its source, ``call.again``, or one chunk of one slot.
        - Every task that was taken ends in exactly one ``values`` or ``failure`` of its sink.
        - Nothing on this thread waits for a worker: sockets do not block, and a process is reaped when it has ended.

    Args:
        envs: Variables of each worker process; workers are started when there is something to do.
        scratch: Directories for large payloads; removed when the scheduler ends.
        initializer: A pickled callable that each worker calls before its first task.
        on_event: Called with each `TaskEvent`, on the scheduler's thread.
        max_tasks: Tasks after which a worker is replaced.
        max_memory: Resident bytes above which a worker is replaced once it is free.
        timing: How long things may take.
    """

    def __init__(
        self,
        envs: Sequence[Mapping[str, str]],
        *,
        scratch: Scratch,
        initializer: transfer.Dumped | None = None,
        on_event: Callable[[TaskEvent], None] | None = None,
        max_tasks: int | None = None,
        max_memory: int | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._scratch = scratch
        self._reporter = None if on_event is None else Reporter(on_event)
        self._max_tasks = max_tasks
        self._timing = timing or Timing()
        self._calls: deque[Call] = deque()
        self._requests: deque[Callable[[], None]] = deque()
        self._start_failures = 0
        self._drained_at: float | None = None
        self._closing = False
        self._killing = False
        self._broken: BaseException | None = None
        self._pid = os.getpid()
        self._functions = count()
        self._kept = Kept()
        self._output = Output()
        prepared = None if initializer is None else self.function_payload(initializer)
        self._selector = selectors.DefaultSelector()
        options = SlotOptions(scratch, self._output, envs, prepared, timed=timed_by(on_event))
        self._crew = Crew(options, self._timing, self._selector)
        self._dispatcher = Dispatcher(self._crew, self._calls, scratch, len(envs), max_tasks)
        self._memory = MemoryWatch(self._timing.memory_seconds, max_memory)
        self._room = RoomWatch()
        self._bell = Bell(self._selector)
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._main, name="runwide-pool", daemon=True)
        try:
            reserve.hold(self)  # before the program can take them
            self.thread.start()
        except BaseException:  # Ctrl-C, when it has started; or it cannot
            reserve.let_go(self)
            self.close(kill=True)
            raise

    # Called from any thread

    def function_payload(self, dumped: transfer.Dumped) -> tuple[str | None, Any]:
        """Where workers find a pickled function: in the message, or in a file that all of them map.

        Raises:
            PoolClosed: The pool takes no more calls.
            ScratchError: The file cannot be written.
        """
        self.check_open()
        scratch = self._scratch.tagged(f"function-{next(self._functions)}")
        path, entries = transfer.seal([(transfer.FRAME, *dumped)], scratch)
        if path is not None:
            self._kept.add(path)
        return path, entries[0]

    def check_open(self) -> None:
        """Make sure that calls are still taken.

        Raises:
            PoolClosed: The pool was closed.
            PoolBroken: An error inside the pool has ended it.
        """
        if self._broken is not None:
            raise failures.of_internal(self._broken)
        if self._pid != os.getpid():
            raise PoolClosed("the pool belongs to the process of which this is a fork", hint="make one here")
        if self._closing:
            raise PoolClosed("the pool is closed", hint="make a new one")

    def start(self, call: Call) -> None:
        """Take up a call.

        Raises:
            PoolClosed: The pool takes no more.
        """
        with self._lock:
            self.check_open()
            self._requests.append(lambda: self._calls.append(call))
        self.ring()

    def cancel(self, call: Call) -> None:
        """Drop a call: what has not started is not started, what runs is stopped."""
        self._requests.append(lambda: self._cancel(call))
        self.ring()

    def drain(self, grace: float) -> None:
        """Start no further task; those that run may go on for so many seconds, then all calls end with `Preempted`."""
        self._drained_at = time.monotonic() + grace
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

    def abandon(self) -> None:
        """In a fork of the pool's process: there is no thread to wait for, and nothing that workers must not outlive."""
        self._lock = threading.Lock()
        self.thread = threading.Thread()
        self._kept.close()
        self._crew.abandon()

    # The loop

    def _main(self) -> None:
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
        return not self._killing and (bool(self._calls) or not closing)

    def _take_requests(self) -> None:
        while self._requests:
            self._requests.popleft()()

    def _turn(self) -> None:
        if self._drained_at is None:
            self._dispatch()
        else:
            self._finish_draining(self._drained_at)
        if not self._memory.begun and self._crew.slots:
            with reserve.at_hand():
                self._memory.begin()
        for key, mask in self._selector.select(0 if self._look_again() else self._patience()):
            slot = key.data
            if slot is None:
                self._bell.hear()
            elif slot.gone:  # buried earlier in this turn
                continue
            elif key.fileobj is slot.channel:
                self._attend(slot, mask)
            else:
                self._on_death(slot)
        self._stop_overdue()
        self._room.look(self._crew, closing=self._closing)

    def _dispatch(self) -> None:
        try:
            self._dispatcher.dispatch(closing=self._closing)
        except NoWorker as none:
            self._fail_all(failures.of_no_start(none.cause))

    def _patience(self) -> float | None:
        waits = [self._crew.patience()]
        if self._crew.busy:
            waits.append(self._memory.seconds)
        if self._dispatcher.waits_for_room or any_waits(self._crew):
            waits.append(LOOK_SECONDS)
        if self._drained_at is not None and self._calls:
            waits.append(max(0.0, self._drained_at - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _look_again(self) -> bool:
        """Tell the feeders that their calls wait for items; whether there is something to do before waiting."""
        for call in self._calls:
            if call.done:  # its last items were dropped when they were about to be sent
                return True
            if not call.source.closed and not call.source.available():
                call.hungry = True
                if call.source.available() or call.source.closed:
                    return True
        return False

    def _stop_overdue(self) -> None:
        for slot in self._crew.overdue():
            slot.timed_out = bool(slot.chunks) and slot.line_lost_at is None
            self._on_death(slot)
        victim = self._memory.look(self._crew)
        if victim is not None:
            victim.too_large = True
            self._on_death(victim)

    # What workers say

    def _attend(self, slot: Slot, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            slot.channel.flush()
            self._crew.watch(slot)
        self._hear(slot)
        if slot.channel.closed:
            self._crew.lose_line(slot)

    def _hear(self, slot: Slot) -> None:
        for kind, *content in slot.channel.receive():
            self._hears[kind](self, slot, *content)

    def _on_hello(self, slot: Slot) -> None:
        slot.greeted = True

    def _on_ready(self, slot: Slot) -> None:
        slot.ready = True
        self._start_failures = 0

    def _on_unfit(self, slot: Slot, entry: tuple[Any, ...]) -> None:
        self._crew.retire(slot)
        if failures.is_of_scratch(entry) and self._start_failures < self._timing.start_failures:
            self._start_failures += 1
            self._kept.restore()
            return
        self._fail_all(failures.of_initializer(entry))

    def _on_results(self, slot: Slot, path: str | None, entries: list[Any], report: Report | None) -> None:
        slot.waits_for_room = False
        chunk = slot.chunks[0]
        first = chunk.ended
        chunk.ended += len(entries)
        slot.tasks_run += len(entries)
        failed: dict[int, End] = {}
        values = transfer.values_of(entries)
        if values is None:
            chunk.payload += transfer.payload_size(entries)
            failed = arrivals.deliver(chunk, first, entries, _mapping(path))
            slot.worn |= chunk.exhausted  # it would fail one task after another, and quickly
        elif not chunk.call.over:
            chunk.call.sink.values(chunk.tasks.first + first, list(values))
        if self._reporter is not None and report is not None:
            sized = entries if values is None else ()
            self._reporter.attempts(
                slot, chunk, len(entries), report, first=first, failed=failed, sized=sized
            )

    def _on_done(self, slot: Slot, seconds: float) -> None:
        chunk = slot.chunks.popleft()
        call = chunk.call
        call.running -= 1
        call.pace = call.pace.after(tasks=len(chunk), seconds=seconds, payload=chunk.payload)
        if not slot.chunks and (
            slot.worn or (self._max_tasks is not None and slot.tasks_run >= self._max_tasks)
        ):
            self._crew.retire(slot)

    def _on_waiting(self, slot: Slot) -> None:
        slot.waits_for_room = True

    def _on_stopped(self, slot: Slot) -> None:
        """The worker was asked to start no further task: what it has not begun is where it was."""
        chunk = slot.chunks.popleft()
        chunk.call.running -= 1
        chunk.call.again.appendleft(chunk.tasks.part(chunk.ended))

    def _on_broken(self, slot: Slot, entry: tuple[Any, ...]) -> None:
        """The worker could not load the function or the payload: no task of the chunk can run."""
        chunk = slot.chunks.popleft()
        call, tasks = chunk.call, chunk.tasks
        call.running -= 1
        charges = tasks.charges.lost()
        if failures.is_of_scratch(entry) and call.budget.allows(charges):
            self._kept.restore()
            tasks.charges = charges
            call.again.append(tasks)
            return
        charges = tasks.charges.started()
        for index in range(tasks.first, tasks.first + len(chunk)):
            call.sink.failure(failures.of_entry(entry, index, charges))

    _hears: Mapping[str, Callable[..., None]] = {
        worker.HELLO: _on_hello,
        worker.READY: _on_ready,
        worker.UNFIT: _on_unfit,
        outbox.RESULTS: _on_results,
        outbox.WAITING: _on_waiting,
        worker.DONE: _on_done,
        worker.STOPPED: _on_stopped,
        worker.BROKEN: _on_broken,
    }

    # Death

    def _on_death(self, slot: Slot) -> None:
        """Bury a worker, or kill it first; what it had sent is kept, what it held is tried again or given up."""
        slot.killed = slot.process.kill_tree()
        doing = slot.status.read()
        slot.task_started = doing.started
        self._hear(slot)
        exitcode = self._crew.bury(slot)
        if (slot.leaving or slot.stopped) and not slot.chunks:
            return
        cause = self._memory.cause_of_death(slot, exitcode)
        if not slot.stopped:
            _log.warning(
                "worker.died",
                worker=slot.number,
                pid=slot.process.pid,
                exitcode=failures.known(exitcode),
                cause=cause.value,
            )
        for chunk in reversed(slot.chunks):
            chunk.call.running -= 1
            if not chunk.call.over:
                ran = doing if chunk.number == doing.chunk and not slot.stopped else None
                salvage(chunk, ran, Loss(slot, cause, exitcode), self._reporter)
        if cause is Cause.OUT_OF_MEMORY:
            self._dispatcher.narrow()
            _log.warning("pool.narrowed", workers=self._dispatcher.wanted, reason="out of memory")
        if not slot.ready:
            self._on_failed_start(slot, exitcode)

    def _on_failed_start(self, slot: Slot, exitcode: int) -> None:
        self._start_failures += 1
        from_outside = exitcode == -signal.SIGKILL and not slot.killed
        limit = self._timing.start_kills if from_outside else self._timing.start_failures
        if self._start_failures >= limit:
            self._start_failures = 0
            self._fail_all(failures.of_start(exitcode, slot.last_words()))

    # Ends

    def _finish_calls(self) -> None:
        for call in [call for call in self._calls if call.done]:
            self._release(call)
            call.sink.finished()

    def _finish_draining(self, deadline: float) -> None:
        for slot in self._crew:
            slot.status.stop()
        if not self._crew.busy or time.monotonic() >= deadline:
            self._fail_all(
                Preempted("stopped by SIGTERM; what had finished is kept", hint="run it again to go on")
            )

    def _release(self, call: Call) -> None:
        call.over = True
        self._calls.remove(call)
        for slot in self._crew:
            slot.forget(call)
        if call.function[0] is not None:
            self._kept.remove(call.function[0])

    def _cancel(self, call: Call) -> None:
        if call.over:
            return
        self._release(call)
        for slot in list(self._crew):
            if slot.chunks and slot.chunks[0].call is call:
                slot.stopped = True
                self._on_death(slot)

    def _fail_all(self, error: BaseException) -> None:
        for call in list(self._calls):
            self._release(call)
            call.sink.broken(error)

    def _end(self) -> None:
        """Leave nothing behind, whatever fails meanwhile: neither a caller that waits, nor a process or a file."""
        _tried(self._take_requests)  # whatever came before the pool was closed
        for call in list(self._calls):
            call.over = True
            _tried(partial(call.sink.broken, self._why_ended()))
        _tried(partial(self._crew.close, kill=self._killing))
        for part in (self._kept, self._selector, self._output, self._bell):
            _tried(part.close)
        with reserve.at_hand():
            _tried(self._scratch.remove)
        reserve.let_go(self)

    def _why_ended(self) -> BaseException:
        """One error for each call, which puts into it what it has."""
        if self._broken is not None:
            try:
                return failures.of_internal(self._broken)
            except Exception:  # nobody is to wait for ever for its name
                return self._broken
        return PoolClosed("the pool was closed before the work was done", hint="close it after the results")


def _mapping(path: str | None) -> memoryview | ScratchError | None:
    try:
        return open_mapping(path)
    except ScratchError as error:
        return error


def _tried(step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException as error:
        _tell(error)


def _tell(error: BaseException) -> None:
    _log.error("pool.broken", type=type(error).__name__, error=text_of(error))
