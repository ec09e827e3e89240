"""One thread that keeps the workers busy, collects what they finish, and replaces those that die."""

from __future__ import annotations

import selectors
import signal
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import ItemNotPicklable, PoolClosed, ScratchFull, WorkerDied
from runwide.host import memory
from runwide.log import Log
from runwide.pool import failures, policy, transfer, worker
from runwide.pool.policy import Cause
from runwide.pool.slot import Chunk, Slot, SlotOptions
from runwide.records import Failure, FailureKind, TaskEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide.pool.call import Call, Tasks

_log = Log("pool")

START_SECONDS = 60.0
"""A worker that has not said hello by then is replaced: imports of a cold disk take seconds, not minutes."""

START_FAILURES = 3
"""Deaths in a row before the first hello after which the environment, not a task, is to blame."""

EXIT_SECONDS = 5.0
"""How long a worker that was asked to leave may take before it is killed."""


class Scheduler:
    """The pool's only thread; everything that is not thread-safe happens on it.

    Invariants:
        - A task is in exactly one place: its source, ``call.again``, or one chunk of one slot.
        - Every task that was taken ends in exactly one ``values`` or ``failure`` of its sink.
        - Nothing on this thread waits for a worker: sockets do not block, dead processes are waited for by pidfd.

    Args:
        workers: Number of workers; they are started when there is something to do.
        env: Variables of the worker processes.
        scratch: Directories for large payloads; removed when the scheduler ends.
        initializer: A pickled callable that each worker calls before its first task.
        on_event: Called with each `TaskEvent`, on the scheduler's thread.
        max_tasks: Tasks after which a worker is replaced.
    """

    def __init__(
        self,
        workers: int,
        *,
        env: Mapping[str, str],
        scratch: transfer.Scratch,
        initializer: transfer.Dumped | None = None,
        on_event: Callable[[TaskEvent], None] | None = None,
        max_tasks: int | None = None,
    ) -> None:
        self.workers = workers
        self.scratch = scratch
        self._on_event = on_event
        self._max_tasks = max_tasks
        self._wanted = workers
        self._slots: dict[int, Slot] = {}
        self._retired: list[Slot] = []
        self._calls: deque[Call] = deque()
        self._requests: deque[Callable[[], None]] = deque()
        self._start_failures = 0
        self._oom_seen = memory.oom_kills() or 0
        self._closing = False
        self._killing = False
        self._functions = count()
        self._options = SlotOptions(
            scratch, env, None if initializer is None else self.function_payload(initializer)
        )
        self._selector = selectors.DefaultSelector()
        self._bell, bell = socket.socketpair()
        bell.setblocking(False)
        self._bell.setblocking(False)
        self._selector.register(bell, selectors.EVENT_READ, None)
        self._bell_end = bell
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._main, name="runwide-pool", daemon=True)
        self.thread.start()

    # Called from any thread

    def function_payload(self, dumped: transfer.Dumped) -> tuple[str | None, Any]:
        """Where workers find a pickled function: in the message, or in a file that all of them map."""
        path, entries = transfer.seal(
            [(transfer.FRAME, *dumped)], self.scratch.tagged(f"function-{next(self._functions)}")
        )
        return path, entries[0]

    def check_open(self) -> None:
        """Make sure that calls are still taken.

        Raises:
            PoolClosed: The pool was closed.
        """
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

    def ring(self) -> None:
        """Make the scheduler look: items, a call or a request have come."""
        with suppress(OSError):  # full: it will look anyway; closed: there is nobody to look
            self._bell.send(b"!")

    def close(self, *, kill: bool = False) -> None:
        """Take no more calls and end when those under way have; at once with ``kill``."""
        with self._lock:
            self._closing = True
            self._killing = self._killing or kill
        self.ring()

    # On the scheduler's thread

    def _main(self) -> None:
        # Workers start with Ctrl-C blocked, so that it cannot strike before they ignore it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            while self._has_work():
                self._turn()
            if not self._killing:
                self._wait_for_exits()
        except BaseException as error:
            _log.error("pool.broken", error=repr(error))
            self._fail_all(error)
            raise
        finally:
            self._end()

    def _has_work(self) -> bool:
        closing = self._closing  # read first: whatever was started before it was set is in the requests
        while self._requests:
            self._requests.popleft()()
        self._finish_calls()
        return not self._killing and (bool(self._calls) or not closing)

    def _turn(self) -> None:
        self._dispatch()
        for key, mask in self._selector.select(0 if self._look_again() else self._patience()):
            slot = key.data
            if slot is None:
                self._hear_bell()
            elif slot.gone:  # buried earlier in this turn
                continue
            elif key.fileobj is slot.channel:
                self._attend(slot, mask)
            else:
                self._on_death(slot)
        self._stop_overdue()

    def _hear_bell(self) -> None:
        with suppress(BlockingIOError):
            while self._bell_end.recv(4096):
                pass

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

    def _attend(self, slot: Slot, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            slot.channel.flush()
            self._watch(slot)
        for message in slot.channel.receive():
            self._on_message(slot, message)
        if slot.channel.closed and not slot.gone:
            self._on_death(slot)

    def _on_message(self, slot: Slot, message: Any) -> None:
        kind, *content = message
        if kind == worker.RESULTS:
            self._on_results(slot, *content)
        elif kind == worker.DONE:
            self._on_done(slot, *content)
        elif kind == worker.BROKEN:
            self._on_broken(slot, *content)
        elif kind == worker.READY:
            slot.ready = True
            self._start_failures = 0
        elif kind == worker.UNFIT:
            failure = failures.of_entry(content[0], 0, policy.NO_CHARGES)
            error = WorkerDied(
                f"the initializer failed: {failure.type}: {failure.message}", hint="mend the initializer"
            )
            error.__cause__ = failure.exception
            self._fail_all(error)

    def _on_results(self, slot: Slot, path: str | None, entries: list[Any], times: list[Any]) -> None:
        chunk = slot.chunks[0]
        first = chunk.ended
        chunk.ended += len(entries)
        slot.tasks_run += len(entries)
        chunk.payload += sum(map(transfer.entry_size, entries))
        mapping = transfer.open_mapping(path)
        self._report("task.ended", slot, chunk, first, times)
        if chunk.call.over:
            return
        if tuple not in set(map(type, entries)):
            chunk.call.sink.values(chunk.tasks.first + first, entries)
            return
        for position, entry in enumerate(entries, first):
            self._on_entry(chunk, position, entry, mapping)

    def _on_entry(self, chunk: Chunk, position: int, entry: Any, mapping: memoryview | None) -> None:
        index, charges = chunk.tasks.first + position, chunk.tasks.charges.started()
        if type(entry) is tuple and entry[0] == transfer.FAILED:
            self._on_failure(chunk, position, failures.of_entry(entry, index, charges))
            return
        try:
            value = transfer.load(entry, mapping)
        except BaseException as error:
            chunk.call.sink.failure(failures.of_result(error, index, charges))
        else:
            chunk.call.sink.values(index, [value])

    def _on_failure(self, chunk: Chunk, position: int, failure: Failure) -> None:
        charges = chunk.tasks.charges.started().raised()
        retryable = failure.kind is FailureKind.EXCEPTION and not isinstance(failure.exception, WorkerDied)
        if retryable and chunk.call.budget.allows(charges):
            task = chunk.tasks.part(position, position + 1)
            task.charges = charges
            chunk.call.again.append(task)
        else:
            chunk.call.sink.failure(failure)

    def _on_done(self, slot: Slot, seconds: float) -> None:
        chunk = slot.chunks.popleft()
        chunk.call.running -= 1
        chunk.call.pace = chunk.call.pace.after(tasks=len(chunk), seconds=seconds, payload=chunk.payload)
        if self._max_tasks is not None and slot.tasks_run >= self._max_tasks:
            self._retire(slot)

    def _on_broken(self, slot: Slot, entry: tuple[Any, ...]) -> None:
        """The worker could not load the function or the payload: no task of the chunk can run."""
        chunk = slot.chunks.popleft()
        chunk.call.running -= 1
        for index in range(chunk.tasks.first, chunk.tasks.first + len(chunk)):
            chunk.call.sink.failure(failures.of_entry(entry, index, chunk.tasks.charges.started()))

    # Death

    def _on_death(self, slot: Slot) -> None:
        doing = slot.status.read()
        exitcode = self._bury(slot)
        if (slot.leaving or slot.stopped) and not slot.chunks:
            return
        if not slot.ready:
            self._on_failed_start(exitcode)
        cause = self._cause(slot, exitcode)
        _log.warning(
            "worker.died", worker=slot.number, pid=slot.process.pid, exitcode=exitcode, cause=cause.value
        )
        guilty = next(
            (chunk for chunk in slot.chunks if chunk.number == doing.chunk and not slot.stopped), None
        )
        for chunk in reversed(slot.chunks):
            chunk.call.running -= 1
            self._salvage(chunk, doing.position if chunk is guilty else None, cause, exitcode, slot)
        if cause is Cause.OUT_OF_MEMORY:
            self._wanted = max(1, self._wanted - 1)
            _log.warning("pool.narrowed", workers=self._wanted, reason="out of memory")

    def _bury(self, slot: Slot) -> int:
        """Take a dead worker out of the pool; what it had sent before is not lost."""
        slot.process.kill_tree()
        for message in slot.channel.receive():
            self._on_message(slot, message)
        exitcode = slot.process.exitcode()
        self._drop(slot)
        return -9 if exitcode is None else exitcode

    def _cause(self, slot: Slot, exitcode: int) -> Cause:
        counted = memory.oom_kills() or 0
        cause = policy.cause_of_death(
            exitcode, timed_out=slot.timed_out, oom_credits=counted - self._oom_seen
        )
        if cause is Cause.OUT_OF_MEMORY:
            self._oom_seen += 1  # one credit a death: two workers may have been killed in one turn
        return cause

    def _salvage(self, chunk: Chunk, guilty: int | None, cause: Cause, exitcode: int, slot: Slot) -> None:
        call = chunk.call
        if call.over:
            return
        start = chunk.ended
        if guilty is None or guilty < start:
            if start < len(chunk):
                call.again.appendleft(chunk.tasks.part(start))
            return
        if guilty + 1 < len(chunk):
            call.again.appendleft(chunk.tasks.part(guilty + 1))
        self._charge(call, chunk.tasks.part(guilty, guilty + 1), cause, exitcode, slot)
        if start < guilty:
            call.again.appendleft(chunk.tasks.part(start, guilty))

    def _charge(self, call: Call, task: Tasks, cause: Cause, exitcode: int, slot: Slot) -> None:
        charges = task.charges.started().crashed()
        if cause is not Cause.TIMEOUT and call.budget.allows(charges):
            task.charges = charges
            task.alone = cause is Cause.OUT_OF_MEMORY
            call.again.append(task)
            self._emit("task.retried", slot, task.first, charges, describe=cause.value)
            return
        failure = failures.of_death(
            cause, task.first, charges, exitcode=exitcode, timeout=call.budget.timeout, peak_rss=None
        )
        self._emit("task.failed", slot, task.first, charges, describe=cause.value)
        call.sink.failure(failure)

    def _on_failed_start(self, exitcode: int) -> None:
        self._start_failures += 1
        if self._start_failures >= START_FAILURES:
            self._fail_all(
                WorkerDied(
                    f"no worker starts: the last one {failures.describe(exitcode)}",
                    exitcode=exitcode,
                    hint="see what it wrote to standard error",
                )
            )

    # Work

    def _dispatch(self) -> None:
        if not self._calls:
            return
        alone = next(((call, task) for call in self._calls for task in call.again if task.alone), None)
        if alone is not None:
            self._dispatch_alone(*alone)
            return
        self._start_workers()
        for slot in list(self._slots.values()):
            while self._takes_work(slot):
                if not self._feed(slot):
                    break
            self._watch(slot)

    def _dispatch_alone(self, call: Call, task: Tasks) -> None:
        if any(slot.chunks for slot in self._slots.values()):
            return
        if not self._slots:
            self._open_slot()
        slot = next((slot for slot in self._slots.values() if slot.idle), None)
        if slot is not None:
            call.again.remove(task)
            task.alone = False
            self._send(slot, call, task)
            self._watch(slot)

    def _takes_work(self, slot: Slot) -> bool:
        if not slot.ready or slot.leaving:
            return False
        if not slot.chunks:
            return True
        if len(slot.chunks) > 1 or self._max_tasks is not None:
            return False
        chunk = slot.chunks[0]
        return policy.may_prefetch(
            chunk.call.pace,
            tasks=len(chunk),
            available=chunk.call.source.available(),
            workers=self.workers,
        )

    def _feed(self, slot: Slot) -> bool:
        """Send one chunk of the next call that has work; the calls take turns."""
        for _ in range(len(self._calls)):
            call = self._calls[0]
            self._calls.rotate(-1)
            tasks = self._take(call, slot)
            if tasks is not None:
                self._send(slot, call, tasks)
                return True
        return False

    def _take(self, call: Call, slot: Slot) -> Tasks | None:
        if call.again:
            return call.again.popleft()
        available = call.source.available()
        if not available:
            return None
        size = call.chunksize or policy.chunk_size(
            call.pace, available=available, final=call.source.closed or call.sink.claims, workers=self.workers
        )
        if self._max_tasks is not None:
            size = min(size, self._max_tasks - slot.tasks_run)
        return call.source.take(size)

    def _send(self, slot: Slot, call: Call, tasks: Tasks) -> None:
        entries, tasks = self._entries(call, tasks)
        if not entries:
            return
        payload = sum(map(transfer.entry_size, entries))
        chunk = Chunk(call, tasks, payload)
        try:
            path, sealed = transfer.seal(entries, self.scratch.tagged(f"{slot.tag}-in"))
        except ScratchFull as error:
            for index in range(tasks.first, tasks.first + len(entries)):
                call.sink.failure(
                    Failure(index, FailureKind.PICKLING, "ScratchFull", error.message, exception=error)
                )
            return
        slot.send_function(call)
        slot.chunks.append(chunk)
        call.running += 1
        slot.channel.send((worker.RUN, call.number, chunk.number, path, sealed))

    def _entries(self, call: Call, tasks: Tasks) -> tuple[list[Any], Tasks]:
        """Pickle items up to the first that cannot be, or is not wanted any more; the rest goes back."""
        if not call.sink.claims and all(map(transfer.is_scalar, tasks.items)):
            return list(tasks.items), tasks
        entries: list[Any] = []
        for position, item in enumerate(tasks.items):
            if call.sink.claim(tasks.first + position):
                if transfer.is_scalar(item):
                    entries.append(item)
                    continue
                try:
                    entries.append((transfer.FRAME, *transfer.dump_by_value(item)))
                    continue
                except Exception as error:
                    call.sink.failure(_not_picklable(error, tasks.first + position))
            if position + 1 < len(tasks.items):
                call.again.appendleft(tasks.part(position + 1))
            return entries, tasks.part(0, position)
        return entries, tasks

    # Workers come and go

    def _start_workers(self) -> None:
        waiting = sum(len(call.again) + call.source.available() for call in self._calls)
        free = sum(1 for slot in self._slots.values() if not slot.chunks)
        for _ in range(min(self._wanted - len(self._slots), waiting - free)):
            self._open_slot()

    def _open_slot(self) -> None:
        number = next(number for number in count() if number not in self._slots)
        slot = self._slots[number] = Slot(number, self._options)
        self._selector.register(slot.channel, selectors.EVENT_READ, slot)
        self._selector.register(slot.process.sentinel, selectors.EVENT_READ, slot)

    def _watch(self, slot: Slot) -> None:
        """Ask the selector for room to write only while something waits to be written."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if slot.channel.wants_to_write else 0)
        if self._selector.get_key(slot.channel).events != wanted:
            self._selector.modify(slot.channel, wanted, slot)

    def _retire(self, slot: Slot) -> None:
        """Let a worker leave and its place be taken; it is attended until it has."""
        slot.leave()
        del self._slots[slot.number]
        self._retired.append(slot)

    def _drop(self, slot: Slot) -> None:
        self._selector.unregister(slot.channel)
        self._selector.unregister(slot.process.sentinel)
        slot.gone = True
        slot.close()
        if self._slots.get(slot.number) is slot:
            del self._slots[slot.number]
        else:
            self._retired.remove(slot)

    # Time

    def _patience(self) -> float | None:
        deadlines = [self._deadline(slot) for slot in (*self._slots.values(), *self._retired)]
        nearest = min((deadline for deadline in deadlines if deadline is not None), default=None)
        return None if nearest is None else max(0.0, nearest - time.monotonic())

    def _deadline(self, slot: Slot) -> float | None:
        """When something must have happened in this slot, on the monotonic clock."""
        if not slot.ready:
            return slot.started_at + START_SECONDS
        if not slot.chunks:
            return None
        timeout = slot.chunks[0].call.budget.timeout
        if timeout is None:
            return None
        doing = slot.status.read()
        if doing.position is None or doing.chunk != slot.chunks[0].number:
            return time.monotonic() + timeout
        return doing.started + timeout

    def _stop_overdue(self) -> None:
        for slot in (*self._slots.values(), *self._retired):
            deadline = self._deadline(slot)
            if deadline is not None and time.monotonic() >= deadline:
                slot.timed_out = slot.ready
                self._on_death(slot)

    # Ends

    def _finish_calls(self) -> None:
        for call in [call for call in self._calls if call.done]:
            self._release(call)
            call.sink.finished()

    def _release(self, call: Call) -> None:
        call.over = True
        self._calls.remove(call)
        for slot in self._slots.values():
            slot.forget(call)
        if call.function[0] is not None:
            Path(call.function[0]).unlink(missing_ok=True)

    def _cancel(self, call: Call) -> None:
        if call.over:
            return
        self._release(call)
        for slot in list(self._slots.values()):
            if slot.chunks and slot.chunks[0].call is call:
                slot.stopped = True
                self._on_death(slot)

    def _fail_all(self, error: BaseException) -> None:
        for call in list(self._calls):
            self._release(call)
            call.sink.broken(error)

    def _wait_for_exits(self) -> None:
        for slot in self._slots.values():
            slot.leave()
        deadline = time.monotonic() + EXIT_SECONDS
        for slot in (*self._slots.values(), *self._retired):
            while slot.channel.wants_to_write and time.monotonic() < deadline:
                slot.channel.flush()
                time.sleep(0.001)
            slot.process.wait(max(0.0, deadline - time.monotonic()))

    def _end(self) -> None:
        self._fail_all(
            PoolClosed(
                "the pool was closed before the work was done", hint="leave its block after the results"
            )
        )
        for slot in (*self._slots.values(), *self._retired):
            with suppress(Exception):
                slot.close()
        self._selector.close()
        self._bell.close()
        self._bell_end.close()
        self.scratch.remove()

    # Events

    def _report(
        self, name: str, slot: Slot, chunk: Chunk, first: int, times: list[tuple[float, float]]
    ) -> None:
        if self._on_event is None:
            return
        offset = time.time() - time.monotonic()
        attempt = chunk.tasks.charges.starts + 1
        for index, (started, ended) in enumerate(times, chunk.tasks.first + first):
            self._on_event(
                TaskEvent(
                    name,
                    ended + offset,
                    index,
                    slot.number,
                    slot.process.pid,
                    attempt,
                    seconds=ended - started,
                )
            )

    def _emit(self, name: str, slot: Slot, index: int, charges: policy.Charges, *, describe: str) -> None:
        if self._on_event is not None:
            self._on_event(
                TaskEvent(
                    name, time.time(), index, slot.number, slot.process.pid, charges.starts, detail=describe
                )
            )


def _not_picklable(error: Exception, index: int) -> Failure:
    raised = ItemNotPicklable(
        f"the item cannot be pickled: {type(error).__name__}: {error}",
        item=index,
        hint="pass plain data, or build it in the function",
    )
    raised.__cause__ = error
    return Failure(index, FailureKind.PICKLING, "ItemNotPicklable", raised.message, exception=raised)
