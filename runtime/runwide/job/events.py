"""How events are written: one JSON object a line, in parts that each say whose they are and add themselves up.

A part starts with ``run.started``, ends with ``events.summed`` and, the last one, with ``run.ended``. The sums are of all
that happened, also of what was not written because the job is too large to write everything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from runwide import records
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runwide.records import TaskBatch, TaskEvent
    from runwide.sums import WorkerSums

FORMAT = 1
RUN_STARTED, RUN_ENDED, SUMMED, SAMPLED = "run.started", "run.ended", "events.summed", "host.sampled"
ENDED, RETRIED, FAILED = records.ENDED, records.RETRIED, records.FAILED
ALL_ENDED = "tasks.ended"

WRITTEN = 1_000_000
"""Tasks of a job that are written one by one; of larger ones a fair sample is."""

SHORT, MANY = 0.001, 32
"""Seconds and tasks: where so many come together that each take less than that, they share a line: one of its own takes
9 µs to write."""

DETAIL = 500
"""Characters of why an attempt failed."""

_SPREAD = 2_654_435_761  # 2^32 divided by the golden ratio: neighbours land far apart (Knuth, TAOCP 6.4)
_HASHES = 1 << 32


@dataclass(frozen=True, slots=True)
class Run:
    """One process that runs a shard, or a map, from its start to its end.

    Args:
        id: Tells it from other runs of the same shard.
        started: Unix time in seconds.
        shard: Index of the shard, 0 for a map that has none.
        items: How many items the shard has.
        sampled: Share of the tasks that ended well that are written.
        job: Id of the job, empty for a map that has none.
        function: Name of the function.
        host: What it ran on: ``workers``, ``physical``, ``logical``, ``quota``, ``memory``, ``python``, ….
    """

    id: str
    started: float
    shard: int = 0
    items: int = 0
    sampled: float = 1.0
    job: str = ""
    function: str = ""
    host: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One operation on the store.

    Args:
        name: ``items.fetched``, ``chunk.spilled``, or ``object.read``, ``object.written``, ``objects.listed`` for the rest.
        time: When it ended, Unix time in seconds.
        seconds: How long it took, retries included.
        bytes: What was moved.
        object: Name of the object in the job.
    """

    name: str
    time: float
    seconds: float
    bytes: int
    object: str


def share_written(count: int) -> float:
    """Which share of a job's tasks is written.

    Example:
        >>> share_written(1000), share_written(4_000_000)
        (1.0, 0.25)
    """
    return min(1.0, WRITTEN / max(count, 1))


def is_written(item: int, share: float) -> bool:
    """Whether a task is in the sample: a function of its index alone, so that all attempts at it are or are not.

    Example:
        >>> sum(is_written(item, 0.25) for item in range(100_000))
        25001
        >>> is_written(7, 1.0)
        True
    """
    return share >= 1 or item * _SPREAD % _HASHES < share * _HASHES


def run_line(run: Run, part: int) -> str:
    """The line that opens a part."""
    about = asdict(run)
    started = about.pop("started")
    return _line({"name": RUN_STARTED, "time": round(started, 6), "format": FORMAT, "part": part, **about})


def task_line(event: TaskEvent, *, item: int, shard: int) -> str:
    r"""One attempt at a task; what is zero, empty or unknown is left out.

    Example:
        >>> from runwide.records import TaskEvent
        >>> task_line(TaskEvent("task.ended", 12.5, 0, 1, 4711, seconds=0.5, started=12.0), item=70, shard=3)
        '{"name":"task.ended","time":12.5,"shard":3,"item":70,"worker":1,"pid":4711,"attempt":1,"started":12.0,"seconds":0.5}\n'
    """
    about: dict[str, Any] = {
        "name": event.name,
        "time": round(event.time, 6),
        "shard": shard,
        "item": item,
        "worker": event.worker,
        "pid": event.pid,
        "attempt": event.attempt,
    }
    optional = (
        ("queued", round(event.queued, 6)),
        ("started", round(event.started, 6)),
        ("seconds", round(event.seconds, 6)),
        ("cpu_seconds", round(event.cpu_seconds, 6)),
        ("peak_rss", event.peak_rss),
        ("bytes", event.bytes),
        ("kind", event.kind and event.kind.value),
        ("detail", shortened(event.detail, DETAIL)),
    )
    about.update((name, value) for name, value in optional if value)
    if event.cpu is not None:
        about["cpu"] = event.cpu
    return _line(about)


