"""From a job in a store, or the events of a map, to what the report is made of; whatever is malformed is left out."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.errors import FormatTooNew, IntegrityError
from runwide.job import event_log, events, manifest
from runwide.job.ran import ran
from runwide.job.reference import Reference, parse
from runwide.log import Log
from runwide.parsing import json_of
from runwide.records import Failure, TaskEvent
from runwide.redaction import shortened
from runwide.report.story import Attempt, RunLog, Story
from runwide.spill.store import open_inside
from runwide.spill.verified import ABSENT
from runwide.sums import WorkerSums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.job.manifest import Job
    from runwide.pool.trace import Row, Trace
    from runwide.spill.store import Store

T = TypeVar("T")

log = Log("report")

_EVENTS = re.compile(r"shards/(\d{1,9})/events(?:-\d+)?(?:\.used-[\d.cgs-]{1,40})?\.jsonl")
_PART = 64 << 20  # bytes; we write parts of some 8 MiB
_LATEST = 1e11  # seconds: a time beyond the year 5000 is none
_LONGEST = 1e9
_TEXT = 2000  # characters of a text that are believed to be meant


def of_job(reference: str) -> Story:
    """Read what happened in a job, with one listing, one read for each finished shard and one for each part of events.

    Args:
        reference: What `runwide.scatter` returned, or what stands for the job's results.

    Raises:
        BadReference: It is none.
        ObjectNotFound: The job is not there (any more).
    """
    about = manifest.read_job(_of_job(reference))
    reader = Reader()
    with open_inside(about.uri) as store:
        names = {info.name: info.size for info in store.list()}
        where = ran(store, about, names)
        for name in names:
            found = _EVENTS.fullmatch(name)
            if found and int(found[1]) < about.shards:
                reader.take(store, name, shard=int(found[1]))
        manifests = manifest.manifests_in(names)
        done = [index for index in range(about.shards) if index in manifests]
        failures = [failure for index in done for failure in _failures(store, about, index, manifests[index])]
    return Story(
        title=about.id,
        function=about.function_name,
        items=about.count,
        shards=about.shards,
        finished=len(done),
        runs=reader.runs(),
        failures=tuple(failures),
        uri=about.uri,
        reference=about.reference,
        ran=where,
        created=about.created,
        environment={**about.environment, **about.packages},
        unreadable=reader.unreadable,
    )


def _of_job(reference: str) -> str:
    found = parse(reference)
    if not found.name.startswith("result"):
        return reference
    return str(Reference(f"{found.folder}/{manifest.JOB}", manifest.read_result(found).job))


def _failures(store: Store, job: Job, index: int, manifests: Sequence[int]) -> tuple[Failure, ...]:
    try:
        return manifest.read_shard(store, job, index, numbers=manifests)[0].failures
    except (IntegrityError, *ABSENT, FormatTooNew):  # a report is shown of what there is
        return ()


def of_lines(text: bytes, *, title: str) -> Story:
    """Read the events of one run that belong to no job."""
    reader = Reader()
    reader.read(text)
    runs = reader.runs()
    items = {attempt.item for log in runs for attempt in log.attempts}
    function = runs[0].run.function if runs else ""
    return Story(title, function, len(items), len(runs), len(runs), runs, unreadable=reader.unreadable)


def of_trace(trace: Trace, results: Sequence[Any]) -> Story:
    """What a map has left behind of itself."""
    run = events.Run(
        id="map",
        started=trace.started,
        items=len(results),
        function=trace.function,
        host=event_log.host_facts(trace.workers),
    )
    log = RunLog(run, ended=trace.ended, memory=list(trace.memory))
    log.sums.update(trace.sums)
    for worker, rows in trace.rows.items():
        log.attempts += [_of_row(worker, row, trace.sums[worker].peak_rss) for row in rows]
    log.attempts += map(_of_event, trace.failed)
    failures = tuple(one for one in results if isinstance(one, Failure))
    return Story("map", trace.function, len(results), 1, 1, (log,), failures)


def _of_row(worker: int, row: Row, peak: int) -> Attempt:
    item, count, attempt, start, end, seconds, spent = row
    return Attempt(
        events.ENDED, end, start, start, seconds, item, 0, worker, attempt, spent, peak, 0, "", "", count
    )


def _of_event(event: TaskEvent) -> Attempt:
    kind = event.kind.value if event.kind else ""
    return Attempt(
        event.name, event.time, event.started, event.queued, event.seconds, event.index, 0, event.worker, event.attempt,
        event.cpu_seconds, event.peak_rss, event.bytes, kind, shortened(event.detail, events.DETAIL),
    )  # fmt: skip  # two lines are enough


class Reader:
    """Puts parts together; lines that make no sense are counted and left out."""

    def __init__(self) -> None:
        self._logs: dict[tuple[int, str], RunLog] = {}
        self.unreadable = 0

    def take(self, store: Store, name: str, *, shard: int) -> None:
        """Take in one part that lies in a store, if it is one."""
        try:
            data = store.read(name, most=_PART)
        except (IntegrityError, *ABSENT) as error:
            log.warning("events.ignored", uri=store.child_uri(name), cause=str(error))
            self.unreadable += 1
            return
        self.read(bytes(data), shard=shard)

    def read(self, text: bytes, *, shard: int = 0) -> None:
        """Take in one part, of which only the place where it lies is believed to be right."""
        log: RunLog | None = None
        for line in text.splitlines():
            try:
                about = json_of(line, finite=True)
                if about["name"] == events.RUN_STARTED:
                    run = _run(about, shard)
                    log = self._logs.setdefault((shard, run.id), RunLog(run))
                elif log is not None:
                    _take(log, about)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
                self.unreadable += 1

    def runs(self) -> tuple[RunLog, ...]:
        """What was read, by shard and time."""
        return tuple(sorted(self._logs.values(), key=lambda log: (log.run.shard, log.run.started)))


def _run(about: Mapping[str, Any], shard: int) -> events.Run:
    return events.Run(
        id=_text(about["id"]),
        started=_time(about["time"]),
        shard=shard,
        items=_count(about.get("items", 0)),
        sampled=min(1.0, max(1e-9, float(about.get("sampled", 1.0)))),
        job=_text(about.get("job", "")),
        function=_text(about.get("function", "")),
        host=_host(about.get("host", {})),
    )


def _host(about: Mapping[str, Any]) -> dict[str, Any]:
    numbers = ("workers", "physical", "logical", "usable", "memory", "quota")
    known: dict[str, Any] = {name: float(about[name]) for name in numbers if about.get(name) is not None}
    texts = {name: _text(value) for name, value in about.items() if isinstance(value, str)}
    return {**known, **texts}


def _take(log: RunLog, about: Mapping[str, Any]) -> None:
    name = about["name"]
    if name in (events.ENDED, events.RETRIED, events.FAILED):
        log.attempts.append(_attempt(about, log.run.shard))
    elif name == events.ALL_ENDED:
        log.attempts += _attempts(about, log.run.shard)
    elif name == events.SUMMED:
        for row in about["workers"]:
            log.sums[_count(row["worker"])].merge(_sums(row))
    elif name == events.SAMPLED:
        log.memory.append((_time(about["time"]), _count(about["memory"])))
    elif name == events.RUN_ENDED:
        log.ended = _time(about["time"])
    elif "object" in about:
        log.objects.append(
            events.ObjectEvent(
                _text(name),
                _time(about["time"]),
                _seconds(about["seconds"]),
                _count(about["bytes"]),
                _text(about["object"]),
            )
        )


def _attempt(about: Mapping[str, Any], shard: int) -> Attempt:
    ended, seconds = _time(about["time"]), _seconds(about.get("seconds", 0.0))
    started = _time(about.get("started", ended - seconds))
    return Attempt(
        name=about["name"],
        time=max(ended, started),
        started=started,
        queued=_time(about.get("queued", started)),
        seconds=seconds,
        item=_count(about["item"]),
        shard=shard,
        worker=_count(about["worker"]),
        attempt=_count(about.get("attempt", 1)),
        cpu_seconds=_seconds(about.get("cpu_seconds", 0.0)),
        peak_rss=_count(about.get("peak_rss", 0)),
        bytes=_count(about.get("bytes", 0)),
        kind=_text(about.get("kind", "")),
        detail=_text(about.get("detail", "")),
    )


def _attempts(about: Mapping[str, Any], shard: int) -> list[Attempt]:
    """Those that share a line; CPU time, which is of all, is shared out by their duration."""
    first, queued = _time(about["started"]), _time(about["queued"])
    items, began, lasted = ([_count(one) for one in about[name]] for name in ("items", "began", "lasted"))
    sizes = [_count(one) for one in about.get("bytes", ())] or [0] * len(items)
    spent = _seconds(about["cpu_seconds"]) / max(1, sum(lasted))
    worker, attempt, peak = (_count(about.get(name, 0)) for name in ("worker", "attempt", "peak_rss"))
    return [
        Attempt(
            name=events.ENDED,
            time=_time(first + (begin + nanos) / 1e9),
            started=first + begin / 1e9,
            queued=queued,
            seconds=_seconds(nanos / 1e9),
            item=item,
            shard=shard,
            worker=worker,
            attempt=attempt,
            cpu_seconds=spent * nanos,
            peak_rss=peak,
            bytes=size,
            kind="",
            detail="",
        )
        for item, begin, nanos, size in zip(items, began, lasted, sizes, strict=True)
    ]


def _sums(row: Mapping[str, Any]) -> WorkerSums:
    readers: dict[str, Callable[[Any], Any]] = {"float": _time, "int": _count}
    known = {one.name: readers[str(one.type)](row[one.name]) for one in fields(WorkerSums)}
    return WorkerSums(**known)


def _time(value: Any) -> float:
    return _within(float(value), _LATEST)


def _seconds(value: Any) -> float:
    return _within(float(value), _LONGEST)


def _within(value: float, most: float) -> float:
    if not 0 <= value <= most or math.isnan(value):
        raise ValueError("a number that cannot be meant")
    return value


def _count(value: Any) -> int:
    return int(_within(int(value), 1 << 62))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value if len(value) <= _TEXT else shortened(value, _TEXT)
