"""List the jobs of a store, with a few requests for each: a listing of its objects, and up to three small reads."""

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
from runwide.events.parts import of_name
from runwide.job import manifest, model, names
from runwide.job.flow import ahead
from runwide.job.housekeeping import failures_of, made_at
from runwide.job.lookup import BATCHES, JOB_ID
from runwide.job.machines import Ran, ran
from runwide.job.reference import quoted
from runwide.log import Log
from runwide.redaction import shortened
from runwide.store.base import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from runwide.job.model import Job
    from runwide.prices import Estimate, Prices
    from runwide.store.base import ObjectInfo, Store

log = Log("job")

RECENT = 600.0
"""Seconds after its last write for which an unfinished job counts as running. While items end, a shard writes at least once
a minute; engines are not asked."""

_READERS = 16
_CLOCKS = 3600.0  # seconds by which clocks may differ
_OURS = frozenset({BATCHES, "names", "function", "items", "constants", "code"})
_IN_JSON = (
    "id", "uri", "reference", "name", "function", "created", "written", "items", "shards", "finished", "failed", "gathered",
)  # fmt: skip


class State(str, Enum):
    """The state of a job, by its objects in the store."""

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
        reference: Its reference; empty for a damaged job.
        name: Its name; empty if it has none.
        created: When it was made, as Unix time.
        written: When one of its objects was last written, as Unix time; 0 if the store does not say.
        failed: Number of failed items; None if not all shards have finished.
        core_seconds: CPUs times seconds, over all ended runs of its shards.
        cost: Estimated cost of their machines; None if no run has ended.
        where: The machines on which they ran, as far as known.
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
    """The contents of a store.

    Args:
        jobs: Its jobs, the newest first.
        older: Number of older jobs that are not listed.
        others: Names of all other folders that runwide did not make.
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
        limit: Number of jobs to list, the newest ones; None for all.
        now: The present as Unix time; None for the clock's.
        table: Prices; None for `runwide.prices.current`.

    Raises:
        BadReference: This is a job and not a store, or the folder does not exist.
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
                "the folder does not exist", uri=root.uri, hint="give the folder or the URI of a store"
            )
        made = {name: when for name in folders if (when := made_at(name)) is not None}
        ids = sorted(made, key=lambda name: -made[name])
        shown = ids if limit is None else ids[:limit]
        called = _names(root, shown)
        look = partial(_listed, root, called=called, now=now, table=table)
        found = tuple(ahead(look, shown, threads=_READERS))
        batches = tuple(root.sub(BATCHES).folders()) if BATCHES in folders else ()
    others = tuple(name for name in folders if name not in ids and name not in _OURS)
    return Listing(root.uri, found, len(ids) - len(shown), batches, others)


def _names(root: Store, shown: Sequence[str]) -> dict[str, str]:
    """Return the names of jobs by id; a name is written after its job, so records older than the jobs are not read."""
    if not shown:
        return {}
    since = (made_at(shown[-1]) or 0.0) - _CLOCKS
    return {job: name for name, some in names.known(root, since=since).items() for job in some}


def _listed(root: Store, job_id: str, *, called: dict[str, str], now: float, table: Prices) -> Listed:
    uri = root.child_uri(job_id)
    base = Listed(job_id, uri, created=made_at(job_id) or 0.0, name=called.get(job_id, ""))
    try:
        with root.sub(job_id) as folder:
            return _inspected(folder, list(folder.list()), base, now=now, table=table)
    except (RunwideError, OSError) as error:
        cause = shortened(getattr(error, "message", "") or str(error), 200)
        return Listed(job_id, uri, created=base.created, name=base.name, cause=cause)


def _inspected(
    store: Store, objects: Sequence[ObjectInfo], base: Listed, *, now: float, table: Prices
) -> Listed:
    sizes = {info.name: info.size for info in objects}
    if model.JOB not in sizes:
        raise FrameCorrupt("it has no job.json: it was not written completely, or was removed")
    job = manifest.job_in(store.uri)
    manifests = model.manifests_in(sizes)
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
        len(finished), failed, any(manifest.is_result(name) for name in sizes), state, sum(sizes.values()),
        sum(one.seconds * one.cpus for one in used), where.cost(used, table), where,
    )  # fmt: skip


def state_of(shards: int, finished: int, failed: int | None, *, started: bool, idle: float) -> State:
    """Decide the state of a job.

    Args:
        finished: Number of shards with a manifest.
        failed: Number of failed items, if all shards have finished; None if results were removed since.
        idle: Seconds since its last write.

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


def _failed(store: Store, job: Job, sizes: dict[str, int], manifests: dict[int, list[int]]) -> int | None:
    """Return the number of failed items of a job whose shards have finished; None if results were removed since.

    This takes one read if the job was gathered once and no shard was run again since; otherwise one for each shard.
    """
    results = [name for name in sizes if manifest.is_result(name)]
    if (
        len(results) == 1
        and all(numbers == [0] for numbers in manifests.values())
        and not _lacks(sizes, manifests)
    ):
        try:
            return manifest.found_result(job, results[0]).failed
        except (IntegrityError, BadReference, FormatTooNew):
            pass  # the shards' manifests have the number too
    read = partial(_of_shard, store, job, manifests=manifests, sizes=sizes)
    counts = list(ahead(read, range(job.shards), threads=_READERS))
    return None if None in counts else sum(one or 0 for one in counts)


def _lacks(sizes: dict[str, int], manifests: dict[int, list[int]]) -> bool:
    """Return whether a finished shard has no results, which were then removed, for example by a lifecycle rule."""
    stored = Counter(name.split("/chunks/")[0] for name in sizes if "/chunks/" in name)
    return any(not stored[model.shard_folder(index)] for index in manifests)


def _of_shard(
    store: Store, job: Job, index: int, *, manifests: dict[int, list[int]], sizes: dict[str, int]
) -> int | None:
    found = failures_of(store, job, index, manifests[index], sizes)
    return None if found is None else len(found)


def as_json(listed: Listed) -> dict[str, object]:
    """Return a job as a JSON object."""
    found: dict[str, object] = {name: getattr(listed, name) for name in _IN_JSON}
    for name in ("created", "written"):
        value: float = getattr(listed, name)
        found[name] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value)) if value else None
    found |= {
        "state": listed.state.value,
        "bytes": listed.bytes,
        "core_seconds": round(listed.core_seconds, 3),
        "estimated_dollars": None if listed.cost is None else round(listed.cost.dollars, 6),
        "estimate": None if listed.cost is None else listed.cost.basis,
        "engine": listed.where.engine,
        "machine": listed.where.machine,
    }
    return {**found, "cause": listed.cause} if listed.cause else found
