"""The jobs of a store, each as far as a few requests tell it: a listing of its objects, and up to three small reads."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runwide import prices
from runwide.errors import BadReference, FormatTooNew, FrameCorrupt, IntegrityError, RunwideError
from runwide.job import manifest, names
from runwide.job.flow import ahead
from runwide.job.found import BATCHES, JOB_ID
from runwide.job.housekeeping import failures_of, made_at
from runwide.job.ran import Ran, ran
from runwide.job.reference import quoted
from runwide.job.usage import of_name
from runwide.log import Log
from runwide.redaction import shortened
from runwide.spill.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from runwide.job.manifest import Job
    from runwide.prices import Estimate, Prices
    from runwide.spill.store import ObjectInfo, Store

log = Log("job")

RECENT = 600.0
"""Seconds after the last write within which an unfinished job counts as running: shards write at least each minute while
items end, and nobody is asked who runs them."""

_READERS = 16
_CLOCKS = 3600.0  # seconds by which clocks may differ


class State(str, Enum):
    """What the store says of a job."""

    FINISHED = "finished"
    FAILURES = "failures"
    RUNNING = "running"
    INCOMPLETE = "incomplete"
    UNSTARTED = "unstarted"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Listed:
    """A job of a store.

    Args:
        id: The job.
        uri: Where it lies.
        reference: Its reference; empty for a damaged one.
        name: Its name, empty if it has none.
        function: Name of its function.
        created: When it was made, as Unix time.
        written: When something was last written there, as Unix time; 0 where the store does not tell.
        items: Number of its items.
        shards: Number of its shards.
        finished: How many of them have finished.
        failed: Number of failed items; None where not all shards have finished.
        gathered: Whether it has a result.
        state: What the store says of it.
        bytes: What it takes in the store.
        core_seconds: CPUs times seconds of the runs of its shards that have ended.
        cost: What their machines cost, an estimate; None where none has ended.
        where: Where they ran, as far as it is known.
        cause: Why it is damaged.
    """

    id: str
    uri: str
    reference: str = ""
    name: str = ""
    function: str = ""
    created: float = 0.0
    written: float = 0.0
    items: int = 0
    shards: int = 0
    finished: int = 0
    failed: int | None = None
    gathered: bool = False
    state: State = State.DAMAGED
    bytes: int = 0
    core_seconds: float = 0.0
    cost: Estimate | None = None
    where: Ran = field(default_factory=Ran)
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a store.

    Args:
        uri: The store.
        jobs: Its jobs, the newest first.
        older: How many older ones were not looked at.
        batches: Names of its batches.
        others: Names of the folders that are neither, nor runwide's own.
    """

    uri: str
    jobs: tuple[Listed, ...]
    older: int
    batches: tuple[str, ...]
    others: tuple[str, ...]


def jobs_of(
    store: str | PathLike[str],
    *,
    limit: int | None = None,
    now: float | None = None,
    table: Prices | None = None,
) -> Listing:
    """List the jobs of a store. Nothing is unpickled.

    Args:
        store: Its URI.
        limit: How many of the newest are looked at; None for all.
        now: Unix time, this moment where None.
        table: Prices; `runwide.prices.current` where None.

    Raises:
        BadReference: This is no store, or a folder that is not there.
        InputError: ``RUNWIDE_PRICES`` is not a table of prices.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-listing", shards=1)
        >>> [(one.items, one.state.value) for one in jobs_of("memory://doc-listing").jobs]
        [(2, 'unstarted')]
        >>> reference = runwide.shard(job, 0, workers=1)
        >>> [(one.finished, one.state.value) for one in jobs_of("memory://doc-listing").jobs]
        [(1, 'finished')]
    """
    now = time.time() if now is None else now
    table = table or prices.current()
    with open_store(store) as root:
        if JOB_ID.fullmatch(root.uri.rpartition("/")[2]):
            raise BadReference(
                "this is a job, not a store",
                uri=root.uri,
                hint=f"see how far it is: runwide status {quoted(root.uri)}",
            )
        folders = list(root.folders())
        if not folders and "://" not in root.uri and not Path(root.uri).is_dir():
            raise BadReference(
                "there is no such folder", uri=root.uri, hint="give the store's, or a bucket's URI"
            )
        ids = sorted(
            (name for name in folders if _made(name) is not None), key=lambda name: -(_made(name) or 0)
        )
        shown = ids if limit is None else ids[:limit]
        called = _names(root, shown)
        look = partial(_listed, root, called=called, now=now, table=table)
        found = tuple(ahead(look, shown, threads=_READERS))
        batches = tuple(root.sub(BATCHES).folders()) if BATCHES in folders else ()
    others = tuple(name for name in folders if name not in ids and name not in _OURS)
    return Listing(root.uri, found, len(ids) - len(shown), batches, others)


_OURS = frozenset({BATCHES, "names", "function", "items", "constants", "code"})


def _names(root: Store, shown: Sequence[str]) -> dict[str, str]:
    """The names of jobs by their ids; a job's name is written after it, so older records are not read."""
    if not shown:
        return {}
    since = (_made(shown[-1]) or 0.0) - _CLOCKS
    return {job: name for name, some in names.known(root, since=since).items() for job in some}


def _made(name: str) -> float | None:
    """When the job of a folder was made; None where the folder has not the name of a job."""
    try:
        return made_at(name) if JOB_ID.fullmatch(name) else None
    except ValueError:  # digits that are no date
        return None


