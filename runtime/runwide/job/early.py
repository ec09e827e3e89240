"""Start the tasks of a job while its items still arrive, before the job is written."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from runwide.errors import ItemNotPicklable, ResultNotPicklable, ScratchError
from runwide.events.model import FAILED, TaskBatch
from runwide.job._shard import end_of
from runwide.job.task import encode_result
from runwide.job.writing import Writer
from runwide.pool import failures, worker
from runwide.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from runwide.events.log import EventLog
    from runwide.events.model import TaskEvent
    from runwide.job.chunk_log import ChunkLog
    from runwide.job.model import Job


_SECONDS = 1.0  # to wait for the event of a task, which arrives microseconds after its result


class Early:
    """The outcomes of tasks that were started while items arrived; they are stored when the job is written."""

    def __init__(self, arriving: Iterator[Outcome], events: EventBuffer) -> None:
        self._arriving = arriving
        self._events = events
        self._kept: dict[int, Outcome] = {}  # outcomes of other shards

    def run(self, job: Job, chunks: ChunkLog, events: EventLog, pending: Sequence[int]) -> None:
        """Store the outcomes of some items."""
        events.run = replace(events.run, started=self._events.since)
        events.begin()
        with self._events.passed_to(events, set(pending)), Writer(chunks) as writer:
            sent = 0
            for outcome in self._of(set(pending)):
                sent += not _is_unsent(outcome)
                writer.put(end_of(_encoded(outcome, job), outcome.index, job))
            self._events.wait(sent)

    def _of(self, missing: set[int]) -> Iterator[Outcome]:
        for item in sorted(missing & self._kept.keys()):
            missing.remove(item)
            yield self._kept.pop(item)
        while missing:
            outcome = next(self._arriving)
            if outcome.index in missing:
                missing.remove(outcome.index)
                yield outcome
            else:
                self._kept[outcome.index] = outcome


def _is_unsent(outcome: Outcome) -> bool:
    """Return whether a task has no event, because its item was not sent to a worker."""
    return outcome.failure is not None and isinstance(
        outcome.failure.exception, (ItemNotPicklable, ScratchError)
    )


def _encoded(outcome: Outcome, job: Job) -> Outcome:
    """Return an outcome with the frame of its value."""
    if outcome.failure is not None:
        return outcome
    try:
        return Outcome(outcome.index, encode_result(outcome.value, outcome.index, job.digest))
    except ResultNotPicklable as error:
        return Outcome(outcome.index, failure=failures.of_pickling(error, outcome.index))


class EventBuffer:
    """A listener that calls the user's at once, and keeps the events until the log of their shard exists."""

    def __init__(self, user: Callable[[TaskEvent], None] | None) -> None:
        self.since = time.time()
        self._user = user
        self._kept: list[TaskEvent | TaskBatch] = []
        self._events: EventLog | None = None
        self._items: Collection[int] = ()
        self._passed = 0  # tasks of these items that have ended
        self._lock = threading.Condition()

    def __call__(self, event: TaskEvent) -> None:
        """Handle the event of one attempt."""
        if self._user is not None:
            self._user(event)
        with self._lock:
            self._take(event)

    def batch(self, batch: TaskBatch) -> None:
        """Handle the events of tasks that have all succeeded."""
        if self._user is not None:
            for event in batch.events():
                self._user(event)
        with self._lock:
            self._take_batch(batch)

    @contextmanager
    def passed_to(self, events: EventLog, items: Collection[int]) -> Iterator[None]:
        """Pass the events of these items to a log: the kept ones, and those that arrive while the block runs."""
        with self._lock:
            kept, self._kept = self._kept, []
            self._events, self._items, self._passed = events, items, 0
            for one in kept:
                if isinstance(one, TaskBatch):
                    self._take_batch(one)
                else:
                    self._take(one)
        try:
            yield
        finally:
            with self._lock:
                self._events = None

    def wait(self, tasks: int) -> None:
        """Wait for the events of this number of tasks, which arrive at once; a map inside a worker has no events."""
        with self._lock:
            self._lock.wait_for(lambda: self._passed >= tasks, 0 if worker.inside else _SECONDS)

    def _take(self, event: TaskEvent) -> None:
        if self._events is not None and event.index in self._items:
            self._events.task(event, event.index)
            self._passed += event.name == FAILED
            self._lock.notify_all()
        else:
            self._kept.append(event)

    def _take_batch(self, batch: TaskBatch) -> None:
        """Divide a batch into tasks of these items and tasks of others."""
        for mine, parts in groupby(range(batch.tasks), key=lambda task: batch.index + task in self._items):
            places = list(parts)
            part = batch if len(places) == batch.tasks else batch.part(places[0], places[-1] + 1)
            if mine and self._events is not None:
                self._events.batch(part, range(part.index, part.index + part.tasks))
                self._passed += part.tasks
                self._lock.notify_all()
            else:
                self._kept.append(part)


@contextmanager
def start_early(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    on_event: Callable[[TaskEvent], None] | None = None,
    **options: Any,
) -> Iterator[tuple[list[Any], Early]]:
    """Read all items on this thread while their first tasks run; yield the items and the tasks' outcomes.

    Args:
        items: At least one item.
    """
    from runwide.pool.mapping import started

    taken: list[Any] = []
    events = EventBuffer(on_event)
    with started(function, _copied(items, taken), on_event=events, **options) as arriving:
        yield taken, Early(arriving, events)


def _copied(items: Iterable[Any], taken: list[Any]) -> Iterator[Any]:
    for item in items:
        taken.append(item)
        yield item
