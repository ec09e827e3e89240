"""Events as lines of JSON, written and read back.

A log is stored in parts. A part starts with ``run.started`` and ends with ``events.summed``; the last part of a run ends
with ``run.ended``. The sums include the attempts that have no line because the job is too large to write every attempt.

The keys of a line are the fields of its record. They are derived from the record (see `_Form`), so a new field needs no
change here.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from runwide.events import model
from runwide.events.model import WorkerSums
from runwide.json_text import json_of
from runwide.records import FailureKind
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from runwide.events.model import Attempt, ObjectEvent, Run, TaskBatch, TaskEvent

T = TypeVar("T")

FORMAT = 1
RUN_STARTED, RUN_ENDED, SUMMED, SAMPLED = "run.started", "run.ended", "events.summed", "host.sampled"
ALL_ENDED = "tasks.ended"
_ATTEMPTS = (model.ENDED, model.RETRIED, model.FAILED)

WRITTEN = 1_000_000
"""Number of tasks of a job that are written one by one; a larger job writes a fair sample."""

SHORT, MANY = 0.001, 32
"""If at least so many tasks come together that each take fewer seconds, they share a line: a line takes 9 µs to write."""

DETAIL = 500
"""Characters of the cause of a failure."""

_SPREAD = 2_654_435_761  # 2^32 divided by the golden ratio: neighbours get distant values (Knuth, TAOCP 6.4)
_HASHES = 1 << 32
_LARGEST = 1e11  # of floats, most of them seconds: a later time is beyond the year 5000
_MOST = 1 << 62  # of whole numbers
_TEXT = 2000  # characters of a text that are kept when it is read

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""Errors that reading a malformed line may raise: anyone who can write to the store can change a log."""


def number(value: Any) -> float:
    """Read a number that is not negative, not NaN and not out of proportion."""
    if type(value) not in (int, float) or not 0 <= value <= _LARGEST:
        raise ValueError("expected a number from 0 to 1e11")
    return float(value)


def count(value: Any) -> int:
    """Read a whole number that is not negative."""
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError("expected a whole number from 0 to 2**62")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value if len(value) <= _TEXT else shortened(value, _TEXT)


def _facts(about: Mapping[str, Any]) -> dict[str, Any]:
    """Read the facts of a machine: numbers and texts; others are left out."""
    texts = {name: _text(value) for name, value in about.items() if isinstance(value, str)}
    numbers = {name: value for name, value in about.items() if type(value) in (int, float)}
    return {**texts, **{name: float(value) for name, value in numbers.items() if 0 <= value <= _MOST}}


_READERS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "float": number,
    "int": count,
    "int | None": count,
    "FailureKind | None": FailureKind,
    "Mapping[str, Any]": _facts,
}


def _is_required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


class _Form(Generic[T]):
    """The fields of a record as names and values of JSON, derived from their declarations.

    Args:
        **keys: Names in JSON of the fields that have another name there.
    """

    def __init__(self, record: type[T], **keys: str) -> None:
        declared = fields(record)  # type: ignore[arg-type]
        self._record = record
        self._values = attrgetter(*(one.name for one in declared))
        self._keys = [keys.get(one.name, one.name) for one in declared]
        self._defaults = [one.default for one in declared]
        self._readers = [
            (one.name, key, _READERS[str(one.type)], _is_required(one))
            for one, key in zip(declared, self._keys, strict=True)
        ]

    def written(self, record: T, *, whole: bool = False) -> dict[str, Any]:
        """Return the fields of a record; an optional field that is zero, empty or unknown is left out, unless ``whole``."""
        return {
            key: round(value, 6) if type(value) is float else value
            for key, value, default in zip(self._keys, self._values(record), self._defaults, strict=True)
            if whole or value or value != default
        }

    def read(self, about: Mapping[str, Any], **known: Any) -> T:
        """Return the record; values of ``known`` replace those of the line. It may raise one of `MALFORMED`."""
        for name, key, read, required in self._readers:
            if name not in known and (required or key in about):
                known[name] = read(about[key])
        return self._record(**known)


