"""Handle the messages of workers, and their deaths."""

from __future__ import annotations

import errno
import selectors
import signal
from typing import TYPE_CHECKING, Any

from runwide import errors
from runwide.causes import Cause
from runwide.errors import ScratchError
from runwide.events import emit
from runwide.log import Log
from runwide.pool import failures, outbox, process, resources, transfer, worker
from runwide.pool.failures import Death, salvage
from runwide.pool.scratch import open_mapping
from runwide.records import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.events.emit import End
    from runwide.events.measure import Report
    from runwide.pool.call import Call, Chunk
    from runwide.pool.dispatch import Dispatcher
    from runwide.pool.policy import Charges
    from runwide.pool.resources import MemoryWatch
    from runwide.pool.scratch import Kept
    from runwide.pool.workers import Slot, Workers


_log = Log("pool")


class Supervisor:
    """The handler of messages and deaths of a scheduler's workers; runs on the scheduler's thread."""

    def __init__(
        self,
        workers: Workers,
        dispatcher: Dispatcher,
        memory: MemoryWatch,
        kept: Kept,
        fail_all: Callable[[BaseException], None],
    ) -> None:
        self._workers = workers
        self._dispatcher = dispatcher
        self._memory = memory
        self._kept = kept
        self._fail_all = fail_all
        self._start_failures = 0

    def handle(self, slot: Slot, mask: int) -> None:
        """Read from a worker's connection, or write to it."""
        if mask & selectors.EVENT_WRITE:
            slot.channel.flush()
            self._workers.watch(slot)
        self._receive(slot)
        if slot.channel.closed:
            self._workers.lose_line(slot)

    def _receive(self, slot: Slot) -> None:
        for kind, *content in slot.channel.receive():
            self._handlers[kind](self, slot, *content)

    def _on_hello(self, slot: Slot) -> None:
        slot.greeted = True

    def _on_ready(self, slot: Slot) -> None:
        slot.ready = True
        self._start_failures = 0

    def _on_unfit(self, slot: Slot, entry: tuple[Any, ...]) -> None:
        self._workers.retire(slot)
        if failures.is_of_scratch(entry) and self._start_failures < self._workers.timing.start_failures:
            self._start_failures += 1
            self._kept.restore()
            return
        self._fail_all(failures.of_initializer(entry))

    def _on_scalars(self, slot: Slot, values: list[Any], report: Report | None) -> None:
        self._on_results(slot, None, values, report, values)

    def _on_results(
        self,
        slot: Slot,
        path: str | None,
        entries: list[Any],
        report: Report | None,
        values: Sequence[Any] | None = None,
    ) -> None:
        slot.waits_for_room = False
        chunk = slot.chunks[0]
        first = chunk.ended
        chunk.ended += len(entries)
        slot.tasks_run += len(entries)
        failed: dict[int, End] = {}
        values = transfer.values_of(entries) if values is None else values
        if values is None:
            chunk.payload += transfer.payload_size(entries)
            failed = deliver(chunk, first, entries, _mapping(path))
            slot.worn |= chunk.exhausted  # such a worker would quickly fail one task after another
        elif not chunk.call.over:
            chunk.call.sink.values(chunk.tasks.first + first, list(values))
        reporter = chunk.call.lease.reporter
        if reporter is not None and report is not None:
            sizes = tuple(map(transfer.entry_size, entries)) if values is None else ()
            reporter.attempts(slot, chunk, len(entries), report, first=first, failed=failed, sizes=sizes)

    def _on_done(self, slot: Slot, seconds: float) -> None:
        chunk = slot.chunks.popleft()
        call = chunk.call
        call.running -= 1
        call.pace = call.pace.after(tasks=len(chunk), seconds=seconds, payload=chunk.payload)
        most = self._dispatcher.max_tasks
        slot.worn |= most is not None and slot.tasks_run >= most
        self._check_idle(slot)

    def _check_idle(self, slot: Slot) -> None:
        """Retire a worker that has no chunk left, if it is to be replaced."""
        if slot.chunks:
            return
        slot.go_on()
        if slot.worn and not slot.leaving:
            self._workers.retire(slot)

    def _on_waiting(self, slot: Slot) -> None:
        slot.waits_for_room = True

    def _on_stopped(self, slot: Slot) -> None:
        """Give tasks back that a worker has not begun, since it was asked to start no more."""
        chunk = slot.chunks.popleft()
        chunk.call.running -= 1
        chunk.call.again.appendleft(chunk.tasks.part(chunk.ended))
        self._check_idle(slot)

    def _on_stale(self, slot: Slot) -> None:
        """Give a chunk to another worker, since modules have changed after this one loaded them."""
        slot.worn = True
        self._on_stopped(slot)

    def _on_broken(self, slot: Slot, entry: tuple[Any, ...]) -> None:
        """Retry or fail a chunk whose function or payload the worker could not load."""
        chunk = slot.chunks.popleft()
        call, tasks = chunk.call, chunk.tasks
        call.running -= 1
        slot.forget(call)
        self._check_idle(slot)
        if call.over:
            return
        charges = tasks.charges.lost()
        if failures.is_of_scratch(entry) and call.budget.allows(charges):
            self._kept.restore()
            tasks.charges = charges
            call.again.append(tasks)
            return
        charges = tasks.charges.started()
        for index in range(tasks.first, tasks.first + len(chunk)):
            call.sink.failure(failures.of_entry(entry, index, charges))

    _handlers: Mapping[str, Callable[..., None]] = {
        worker.HELLO: _on_hello,
        worker.READY: _on_ready,
        worker.UNFIT: _on_unfit,
        outbox.RESULTS: _on_results,
        outbox.SCALARS: _on_scalars,
        outbox.WAITING: _on_waiting,
        worker.DONE: _on_done,
        worker.STOPPED: _on_stopped,
        worker.STALE: _on_stale,
        worker.BROKEN: _on_broken,
    }

    def stop_overdue(self) -> None:
        """Stop the workers that take too long, and one before memory runs out."""
        for slot in self._workers.overdue():
            slot.timed_out = bool(slot.chunks) and slot.line_lost_at is None
            self.discard(slot)
        victim = self._memory.look(self._workers)
        if victim is not None:
            victim.too_large = True
            self.discard(victim)

    def stop(self, is_stopped: Callable[[Call], bool]) -> None:
        """Stop the workers that run tasks of these calls."""
        for slot in list(self._workers):
            if slot.chunks and is_stopped(slot.chunks[0].call):
                slot.stopped = True
                self.discard(slot)

    def discard(self, slot: Slot) -> None:
        """Kill a worker if it lives, and remove it. Results that it has sent are kept; its tasks run again or fail."""
        slot.killed = slot.process.kill_tree()
        doing = slot.status.read()
        slot.task_started = doing.started
        self._receive(slot)
        exitcode = self._workers.discard(slot)
        if (slot.leaving or slot.stopped) and not slot.chunks:
            return
        cause = self._memory.cause_of_death(slot, exitcode)
        if not slot.stopped:
            _log.warning(
                "worker.died",
                worker=slot.number,
                pid=slot.process.pid,
                exitcode=failures.known(exitcode),
                cause=cause.value.ended,
            )
        for chunk in reversed(slot.chunks):
            chunk.call.running -= 1
            if not chunk.call.over:
                ran = doing if chunk.number == doing.chunk and not slot.stopped else None
                salvage(chunk, ran, Death(slot, cause, exitcode))
        if cause is Cause.OUT_OF_MEMORY:
            self._dispatcher.narrow()
            _log.warning("pool.narrowed", workers=self._dispatcher.wanted, reason="out of memory")
        if not slot.ready:
            self._on_failed_start(slot, exitcode)

    def _on_failed_start(self, slot: Slot, exitcode: int) -> None:
        self._start_failures += 1
        from_outside = exitcode == -signal.SIGKILL and not slot.killed
        limit = self._workers.timing.start_kills if from_outside else self._workers.timing.start_failures
        if self._start_failures < limit:
            return
        self._start_failures = 0
        if self._dispatcher.make_do():
            _log.warning(
                "pool.narrowed",
                workers=self._dispatcher.wanted,
                reason="new workers end before they are ready",
            )
            return
        lines = slot.last_words() or process.last_words(slot.environment)
        self._fail_all(failures.of_start(exitcode, lines))


