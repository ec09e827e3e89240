"""The facts from which a report is made, read from a job in a store or from the events of a map.

Malformed parts are left out.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runwide._report.figures import last_attempts
from runwide.errors import FormatTooNew, IntegrityError, RunwideError
from runwide.events import lines, parts
from runwide.events.model import ENDED, FAILED, Attempt, Run
from runwide.events.reading import Reader, RunLog
from runwide.job import manifest, model, names
from runwide.job.environment import host_facts
from runwide.job.housekeeping import made_at
from runwide.job.machines import Ran, ran
from runwide.job.model import JOB
from runwide.job.reading import frames
from runwide.job.reference import Reference, parse
from runwide.log import Log
from runwide.records import Failure
from runwide.redaction import shortened
from runwide.store.base import open_inside, open_store
from runwide.store.codec import decode
from runwide.store.records import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runwide.events.trace import Row, Trace
    from runwide.job.model import Job
    from runwide.store.base import Store

log = Log("report")

LISTED = 200
"""Failed items that the page lists."""

_INPUT = 300  # characters of an item
_ITEM = 64 << 10  # bytes: items that are larger on average are not read
_CLOCKS = 3600.0  # seconds by which clocks may differ
_PREVIOUS = 32 << 20  # bytes of events of the last job that are read for the comparison


@dataclass(frozen=True, slots=True)
class Story:
    """The facts about a job or a map.

    Args:
        title: Id of the job, or a name.
        runs: Events of the runs, by shard and time.
        failures: Failed items of the shards that have finished, with tracebacks.
        uri: URI of the job; empty for a map.
        reference: Reference of the job; empty for a map.
        environment: Versions of the program that made the job.
        inputs: Failed items as text, by index, as far as they are small and plain data.
        previous: The last job of the same name before this one, if there is one.
    """

    title: str
    function: str
    items: int
    shards: int
    finished: int
    runs: tuple[RunLog, ...]
    failures: tuple[Failure, ...] = ()
    uri: str = ""
    reference: str = ""
    ran: Ran = Ran()  # noqa: RUF009 - frozen
    created: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    unreadable: int = 0
    name: str = ""
    inputs: Mapping[int, str] = field(default_factory=dict)
    previous: Story | None = None


def of_job(reference: str) -> Story:
    """Read the story of a job, with one listing, one read for each finished shard and one for each part of events.

    Args:
        reference: The reference of the job, as `runwide.scatter` returned it, or of its results.

    Raises:
        BadReference: The text is not a reference.
        ObjectNotFound: The job does not exist, or was removed.
    """
    about = manifest.read_job(_of_job(reference))
    story = _story(about)
    name, previous = _history(about)
    return replace(story, inputs=_inputs(about, _failed(story)), name=name, previous=previous)


def _story(about: Job) -> Story:
    reader = Reader()
    with open_inside(about.uri) as store:
        sizes = {info.name: info.size for info in store.list()}
        where = ran(store, about, sizes)
        for name, shard in _logs(about, sizes):
            reader.take(store, name, shard=shard)
        manifests = model.manifests_in(sizes)
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


def _logs(job: Job, names: Iterable[str]) -> list[tuple[str, int]]:
    """Return the parts of logs of a job, each with its shard."""
    found = [(name, parts.shard_of(name)) for name in names]
    return [(name, shard) for name, shard in found if shard is not None and shard < job.shards]


def _history(job: Job) -> tuple[str, Story | None]:
    """Return a job's name, and the story of the last job of that name, if its events are small enough to read again."""
    name = ""
    try:
        with open_store(job.uri.rpartition("/")[0]) as root:
            # the record of a name is written after its job
            name, before = names.previous(root, job, since=(made_at(job.id) or 0.0) - _CLOCKS)
        if before is None:
            return name, None
        with open_inside(before.uri) as store:
            sizes = {info.name: info.size for info in store.list("shards/")}
        if sum(sizes[part] for part, _ in _logs(before, sizes)) <= _PREVIOUS:
            return name, _story(before)
    except (RunwideError, OSError, ValueError) as error:  # the report is complete without it
        log.warning("previous.ignored", job=job.id, cause=str(error))
    return name, None


def _failed(story: Story) -> list[int]:
    """Return the failed items that the page lists."""
    ended = last_attempts(story.runs)
    items = {item for item, attempt in ended.items() if attempt.name == FAILED}
    return sorted(items | {failure.index for failure in story.failures})[:LISTED]


def _inputs(job: Job, items: Sequence[int]) -> dict[int, str]:
    """Return items as text. Items that are large or not plain data are left out: no code of a job runs for its report."""
    found: dict[int, str] = {}
    if job.source is not None or sum(pack.size for pack in job.packs) > _ITEM * job.count:
        return found
    try:
        with open_inside(job.uri) as store:
            for item, digest, frame in frames(store, job, items) if items else ():
                with suppress(Exception):  # it is not plain data, or damaged
                    context = job.item_context(item)
                    value = decode(frame.view(), digest=digest, context=context, uri=job.uri, plain=True)
                    found[item] = _text(value)
    except (RunwideError, OSError) as error:  # the report is complete without them
        log.warning("inputs.ignored", job=job.id, cause=str(error))
    return found


def _text(value: Any) -> str:
    text = repr(value)
    shown = shortened(text, _INPUT)
    return f"{type(value).__name__} of {len(text):,} characters" if shown == "…" else shown


def _of_job(reference: str) -> str:
    found = parse(reference)
    if not found.name.startswith("result"):
        return reference
    return str(Reference(f"{found.folder}/{JOB}", manifest.read_result(found).job))


def _failures(store: Store, job: Job, index: int, manifests: Sequence[int]) -> tuple[Failure, ...]:
    try:
        return manifest.read_shard(store, job, index, numbers=manifests)[0].failures
    except (IntegrityError, *ABSENT, FormatTooNew):  # the report shows the other shards
        return ()


def of_lines(text: bytes, *, title: str) -> Story:
    """Read the story of a run without a job."""
    reader = Reader()
    reader.read(text)
    runs = reader.runs()
    items = {attempt.item for log in runs for attempt in log.attempts}
    function = runs[0].run.function if runs else ""
    return Story(title, function, len(items), len(runs), len(runs), runs, unreadable=reader.unreadable)


def of_trace(trace: Trace, results: Sequence[Any]) -> Story:
    """Return the story of a map by its trace."""
    run = Run(
        id="map",
        started=trace.started,
        items=len(results),
        function=trace.function,
        options=trace.options,
        host=host_facts(trace.workers),
    )
    log = RunLog(run, ended=trace.ended, memory=list(trace.memory))
    log.sums.update(trace.sums)
    for worker, rows in trace.rows.items():
        log.attempts += [_of_row(worker, row, trace.sums[worker].peak_rss) for row in rows]
    log.attempts += map(lines.attempt_of, trace.failed)
    failures = tuple(one for one in results if isinstance(one, Failure))
    return Story("map", trace.function, len(results), 1, 1, (log,), failures)


def _of_row(worker: int, row: Row, peak: int) -> Attempt:
    item, count, attempt, start, end, seconds, spent = row
    return Attempt(
        ENDED, end, item, worker, attempt=attempt, started=start, queued=start, seconds=seconds, cpu_seconds=spent,
        peak_rss=peak, count=count,
    )  # fmt: skip  # two lines are enough