def _listed(root: Store, job_id: str, *, called: dict[str, str], now: float, table: Prices) -> Listed:
    uri = root.child_uri(job_id)
    base = Listed(job_id, uri, created=_made(job_id) or 0.0, name=called.get(job_id, ""))
    try:
        with root.sub(job_id) as folder:
            return _looked_at(folder, list(folder.list()), base, now=now, table=table)
    except (RunwideError, OSError) as error:
        cause = shortened(getattr(error, "message", "") or str(error), 200)
        return Listed(job_id, uri, created=base.created, name=base.name, cause=cause)


def _looked_at(
    store: Store, objects: Sequence[ObjectInfo], base: Listed, *, now: float, table: Prices
) -> Listed:
    sizes = {info.name: info.size for info in objects}
    if manifest.JOB not in sizes:
        raise FrameCorrupt("it has no job.json: it was never written whole, or was removed")
    job = manifest.job_in(store.uri)
    manifests = manifest.manifests_in(sizes)
    finished = [index for index in range(job.shards) if index in manifests]
    written = max((info.written for info in objects), default=0.0)
    failed = _failed(store, job, sizes, manifests) if len(finished) == job.shards else None
    used = [one for one in map(of_name, sizes) if one is not None]
    where = ran(store, job, sizes)
    started = bool(finished) or where.runs > 0 or any("/chunks/" in name for name in sizes)
    idle = now - max(written, base.created)
    state = state_of(job.shards, len(finished), failed, started=started, idle=idle)
    return Listed(
        base.id, base.uri, job.reference, base.name, job.function_name, base.created, written, job.count, job.shards,
        len(finished), failed, any(_is_result(name) for name in sizes), state, sum(sizes.values()),
        sum(one.seconds * one.cpus for one in used), where.cost(used, table), where,
    )  # fmt: skip


def state_of(shards: int, finished: int, failed: int | None, *, started: bool, idle: float) -> State:
    """Decide what a store says of a job.

    Args:
        shards: Number of its shards.
        finished: How many have finished with all of their results there.
        failed: Number of failed items, where all have finished; None where results were removed since.
        started: Whether anything of it has run, or was started.
        idle: Seconds since something was written.

    Example:
        >>> [state_of(2, n, failed, started=True, idle=3600).value for n, failed in ((2, 0), (2, 7), (1, None))]
        ['finished', 'failures', 'incomplete']
        >>> state_of(2, 1, None, started=True, idle=5).value, state_of(2, 0, None, started=False, idle=5).value
        ('running', 'unstarted')
    """
    if finished == shards and failed is not None:
        return State.FAILURES if failed else State.FINISHED
    if not started:
        return State.UNSTARTED
    return State.RUNNING if idle < RECENT and finished < shards else State.INCOMPLETE


def _is_result(name: str) -> bool:
    return name.startswith("result") and name.endswith(".json") and "/" not in name


def _failed(store: Store, job: Job, sizes: dict[str, int], manifests: dict[int, list[int]]) -> int | None:
    """Number of failed items of a job whose shards have finished; None where results were removed since.

    One read where it was gathered once and no shard was run again since; else one for each shard.
    """
    results = [name for name in sizes if _is_result(name)]
    if (
        len(results) == 1
        and all(numbers == [0] for numbers in manifests.values())
        and not _lacks(sizes, manifests)
    ):
        try:
            return manifest.found_result(job, results[0]).failed
        except (IntegrityError, BadReference, FormatTooNew):
            pass  # the shards tell it as well
    read = partial(_of_shard, store, job, manifests=manifests, sizes=sizes)
    counts = list(ahead(read, range(job.shards), threads=_READERS))
    return None if None in counts else sum(one or 0 for one in counts)


def _lacks(sizes: dict[str, int], manifests: dict[int, list[int]]) -> bool:
    """Whether a finished shard has no results at all: then some were removed, by a lifecycle rule say."""
    stored = Counter(name.split("/chunks/")[0] for name in sizes if "/chunks/" in name)
    return any(not stored[manifest.shard_folder(index)] for index in manifests)


def _of_shard(
    store: Store, job: Job, index: int, *, manifests: dict[int, list[int]], sizes: dict[str, int]
) -> int | None:
    found = failures_of(store, job, index, manifests[index], sizes)
    return None if found is None else len(found)


def as_json(listed: Listed) -> dict[str, object]:
    """A job as an object of JSON.

    Args:
        listed: The job.
    """
    return dict(_pairs(listed))


def _pairs(one: Listed) -> Iterator[tuple[str, object]]:
    for name in ("id", "uri", "reference", "name", "function"):
        yield name, getattr(one, name)
    for name in ("created", "written"):
        value: float = getattr(one, name)
        yield name, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value)) if value else None
    for name in ("items", "shards", "finished", "failed", "gathered"):
        yield name, getattr(one, name)
    yield "state", one.state.value
    yield "bytes", one.bytes
    yield "core_seconds", round(one.core_seconds, 3)
    yield "estimated_dollars", None if one.cost is None else round(one.cost.dollars, 6)
    yield "estimate", None if one.cost is None else one.cost.basis
    yield "engine", one.where.engine
    yield "machine", one.where.machine
    if one.cause:
        yield "cause", one.cause
