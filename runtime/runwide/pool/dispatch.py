"""Choose the next tasks for each worker, pickle them and send them."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from runwide import log
from runwide.causes import Cause
from runwide.errors import ScratchError, ScratchFull
from runwide.pickling.unpicklable import refusal
from runwide.pool import failures, policy, transfer, worker
from runwide.pool.call import Chunk
from runwide.pool.resources import LOOK_SECONDS, is_hopeless, may_drop
from runwide.pool.scratch import for_item
from runwide.pool.transfer import is_scalar

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

    from runwide.pool.call import Call, Tasks
    from runwide.pool.leases import Lease
    from runwide.pool.scratch import Scratch
    from runwide.pool.workers import Slot, Workers
    from runwide.records import Failure


_log = log.Log("pool")


class NoWorker(Exception):
    """No worker runs, and no process can be started."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Dispatcher:
    """The distributor of tasks: it keeps each worker busy, and lets the calls take turns."""

    def __init__(self, workers: Workers, calls: deque[Call], scratch: Scratch, max_tasks: int | None) -> None:
        self._workers = workers
        self._calls = calls
        self._scratch = scratch
        self.max_tasks = max_tasks
        self._next_try = 0.0  # time of the next try to send an item for which there was no room
        self._most: int | None = None  # limit of workers, if the container has no room for more
        self.waits_for_room = False

    @property
    def wanted(self) -> int:
        """The largest number of workers that may run."""
        asked = max((call.lease.shares.workers for call in self._calls), default=1)
        return asked if self._most is None else min(asked, self._most)

    def narrow(self) -> None:
        """Use one worker less from now on, since the memory is not enough for all."""
        self._most = max(1, self.wanted - 1)

    def make_do(self) -> bool:
        """Use only the workers that are ready, since others do not start; return whether there are any."""
        ready = sum(slot.ready for slot in self._workers.slots.values())
        self._most = ready or self._most
        return bool(ready)

    def widen(self) -> None:
        """Allow the full number of workers again."""
        self._most = None

    def dispatch(self) -> None:
        """Start workers and send chunks, as far as there are work and room."""
        self.waits_for_room = False
        if not self._calls:
            return
        while (alone := self._alone()) is not None:
            self._dispatch_alone(*alone)
            if alone[1].alone or self._workers.busy:
                return
        self._adjust_number()
        for slot in list(self._workers.slots.values()):
            while self._takes_work(slot) and self._alone() is None and self._feed(slot):
                pass
            self._workers.watch(slot)

    def look_again(self) -> bool:
        """Mark calls that wait for items; return whether there is something to do before waiting."""
        for call in self._calls:
            if call.done:  # its last items were dropped before they were sent
                return True
            if not call.source.closed and not call.source.available():
                call.hungry = True
                if call.source.available() or call.source.closed:
                    return True
        return False

    def _alone(self) -> tuple[Call, Tasks] | None:
        """Return a task that must run while no other task does."""
        return next(
            ((call, task) for call in self._calls if call.goes_on for task in call.again if task.alone), None
        )

    def _dispatch_alone(self, call: Call, task: Tasks) -> None:
        if self._workers.busy:
            return
        if task.full_since is not None and time.monotonic() < self._next_try:
            self.waits_for_room = True
            return
        if not self._workers.slots:
            self._open_one()
        slot = self._workers.idle()
        if slot is not None:
            call.again.remove(task)
            task.alone = False
            self._send(slot, call, task)
            self._workers.watch(slot)

    def _adjust_number(self) -> None:
        waiting: Counter[Lease] = Counter()
        for call in self._calls:
            if call.goes_on:
                waiting[call.lease] += len(call.again) + call.source.available()
        useful = sum(min(number, lease.shares.workers) for lease, number in waiting.items())
        at_once = max(call.lease.shares.at_once for call in self._calls) - self._workers.starting()
        for _ in range(min(self.wanted - len(self._workers.slots), useful - self._workers.free(), at_once)):
            self._open_one()
        most = self._most or len(self._workers.slots)  # if fewer are requested, the others stay
        while len(self._workers.slots) > most and (spare := self._workers.idle()) is not None:
            self._workers.retire(spare)

    def _open_one(self) -> None:
        """Start a worker. If the container has no more processes or descriptors, the present workers go on.

        If there are no workers then, raise `NoWorker`.
        """
        try:
            self._workers.open(self._calls[0].lease.shares.variables)
        except (OSError, RuntimeError) as error:  # a thread that cannot be started is a RuntimeError
            if not self._workers.slots:
                raise NoWorker(error) from error
            self._most = len(self._workers.slots)
            _log.warning("pool.narrowed", workers=self._most, reason=f"no worker can be started: {error}")

    def _takes_work(self, slot: Slot) -> bool:
        if not slot.ready or slot.leaving or slot.waits_for_room or slot.line_lost_at is not None:
            return False
        if not slot.chunks:
            return True
        if len(slot.chunks) > 1 or self.max_tasks is not None or slot.worn:
            return False
        chunk = slot.chunks[0]
        return policy.may_prefetch(
            chunk.call.pace,
            tasks=len(chunk),
            available=chunk.call.source.available(),
            workers=chunk.call.lease.shares.workers,
        )

    def _feed(self, slot: Slot) -> bool:
        """Send one chunk of the next call that has work."""
        for _ in range(len(self._calls)):
            call = self._calls[0]
            if call.has_work and self._may_have(call, slot):
                # In advance, only a chunk of the same call: one call may be stopped while another runs.
                if any(chunk.call is not call for chunk in slot.chunks):
                    return False
                self._calls.rotate(-1)
                self._send(slot, call, self._take(call, slot))
                return True
            self._calls.rotate(-1)
        return False

    def _may_have(self, call: Call, slot: Slot) -> bool:
        """Return whether a call may use this worker beside the workers that its lease already uses."""
        if not call.goes_on:
            return False
        lease = call.lease
        if len(self._workers.slots) <= lease.shares.workers:
            return True
        others = sum(1 for one in self._workers if one is not slot and one.runs(lease))
        return others < lease.shares.workers

    def _take(self, call: Call, slot: Slot) -> Tasks:
        if call.again:
            return call.again.popleft()
        size = call.chunksize or policy.chunk_size(
            call.pace,
            available=call.source.available(),
            final=call.source.closed or call.sink.claims,
            workers=call.lease.shares.workers,
            at_hand=call.source.at_hand,
            idle=self._workers.free(),
        )
        if self.max_tasks is not None:
            size = min(size, self.max_tasks - slot.tasks_run)
        return call.source.take(size)

    def _send(self, slot: Slot, call: Call, tasks: Tasks) -> None:
        if not call.sink.claims and (plain := transfer.entries_of(tasks.items)) is not None:
            self._post(slot, Chunk(call, tasks, 0), None, plain)
            return
        entries, tasks = self._entries(call, tasks, slot)
        if not entries:
            return
        try:
            path, sealed = transfer.seal(entries, self._scratch.tagged(f"{slot.tag}-in"))
        except ScratchError as error:
            self._on_full(call, tasks, error)
        else:
            self._post(slot, Chunk(call, tasks, transfer.payload_size(entries)), path, sealed)

    def _post(self, slot: Slot, chunk: Chunk, path: str | None, entries: Sequence[Any]) -> None:
        call, tasks = chunk.call, chunk.tasks
        slot.send_function(call)
        slot.send_variables(call.lease.shares.variables)
        slot.send_fields(call.fields)
        slot.chunks.append(chunk)
        call.running += 1
        order = worker.Order(
            call.function.key,
            call.number,
            chunk.number,
            call.indices_of(tasks),
            fine=tasks.fine,
            attempt=tasks.charges.starts + 1,
            named=call.named,
            timed=call.lease.timed,
        )
        slot.channel.send((worker.RUN, tuple(order), path, entries))
        log.release()

    def _on_full(self, call: Call, tasks: Tasks, error: ScratchError) -> None:
        """Try tasks again one by one, and alone; a task for which there is still no room fails.

        A task fails at once if the error is not a lack of room.
        """
        full = isinstance(error, ScratchFull)
        busy = full and self._workers.busy
        if busy or len(tasks.items) > 1:
            for position in reversed(range(len(tasks.items))):
                task = tasks.part(position, position + 1)
                task.alone = busy
                call.again.appendleft(task)
        elif full and self._may_wait(call, tasks):
            tasks.alone = self.waits_for_room = True
            self._next_try = time.monotonic() + LOOK_SECONDS
            call.again.appendleft(tasks)
        else:
            call.sink.failure(failures.of_pickling(for_item(error, tasks.first), tasks.first))

    def _may_wait(self, call: Call, task: Tasks) -> bool:
        now, drop = time.monotonic(), may_drop(call)
        if drop or task.full_since is None:
            task.full_since = now
        return not is_hopeless(task.full_since, now, others_run=False, may_drop=drop)

    def _entries(self, call: Call, tasks: Tasks, slot: Slot) -> tuple[list[Any], Tasks]:
        """Pickle items until the chunk is full, or an item is dropped; give the rest back."""
        entries: list[Any] = []
        parcel: transfer.Parcel = {}
        room = policy.CHUNK_BYTES
        for position, item in enumerate(tasks.items):
            entry = self._entry(call, tasks.first + position, item, parcel)
            if entry is not _DROPPED:
                entries.append(entry)
                room -= transfer.entry_size(entry)
            if entry is _DROPPED or room <= 0:
                tasks = _cut(call, tasks, len(entries), position + 1)
                break
        slot.send_definitions(parcel)
        return entries, tasks

    def _entry(self, call: Call, index: int, item: Any, parcel: transfer.Parcel) -> Any:
        if not call.sink.claim(index):
            return _DROPPED
        if is_scalar(item):
            return item
        try:
            return (transfer.FRAME, *transfer.dump_by_value(item, parcel=parcel))
        except BaseException as error:
            call.sink.failure(_not_picklable(error, item, index))
            return _DROPPED


_DROPPED = object()


def _cut(call: Call, tasks: Tasks, stop: int, rest: int) -> Tasks:
    """Return the first of some tasks, and give those from another position on back to the call."""
    if rest < len(tasks.items):
        call.again.appendleft(tasks.part(rest))
    return tasks if stop == len(tasks.items) else tasks.part(0, stop)


def _not_picklable(error: BaseException, item: Any, index: int) -> Failure:
    raised = Cause.ITEM_NOT_PICKLABLE.error(item=index, reason=refusal("the item", error, item))
    raised.__cause__ = error
    return failures.of_pickling(raised, index)
