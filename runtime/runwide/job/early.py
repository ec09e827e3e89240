"""Tasks of a job that is not written yet, since its items are still coming."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from runwide.errors import ItemNotPicklable, ResultNotPicklable, ScratchError
from runwide.job.chunks import Writer
from runwide.job.shard import end_of
from runwide.job.task import framed
from runwide.pool import failures, worker
from runwide.records import FAILED, Outcome, TaskBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from runwide.job.chunks import ChunkLog
    from runwide.job.event_log import EventLog
    from runwide.job.manifest import Job
    from runwide.records import TaskEvent


_SECONDS = 1.0  # until the event of a task is surely here: its result comes microseconds earlier


class Early:
    """The outcomes of tasks that were started while their items came; stored once the job is written.

    Args:
        arriving: The outcomes.
        heard: The events of the tasks.
    """

    def __init__(self, arriving: Iterator[Outcome], heard: Heard) -> None:
        self._arriving = arriving
        self._heard = heard
        self._kept: dict[int, Outcome] = {}  # of other shards

    def run(self, job: Job, chunks: ChunkLog, events: EventLog, pending: Sequence[int]) -> None:
        """Store the outcomes of some items.

        Args:
            job: The job.
            chunks: Where to.
            events: Where the events of their tasks go.
            pending: The items, in order.
        """
        events.run = replace(events.run, started=self._heard.since)
        events.begin()
        with self._heard.passed_to(events, set(pending)), Writer(chunks) as writer:
            sent = 0
            for outcome in self._of(set(pending)):
                sent += not _is_unsent(outcome)
                writer.put(end_of(_framed(outcome, job), outcome.index, job))
            self._heard.wait(sent)

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
    """Whether nothing is heard of a task, since its item never reached a worker."""
    return outcome.failure is not None and isinstance(
        outcome.failure.exception, (ItemNotPicklable, ScratchError)
    )


def _framed(outcome: Outcome, job: Job) -> Outcome:
    """The same with a frame as its value."""
    if outcome.failure is not None:
        return outcome
    try:
        return Outcome(outcome.index, framed(outcome.value, outcome.index, job.digest))
    except ResultNotPicklable as error:
        return Outcome(outcome.index, failure=failures.of_pickling(error, outcome.index))


class Heard:
    """A listener that calls the user's at once, and keeps events until the log of their shard is there.

    Args:
        user: The user's listener.
    """

    def __init__(self, user: Callable[[TaskEvent], None] | None) -> None:
        self.since = time.time()
        self._user = user
        self._kept: list[TaskEvent | TaskBatch] = []
        self._events: EventLog | None = None
        self._items: Collection[int] = ()
        self._passed = 0  # tasks that have ended, of these items
        self._lock = threading.Condition()

    def __call__(self, event: TaskEvent) -> None:
        """One attempt."""
        if self._user is not None:
            self._user(event)
        with self._lock:
            self._take(event)

    def batch(self, batch: TaskBatch) -> None:
        """Tasks that have all ended with a value."""
        if self._user is not None:
            for event in batch.events():
                self._user(event)
        with self._lock:
            self._take_batch(batch)

    @contextmanager
    def passed_to(self, events: EventLog, items: Collection[int]) -> Iterator[None]:
        """Pass the events of these items to a log: those so far, and those that come while the block runs."""
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
        """Wait for the events of so many tasks, which come at once; in place, inside a worker, there are none."""
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
        """Divide a batch into the tasks of these items and others."""
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
def early(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    on_event: Callable[[TaskEvent], None] | None = None,
    **options: Any,
) -> Iterator[tuple[list[Any], Early]]:
    """Take all items on this thread, while their first tasks run; gives them, and the tasks.

    Args:
        function: Takes one item.
        items: At least one.
        on_event: As for `runwide.job.shard.run`.
        **options: Others of `runwide.pool.mapping.Options`.
    """
    from runwide.pool.mapping import started

    taken: list[Any] = []
    heard = Heard(on_event)
    with started(function, _noted(items, taken), on_event=heard, **options) as arriving:
        yield taken, Early(arriving, heard)


def _noted(items: Iterable[Any], taken: list[Any]) -> Iterator[Any]:
    for item in items:
        taken.append(item)
        yield item