_EVENT = _Form(model.TaskEvent, index="item")
_ATTEMPT = _Form(model.Attempt)
_RUN = _Form(model.Run, started="time")
_OBJECT = _Form(model.ObjectEvent)
_SUMS = _Form(WorkerSums)
_BATCH = {one.name for one in fields(model.TaskBatch)} - {"index", "cpu_seconds"}
_SHARED = [one.name for one in fields(model.TaskEvent) if one.name in _BATCH]


def share_written(tasks: int) -> float:
    """Return the share of a job's tasks that is written.

    Example:
        >>> share_written(1000), share_written(4_000_000)
        (1.0, 0.25)
    """
    return min(1.0, WRITTEN / max(tasks, 1))


def is_written(item: int, share: float) -> bool:
    """Return True if a task is in the sample: a function of its index alone, so that all its attempts are in it or none.

    Example:
        >>> sum(is_written(item, 0.25) for item in range(100_000))
        25001
        >>> is_written(7, 1.0)
        True
    """
    return share >= 1 or item * _SPREAD % _HASHES < share * _HASHES


def run_line(run: Run, part: int) -> str:
    """Return the line that opens a part."""
    return _line({"name": RUN_STARTED, "format": FORMAT, "part": part, **_RUN.written(run, whole=True)})


def task_line(event: TaskEvent, *, item: int, shard: int) -> str:
    r"""Return one attempt at a task as a line.

    Example:
        >>> from runwide.events import TaskEvent
        >>> task_line(TaskEvent("task.ended", 12.5, 0, 1, 4711, seconds=0.5, started=12.0), item=70, shard=3)
        '{"name":"task.ended","time":12.5,"item":70,"worker":1,"pid":4711,"attempt":1,"seconds":0.5,"started":12.0,"shard":3}\n'
    """
    about = {**_EVENT.written(event), "item": item, "shard": shard}
    if event.detail:
        about["detail"] = shortened(event.detail, DETAIL)
    return _line(about)


def batch_lines(batch: TaskBatch, items: Sequence[int], *, shard: int, share: float) -> tuple[list[str], int]:
    r"""Return tasks that have all ended with a value: in one line if they are short and many, otherwise in a line each.

    In a line for many, ``began`` and ``lasted`` are nanoseconds for each of ``items``, ``began`` after ``started``; the CPU
    time is that of all listed items together.

    Args:
        batch: The tasks, each timed by itself.
        share: Share of the job's tasks that is written.

    Returns:
        The lines, and the number of tasks in them.

    Example:
        >>> from array import array
        >>> from runwide.events import TaskBatch
        >>> rows = array("L", [1, 1]), array("d", [1.0, 1.5]), array("d", [1.25, 1.75]), array("d", [0.25, 0.25])
        >>> lines, written = batch_lines(TaskBatch(0, 2, 1, 4711, 1, 0.5, *rows), [70, 71], shard=3, share=1.0)
        >>> len(lines), written
        (2, 2)
    """
    kept: Sequence[int] = range(len(items))
    if share < 1:
        kept = [place for place, item in enumerate(items) if is_written(item, share)]
    if batch.tasks < MANY or sum(batch.ends) - sum(batch.starts) >= SHORT * batch.tasks:
        chosen = set(kept)
        events = (event for place, event in enumerate(batch.events()) if place in chosen)
        lines = [task_line(event, item=items[event.index - batch.index], shard=shard) for event in events]
        return lines, len(kept)
    if not kept:
        return [], 0
    first = batch.starts[kept[0]]
    about: dict[str, Any] = {
        "name": ALL_ENDED,
        "time": round(batch.ends[kept[-1]], 6),
        "shard": shard,
        **{name: getattr(batch, name) for name in _SHARED},
        "started": first,
        "cpu_seconds": round(sum(batch.cpu_seconds[place] for place in kept), 6),
        "items": [items[place] for place in kept],
        "began": [int((batch.starts[place] - first) * 1e9) for place in kept],
        "lasted": [int((batch.ends[place] - batch.starts[place]) * 1e9) for place in kept],
    }
    if any(batch.sizes):
        about["bytes"] = [batch.sizes[place] for place in kept]
    return [_line(about)], len(kept)


