"""Collects what happens in a run, away from the threads on which it happens, and writes it down in parts."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict, deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide.errors import ObjectExists
from runwide.job import events, manifest, telemetry, usage
from runwide.job.environment import current
from runwide.log import Log
from runwide.spill.store import Store
from runwide.sums import WorkerSums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from runwide.job.manifest import Job
    from runwide.records import TaskBatch, TaskEvent
    from runwide.spill.buffers import Buffer
    from runwide.spill.store import ObjectInfo

log = Log("job")

_TICK = 1.0  # seconds between two looks at what has come
_PART_BYTES = 8 << 20
_PART_SECONDS, _PART_SHARE = 30.0, 0.05
_SAMPLES = 300  # of the memory in a run, at most about twice as many


def part_after(elapsed: float) -> float:
    """Seconds for which events may wait in memory, ``elapsed`` seconds into the run: that much a kill may lose.

    Example:
        >>> part_after(0), part_after(3600)
        (30.0, 180.0)
    """
    return max(_PART_SECONDS, _PART_SHARE * elapsed)


def host_facts(workers: int | None) -> dict[str, Any]:
    """What a run should say of its machine."""
    from runwide import host
    from runwide.host import memory

    found = host.cores(workers=workers)
    return {
        "workers": found.count,
        "physical": found.physical,
        "logical": found.logical,
        "quota": found.quota,
        "usable": found.usable,
        "cores": [list(core.cpus) for core in found.cores],
        "hypervisor": found.hypervisor.name,
        "memory": memory.read().size,
        **current(),
    }


class EventLog:
    """The events of one run; a thread writes parts once it has begun, leaving writes the last one.

    Nothing is written of a run in which no task ended. An error of the store is logged and raised to nobody: the results
    matter more.

    Args:
        run: What is run.
        write: Stores a part, given what its name is to tell: for the last one `usage.Used.mark`, else nothing.
        host: Tells the machine's facts, where the run does not have them yet: with the first part, since no task is to
            wait for them.
    """

    def __init__(
        self,
        run: events.Run,
        write: Callable[[str, bytes], None],
        host: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.run = run
        self._write = write
        self._host = host
        self._came: deque[Callable[[], None]] = deque()  # appended to by other threads
        self._lines: list[str] = []
        self._size = 0
        self._part = 0
        self._left_out = 0
        self._any_task = False
        self._has_failed = False
        self._part_began = self._next_sample = time.monotonic()
        self._began = self._part_began
        self._sums: dict[int, WorkerSums] = defaultdict(WorkerSums)
        self._telemetry = telemetry.of(run)
        self._stop = threading.Event()
        self._ended = threading.Lock()  # taken by whoever writes the last part
        self._thread: threading.Thread | None = None

    def task(self, event: TaskEvent, item: int) -> None:
        """An attempt has ended; ``item`` is the index in the whole job."""
        self._came.append(lambda: self._note_task(event, item))

    def batch(self, batch: TaskBatch, items: Sequence[int]) -> None:
        """Tasks have ended with a value; ``items`` are their indices in the whole job."""
        self._came.append(lambda: self._note_batch(batch, items))

    def object(self, event: events.ObjectEvent) -> None:
        """The store has done something."""
        self._came.append(lambda: self._add(events.object_line(event)))

    def begin(self) -> None:
        """Start the thread that writes parts before the end; the first task should be on its way by then.

        A thread that starts waits for a CPU, and whoever starts it waits for that.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._main, name="runwide-events", daemon=True)
            thread.start()
            self._thread = thread

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._ended.acquire(blocking=False):  # it has never begun
            self._end()

    def _main(self) -> None:
        self._ended.acquire()
        while not self._stop.wait(_TICK):
            self._note()
            now = time.monotonic()
            if self._size > _PART_BYTES or now - self._part_began > part_after(now - self._began):
                self._flush()
        self._end()

    def _end(self) -> None:
        self._note()
        self._flush(time.time())
        if self._telemetry is not None:
            self._tried(self._telemetry.end, time.time())

    def _note(self) -> None:
        """Write down what has come."""
        while self._came:
            self._tried(self._came.popleft())
        self._tried(self._sample)

    def _tried(self, step: Callable[..., None], *args: Any) -> None:
        try:
            step(*args)
        except Exception as error:  # of an exporter of spans, say; results matter more
            if not self._has_failed:
                self._has_failed = True
                log.warning("events.lost", shard=self.run.shard, cause=f"{type(error).__name__}: {error}")

    def _note_task(self, event: TaskEvent, item: int) -> None:
        self._any_task = True
        if self._telemetry is not None:
            self._telemetry.task(event, item)
        self._sums[event.worker].add(event)
        if event.name != events.ENDED or events.is_written(item, self.run.sampled):
            self._add(events.task_line(event, item=item, shard=self.run.shard))
        else:
            self._left_out += 1

    def _note_batch(self, batch: TaskBatch, items: Sequence[int]) -> None:
        self._any_task = True
        if self._telemetry is not None:
            for event in batch.events():
                self._telemetry.task(event, items[event.index - batch.index])
        self._sums[batch.worker].add_batch(batch)
        lines, written = events.batch_lines(batch, items, shard=self.run.shard, share=self.run.sampled)
        for line in lines:
            self._add(line)
        self._left_out += batch.tasks - written

    def _sample(self) -> None:
        from runwide.host import memory  # which no start is to wait for

        now = time.monotonic()
        if now >= self._next_sample:
            self._next_sample = now + max(_TICK, (now - self._began) / _SAMPLES)
            used = memory.read().used
            if used is not None:
                self._add(events.memory_line(time.time(), used))

    def _look_at_host(self, host: Callable[[], Mapping[str, Any]]) -> None:
        self.run = replace(self.run, host=host())

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line)

    def _flush(self, ended: float | None = None) -> None:
        if not self._any_task:
            return
        if self._host is not None:
            self._tried(self._look_at_host, self._host)
            self._host = None
        head = events.run_line(self.run, self._part)
        sums = events.sums_line(time.time(), self._sums, self._left_out)
        last = "" if ended is None else events.end_line(ended)
        part = "".join([head, *self._lines, sums, last]).encode()
        mark = "" if ended is None else usage.Used.of(self.run, ended).mark()
        try:
            self._write(mark, part)
        except Exception as error:  # of the store, mostly
            log.warning("events.lost", shard=self.run.shard, bytes=len(part), cause=str(error))
        self._part += 1
        self._part_began = time.monotonic()
        self._lines, self._size, self._left_out = [], 0, 0
        self._sums.clear()


