"""The log of a run's events, written in parts by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide.events import lines, otel
from runwide.events.model import ENDED, WorkerSums
from runwide.events.parts import Used
from runwide.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from runwide.events.model import ObjectEvent, Run, TaskBatch, TaskEvent

log = Log("job")

_TICK = 1.0  # seconds between two looks at new events
_PART_BYTES = 8 << 20
_PART_SECONDS, _PART_SHARE = 30.0, 0.05
_SAMPLES = 300  # of the memory in a run, at most about twice as many


def part_after(elapsed: float) -> float:
    """Return the seconds for which events may wait in memory, ``elapsed`` seconds into the run: a kill may lose so much.

    Example:
        >>> part_after(0), part_after(3600)
        (30.0, 180.0)
    """
    return max(_PART_SECONDS, _PART_SHARE * elapsed)


class EventLog:
    """The events of one run. After `begin`, a thread writes parts; leaving the block writes the last one.

    A run without tasks writes nothing. An error of the store is logged and not raised, since the results matter more.

    Args:
        write: Stores a part, given the mark for its name (`Used.mark` for the last part, otherwise empty) and its bytes.
        host: Returns the facts of the machine, if the run does not have them yet. It is called for the first part, so that
            no task waits for it.
    """

    def __init__(
        self,
        run: Run,
        write: Callable[[str, bytes], None],
        host: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.run = run
        self._write = write
        self._host = host
        self._new: deque[Callable[[], None]] = deque()  # other threads append
        self._lines: list[str] = []
        self._size = 0
        self._part = 0
        self._left_out = 0
        self._any_task = False
        self._has_failed = False
        self._part_began = self._next_sample = time.monotonic()
        self._began = self._part_began
        self._sums: dict[int, WorkerSums] = defaultdict(WorkerSums)
        self._spans = otel.of(run)
        self._stop = threading.Event()
        self._ended = threading.Lock()  # held by the thread that writes the last part
        self._thread: threading.Thread | None = None

    def task(self, event: TaskEvent, item: int) -> None:
        """Record the end of an attempt; ``item`` is its index in the whole job."""
        self._new.append(lambda: self._note_task(event, item))

    def batch(self, batch: TaskBatch, items: Sequence[int]) -> None:
        """Record tasks that ended with a value; ``items`` are their indices in the whole job."""
        self._new.append(lambda: self._note_batch(batch, items))

    def object(self, event: ObjectEvent) -> None:
        """Record an operation on the store."""
        self._new.append(lambda: self._add(lines.object_line(event)))

    def begin(self) -> None:
        """Start the thread that writes parts before the end.

        Call it when the first task is on its way: starting a thread waits for a CPU.
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
        if self._ended.acquire(blocking=False):  # the thread was not started
            self._end()

    def _main(self) -> None:
        self._ended.acquire()
        while not self._stop.wait(_TICK):
            self._take_new()
            now = time.monotonic()
            if self._size > _PART_BYTES or now - self._part_began > part_after(now - self._began):
                self._flush()
        self._end()

    def _end(self) -> None:
        self._take_new()
        self._flush(time.time())
        if self._spans is not None:
            self._safely(self._spans.end, time.time())

    def _take_new(self) -> None:
        """Make lines of the new events."""
        while self._new:
            self._safely(self._new.popleft())
        self._safely(self._sample)

    def _safely(self, step: Callable[..., None], *args: Any) -> None:
        try:
            step(*args)
        except Exception as error:  # an exporter of spans, for example: the results matter more
            if not self._has_failed:
                self._has_failed = True
                log.warning("events.lost", shard=self.run.shard, cause=f"{type(error).__name__}: {error}")

    def _note_task(self, event: TaskEvent, item: int) -> None:
        self._any_task = True
        if self._spans is not None:
            self._spans.task(event, item)
        self._sums[event.worker].add(event)
        if event.name != ENDED or lines.is_written(item, self.run.sampled):
            self._add(lines.task_line(event, item=item, shard=self.run.shard))
        else:
            self._left_out += 1

    def _note_batch(self, batch: TaskBatch, items: Sequence[int]) -> None:
        self._any_task = True
        if self._spans is not None:
            for event in batch.events():
                self._spans.task(event, items[event.index - batch.index])
        self._sums[batch.worker].add_batch(batch)
        found, written = lines.batch_lines(batch, items, shard=self.run.shard, share=self.run.sampled)
        for line in found:
            self._add(line)
        self._left_out += batch.tasks - written

    def _sample(self) -> None:
        from runwide.host import memory  # slow to load: no start waits for it

        now = time.monotonic()
        if now >= self._next_sample:
            self._next_sample = now + max(_TICK, (now - self._began) / _SAMPLES)
            used = memory.read().used
            if used is not None:
                self._add(lines.memory_line(time.time(), used))

    def _add_host(self, host: Callable[[], Mapping[str, Any]]) -> None:
        self.run = replace(self.run, host=host())

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line)

    def _flush(self, ended: float | None = None) -> None:
        if not self._any_task:
            return
        if self._host is not None:
            self._safely(self._add_host, self._host)
            self._host = None
        head = lines.run_line(self.run, self._part)
        sums = lines.sums_line(time.time(), self._sums, self._left_out)
        last = "" if ended is None else lines.end_line(ended)
        part = "".join([head, *self._lines, sums, last]).encode()
        mark = "" if ended is None else Used.of(self.run, ended).mark()
        try:
            self._write(mark, part)
        except Exception as error:  # mostly errors of the store
            log.warning("events.lost", shard=self.run.shard, bytes=len(part), cause=str(error))
        self._part += 1
        self._part_began = time.monotonic()
        self._lines, self._size, self._left_out = [], 0, 0
        self._sums.clear()