def object_line(event: ObjectEvent) -> str:
    """Return one operation on the store as a line."""
    return _line(_OBJECT.written(event))


def memory_line(time: float, used: int) -> str:
    """Return the memory that the container uses at one moment as a line."""
    return _line({"name": SAMPLED, "time": round(time, 3), "memory": used})


def sums_line(time: float, workers: Mapping[int, WorkerSums], left_out: int) -> str:
    """Return the sums of a part as a line, with the number of attempts that are in the sums and have no line."""
    rows = [{"worker": number, **_SUMS.written(row, whole=True)} for number, row in sorted(workers.items())]
    return _line({"name": SUMMED, "time": round(time, 6), "left_out": left_out, "workers": rows})


def end_line(time: float) -> str:
    """Return the line that ends a run which ended in order."""
    return _line({"name": RUN_ENDED, "time": round(time, 6)})


def _line(about: dict[str, Any]) -> str:
    return json.dumps(about, separators=(",", ":")) + "\n"


def read_line(line: bytes) -> dict[str, Any]:
    """Return a line as an object of JSON that has a name; raise one of `MALFORMED` for another line."""
    about: dict[str, Any] = json_of(line, finite=True)
    _text(about["name"])
    return about


def read_run(about: Mapping[str, Any], shard: int) -> Run:
    """Return the run that a line opens; the place of the log decides which shard it is."""
    run = _RUN.read(about, shard=shard)
    return replace(run, sampled=min(1.0, max(1e-9, run.sampled)))


def read_object(about: Mapping[str, Any]) -> ObjectEvent:
    """Return the operation on a store of a line."""
    return _OBJECT.read(about)


def read_sums(about: Mapping[str, Any]) -> Iterator[tuple[int, WorkerSums]]:
    """Yield the number of each worker, and its sums."""
    for row in about["workers"]:
        yield count(row["worker"]), _SUMS.read(row, ended=count(row["ended"]))


def read_attempts(about: dict[str, Any], shard: int) -> list[Attempt]:
    """Return the attempts of a line for the report; none, if the line is about something else."""
    return [_attempt(one, shard) for one in _tasks(about)]


def attempt_of(event: TaskEvent) -> Attempt:
    """Return an event as the report reads it."""
    about = _EVENT.written(event)
    return _attempt({**about, "detail": shortened(event.detail, DETAIL)}, 0)


def _attempt(about: Mapping[str, Any], shard: int) -> Attempt:
    found = _ATTEMPT.read(about, shard=shard, count=1)
    if found.queued and 0 < found.started <= found.time:
        return found
    started = found.started or max(0.0, found.time - found.seconds)
    return replace(found, started=started, time=max(found.time, started), queued=found.queued or started)


def read_events(part: bytes) -> Iterator[TaskEvent]:
    """Yield the attempts of a part of a log; malformed lines are left out."""
    for line in part.splitlines():
        try:
            found = [_EVENT.read(one) for one in _tasks(read_line(line))]
        except MALFORMED:
            continue
        yield from found


def _tasks(about: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Return the attempts of a line, each as the object that a line of its own would have."""
    if about["name"] in _ATTEMPTS:
        return [about]
    return _divided(about) if about["name"] == ALL_ENDED else ()


def _divided(about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Divide a line for many; their CPU time is shared out by their duration."""
    first, items, began, lasted = (about.pop(name) for name in ("started", "items", "began", "lasted"))
    sizes = about.pop("bytes", None) or [0] * len(items)
    spent = number(about["cpu_seconds"]) / max(1, sum(lasted))
    common = {name: value for name, value in about.items() if value is not None}
    for item, begin, nanos, size in zip(items, began, lasted, sizes, strict=True):
        started, seconds = first + begin / 1e9, nanos / 1e9
        yield {
            **common, "name": model.ENDED, "item": item, "time": started + seconds, "started": started, "seconds": seconds,
            "cpu_seconds": spent * nanos, "bytes": size,
        }  # fmt: skip