def of_shard(store: Store, job: Job, index: int, *, workers: int | None) -> EventLog:
    """The log of one run of a shard, written beside its results."""
    run = events.Run(
        id=os.urandom(6).hex(),
        started=time.time(),
        shard=index,
        items=len(job.items_of(index)),
        sampled=events.share_written(job.count),
        job=job.id,
        function=job.function_name,
    )
    return EventLog(run, _Parts(store, manifest.shard_folder(index)), partial(host_facts, workers))


class _Parts:
    """Objects for the parts of a run: ``events.jsonl``, ``events-0001.jsonl``, … in the order of their writing.

    The name of the last one tells what the run used, see `runwide.job.usage`.

    Args:
        store: The job's folder.
        folder: The shard's.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._next = 0

    def __call__(self, mark: str, data: bytes) -> None:
        while True:  # an earlier run of the shard, or a copy of it, may have written some
            suffix = f"-{self._next:04d}" if self._next else ""
            self._next += 1
            try:
                return self._store.create(f"{self._folder}/events{suffix}{mark}.jsonl", data)
            except ObjectExists:
                continue


class MeteredStore(Store):
    """A store whose operations are events.

    Args:
        inner: The store that does the work.
        note: Called with each operation, on the thread that made it.
    """

    def __init__(self, inner: Store, note: Callable[[events.ObjectEvent], None]) -> None:
        super().__init__(inner.uri)
        self._inner = inner
        self._note = note

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        began = time.monotonic()
        self._inner.create(name, data)
        parts = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
        size = sum(memoryview(part).nbytes for part in parts)
        self._done("chunk.spilled" if "/chunks/" in name else "object.written", name, began, size)

    def read(  # noqa: D102 - see Store
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        began = time.monotonic()
        data = self._inner.read(name, start=start, length=length, most=most)
        self._done("items.fetched" if name.startswith("items/") else "object.read", name, began, len(data))
        return data

    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        began = time.monotonic()
        found = [*self._inner.list(prefix, start=start)]
        self._done("objects.listed", prefix, began, 0)
        return iter(found)

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        self._inner.delete(name)

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        self._inner.sweep(folder)

    def sub(self, prefix: str) -> Store:  # noqa: D102 - see Store
        return MeteredStore(self._inner.sub(prefix), self._note)

    def share(self, parts: int) -> None:  # noqa: D102 - see Store
        self._inner.share(parts)

    def _done(self, name: str, thing: str, began: float, size: int) -> None:
        self._note(events.ObjectEvent(name, time.time(), time.monotonic() - began, size, thing))
