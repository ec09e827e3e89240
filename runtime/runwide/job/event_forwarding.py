"""Pass the events of a job's shards to a listener in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.api.callbacks import undisturbed
from runwide.events import lines
from runwide.events.model import ENDED, FAILED, RETRIED, TaskEvent
from runwide.events.parts import read_part
from runwide.job import chained
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runwide.job.model import Job
    from runwide.records import Failure, FailureKind
    from runwide.store.base import Store

_PASSED, _ENDED = 1, 2  # of an item: its event was passed on; it has ended and was not passed on yet


class EventForwarder:
    """Passes to a listener each attempt in the shards' event logs, and the end of each item.

    The logs have everything that was recorded where the tasks ran. An item may have ended without a line there: its
    component was killed, or the job is too large to log all items. Then its event is made at the end, from its result.
    Anyone who can write to the store can change the logs, so they are only shown, and decide nothing.

    Args:
        listener: Called with each `runwide.events.TaskEvent`, on the thread that reads; the first exception that it raises
            is logged.
    """

    def __init__(self, store: Store, job: Job, listener: Callable[[TaskEvent], object]) -> None:
        self._store = store
        self._job = job
        self._listener = listener
        self._parts: list[str] = []
        chained.check_source(job)
        self._state = bytearray(job.count)
        # failed items whose event was not passed on yet
        self._failed: dict[int, tuple[str, FailureKind | None, str, int]] = {}
        self._has_raised = False

    def add_part(self, name: str) -> None:
        """Add the name of a new part of a log, which the next `forward` reads."""
        self._parts.append(name)

    def skip(self, ended: Iterable[int]) -> None:
        """Skip the parts so far and the items that have ended, since they belong to earlier runs."""
        self._parts.clear()
        for item in ended:
            self._state[item] = _PASSED

    def add_end(self, item: int, failure: Failure | None = None) -> None:
        """Record that an item has ended."""
        if self._state[item] == _PASSED:
            return
        if failure is None:
            self._state[item] = _ENDED
            return
        detail = shortened(f"{failure.type}: {failure.message}", lines.DETAIL)
        self._failed[item] = FAILED, failure.kind, detail, failure.attempts

    def forward(self) -> None:
        """Read the new parts, and pass their events to the listener."""
        parts, self._parts = self._parts, []
        for name in parts:
            for event in lines.read_events(read_part(self._store, name) or b""):
                if event.index >= self._job.count:
                    continue
                if event.name != RETRIED:
                    self._state[event.index] = _PASSED
                    self._failed.pop(event.index, None)
                self._pass(event)

    def finish(self, time: float) -> None:
        """Pass on the ends of items that have no event in the logs.

        Args:
            time: Unix time of these events, in seconds.
        """
        self.forward()
        for item, state in enumerate(self._state):
            if state == _ENDED:
                self._pass(TaskEvent(ENDED, time, item, 0, 0))
        for item, (name, kind, detail, attempts) in self._failed.items():
            self._pass(TaskEvent(name, time, item, 0, 0, attempts, detail=detail, kind=kind))
        self._failed.clear()

    def _pass(self, event: TaskEvent) -> None:
        self._has_raised |= not undisturbed(self._listener, event, logs=not self._has_raised)