def batch_lines(batch: TaskBatch, items: Sequence[int], *, shard: int, share: float) -> tuple[list[str], int]:
    r"""Tasks that have all ended: in one line if they are short and many, in one each otherwise; and how many have a line.

    In a line for many, ``began`` and ``lasted`` are of each of ``items``, in nanoseconds, the first after ``started``; the
    CPU time is of all that are listed.

    Args:
        batch: The tasks, each timed by itself.
        items: Their items.
        shard: Where.
        share: Share of the job's tasks that is written.

    Example:
        >>> from array import array
        >>> from runwide.records import TaskBatch
        >>> rows = array("L", [1, 1]), array("d", [1.0, 1.5]), array("d", [1.25, 1.75]), array("d", [0.25, 0.25])
        >>> lines, written = batch_lines(TaskBatch(0, 2, 1, 4711, 1, 0.5, *rows), [70, 71], shard=3, share=1.0)
        >>> len(lines), written
        (2, 2)
    """
    kept = (
        [place for place, item in enumerate(items) if is_written(item, share)]
        if share < 1
        else range(len(items))
    )
    if batch.tasks < MANY or sum(batch.ends) - sum(batch.starts) >= SHORT * batch.tasks:
        chosen = set(kept)
        events = (event for place, event in enumerate(batch.events()) if place in chosen)
        return [
            task_line(event, item=items[event.index - batch.index], shard=shard) for event in events
        ], len(kept)
    if not kept:
        return [], 0
    first = batch.starts[kept[0]]
    about: dict[str, Any] = {
        "name": ALL_ENDED,
        "time": round(batch.ends[kept[-1]], 6),
        "shard": shard,
        "worker": batch.worker,
        "pid": batch.pid,
        "attempt": batch.attempt,
        "queued": round(batch.queued, 6),
        "started": first,
        "cpu_seconds": round(sum(batch.cpu_seconds[place] for place in kept), 6),
        "peak_rss": batch.peak_rss,
        "cpu": batch.cpu,
        "items": [items[place] for place in kept],
        "began": [int((batch.starts[place] - first) * 1e9) for place in kept],
        "lasted": [int((batch.ends[place] - batch.starts[place]) * 1e9) for place in kept],
    }
    if any(batch.sizes):
        about["bytes"] = [batch.sizes[place] for place in kept]
    return [_line(about)], len(kept)


def object_line(event: ObjectEvent) -> str:
    """One operation on the store."""
    return _line({**asdict(event), "time": round(event.time, 6), "seconds": round(event.seconds, 6)})


def memory_line(time: float, used: int) -> str:
    """The container's memory at one moment."""
    return _line({"name": SAMPLED, "time": round(time, 3), "memory": used})


def sums_line(time: float, workers: Mapping[int, WorkerSums], left_out: int) -> str:
    """What a part adds up to, with the number of attempts that are in the sums and have no line."""
    rows = [{"worker": number, **_rounded(asdict(row))} for number, row in sorted(workers.items())]
    return _line({"name": SUMMED, "time": round(time, 6), "left_out": left_out, "workers": rows})


def end_line(time: float) -> str:
    """The line that ends a run which ended in order."""
    return _line({"name": RUN_ENDED, "time": round(time, 6)})


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


def _line(about: dict[str, Any]) -> str:
    return json.dumps(about, separators=(",", ":")) + "\n"