def _mapping(path: str | None) -> memoryview | ScratchError | None:
    try:
        return open_mapping(path)
    except ScratchError as error:
        return error


_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def deliver(
    chunk: Chunk, first: int, entries: list[Any], mapping: memoryview | ScratchError | None
) -> dict[int, End]:
    """Deliver results to their call. Each is loaded separately, so that one that cannot be loaded fails alone.

    Args:
        first: Position of the first of these tasks in the chunk.
        mapping: The payload file that came with them, or the error of reading it.

    Returns:
        The attempts that have no value, by position in the chunk.
    """
    if chunk.call.over:
        return {}
    without_value = {}
    for position, entry in enumerate(entries, first):
        end = _end(chunk, position, entry, mapping)
        if end is not None:
            without_value[position] = end
    return without_value


def _end(chunk: Chunk, position: int, entry: Any, mapping: memoryview | ScratchError | None) -> End | None:
    index, charges = chunk.tasks.first + position, chunk.tasks.charges.started()
    if type(entry) is tuple and entry[0] == transfer.FAILED:
        return _fail(chunk, position, failures.of_entry(entry, index, charges))
    if isinstance(mapping, ScratchError):
        if type(entry) is tuple and entry[0] == transfer.MAPPED:
            return _lost(chunk, position, mapping)
        mapping = None
    try:
        value = transfer.load(entry, mapping)
    except ScratchError as error:
        return _lost(chunk, position, error)
    except BaseException as error:
        failure = failures.of_result(error, index, charges)
        chunk.call.sink.failure(failure)
        return emit.of_failure(failure, again=False)
    chunk.call.sink.values(index, [value])
    return None


def _lost(chunk: Chunk, position: int, error: ScratchError) -> End | None:
    charges = chunk.tasks.charges.started().crashed()  # the attempt counts, though its result is lost
    failure = failures.of_scratch(error, chunk.tasks.first + position, charges)
    return _end_of(chunk, position, failure, charges, retryable=True)


def _fail(chunk: Chunk, position: int, failure: Failure) -> End:
    charges = chunk.tasks.charges.started().raised()
    resources.import_modules("runwide.deaths")
    raised = failure.exception
    chunk.exhausted |= isinstance(raised, ScratchError) and raised.errno in _NO_DESCRIPTORS
    retryable = failure.kind is FailureKind.EXCEPTION and not isinstance(failure.exception, errors.WorkerDied)
    return _end_of(chunk, position, failure, charges, retryable=retryable)


def _end_of(chunk: Chunk, position: int, failure: Failure, charges: Charges, *, retryable: bool) -> End:
    if retryable and chunk.call.budget.allows(charges):
        task = chunk.tasks.part(position, position + 1)
        task.charges = charges
        chunk.call.again.append(task)
        return emit.of_failure(failure, again=True)
    chunk.call.sink.failure(failure)
    return emit.of_failure(failure, again=False)
