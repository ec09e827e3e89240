"""Events of a job's shards, told to a listener elsewhere as their logs are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide.callbacks import undisturbed
from runwide.errors import IntegrityError
from runwide.job import chained, events
from runwide.job.fields import number, text
from runwide.log import Log
from runwide.parsing import json_of
from runwide.records import FailureKind, TaskEvent
from runwide.redaction import shortened
from runwide.spill.verified import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runwide.job.manifest import Job
    from runwide.records import Failure
    from runwide.spill.store import Store

log = Log("job")

_PART = 64 << 20  # bytes; shards write parts of some 8 MiB
_TOLD, _ENDED = 1, 2  # of an item: that it was told, or has ended and was not


class Heard:
    """Tells a listener of each attempt that shards have written down, and of each item's end.

    The parts of the event logs say all that is known where the tasks ran. An item that has ended without a line there, since
    its component was killed or the job is too large to have all written, is told at the end, with what its result tells.
    Nothing in these logs is signed: they are shown, and decide nothing.

    Args:
        store: The job's folder.
        job: The job.
        listener: Called with each `runwide.records.TaskEvent`, on the thread that reads; the first exception that it raises
            is logged.
    """

    def __init__(self, store: Store, job: Job, listener: Callable[[TaskEvent], object]) -> None:
        self._store = store
        self._job = job
        self._listener = listener
        self._waiting: list[str] = []
        chained.check_count(job)
        self._told = bytearray(job.count)
        self._untold: dict[int, tuple[str, FailureKind | None, str, int]] = {}
        self._has_failed = False

    def note(self, name: str) -> None:
        """Take the name of a part that is new; it is read by `tell`."""
        self._waiting.append(name)

    def pass_over(self, ended: Iterable[int]) -> None:
        """Leave out the parts that are there so far, and the items that have ended: they are of earlier runs.

        Args:
            ended: The items.
        """
        self._waiting.clear()
        for item in ended:
            self._told[item] = _TOLD

    def ended(self, item: int, failure: Failure | None = None) -> None:
        """Take note that an item has ended."""
        if self._told[item] == _TOLD:
            return
        if failure is None:
            self._told[item] = _ENDED
            return
        detail = shortened(f"{failure.type}: {failure.message}", events.DETAIL)
        self._untold[item] = events.FAILED, failure.kind, detail, failure.attempts

    def tell(self) -> None:
        """Read the parts that are new, and tell of what is in them."""
        waiting, self._waiting = self._waiting, []
        for name in waiting:
            try:
                data = self._store.read(name, most=_PART)
            except (IntegrityError, *ABSENT) as error:
                log.warning("events.ignored", uri=self._store.child_uri(name), cause=str(error))
                continue
            for event in _events(bytes(data), self._job.count):
                if event.name != events.RETRIED:
                    self._told[event.index] = _TOLD
                    self._untold.pop(event.index, None)
                self._pass(event)

    def end(self, time: float) -> None:
        """Tell of the items of which no part of a log has told.

        Args:
            time: When, Unix time in seconds.
        """
        self.tell()
        for item, mark in enumerate(self._told):
            if mark == _ENDED:
                self._pass(TaskEvent(events.ENDED, time, item, 0, 0))
        for item, (name, kind, detail, attempts) in self._untold.items():
            self._pass(TaskEvent(name, time, item, 0, 0, attempts, detail=detail, kind=kind))
        self._untold.clear()

    def _pass(self, event: TaskEvent) -> None:
        self._has_failed |= not undisturbed(self._listener, event, logs=not self._has_failed)


def _events(part: bytes, count: int) -> Iterator[TaskEvent]:
    """The attempts in a part of a log; lines that make no sense are left out."""
    for line in part.splitlines():
        try:
            about = json_of(line, finite=True)
            name = about["name"]
            if name in (events.ENDED, events.RETRIED, events.FAILED):
                found = [_event(about)]
            elif name == events.ALL_ENDED:
                found = list(_shared(about))
            else:
                continue
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            continue
        yield from (event for event in found if event.index < count)


def _event(about: Mapping[str, Any]) -> TaskEvent:
    kind, cpu = about.get("kind"), about.get("cpu")
    return TaskEvent(
        name=text(about["name"]),
        time=float(about["time"]),
        index=number(about["item"]),
        worker=number(about["worker"]),
        pid=number(about["pid"]),
        attempt=number(about.get("attempt", 1)),
        seconds=float(about.get("seconds", 0.0)),
        peak_rss=number(about.get("peak_rss", 0)),
        detail=text(about.get("detail", "")),
        queued=float(about.get("queued", 0.0)),
        started=float(about.get("started", 0.0)),
        cpu_seconds=float(about.get("cpu_seconds", 0.0)),
        cpu=None if cpu is None else number(cpu),
        bytes=number(about.get("bytes", 0)),
        kind=None if kind is None else FailureKind(kind),
    )


def _shared(about: Mapping[str, Any]) -> Iterator[TaskEvent]:
    """Those that share a line; CPU time, which is of all, is shared out by their duration."""
    first, items, began, lasted = (about[name] for name in ("started", "items", "began", "lasted"))
    sizes = about.get("bytes") or [0] * len(items)
    spent = float(about["cpu_seconds"]) / max(1, sum(lasted))
    for item, begin, nanos, size in zip(items, began, lasted, sizes, strict=True):
        started, seconds = float(first) + begin / 1e9, nanos / 1e9
        yield _event(
            {
                **about, "name": events.ENDED, "item": item, "time": started + seconds, "started": started,
                "seconds": seconds, "cpu_seconds": spent * nanos, "bytes": size,
            }
        )  # fmt: skip
