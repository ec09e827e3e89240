"""What became of a job, and its removal."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from runwide.errors import BadReference
from runwide.job import manifest
from runwide.job.flow import Behind, ahead
from runwide.job.reference import parse
from runwide.spill.store import open_store

if TYPE_CHECKING:
    from runwide.job.manifest import Job
    from runwide.spill.store import Store

_JOB_ID = re.compile(r"[0-9a-f]-\d{8}t\d{6}-[0-9a-f]{16}")
_CHUNK = re.compile(r"shards/(\d+)/chunks/\d{6}\.pack")
_DELETERS = 16
_READERS = 8


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """How far one shard is.

    Args:
        index: Its index.
        items: Number of its items.
        finished: Whether its manifest is written.
        chunks: Number of results packs in the store.
        failed: Number of failed items, once it has finished.
    """

    index: int
    items: int
    finished: bool
    chunks: int
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """How far a job is.

    Args:
        id: The job.
        uri: Where it lies.
        function: Name of its function.
        created: When, ISO 8601 in UTC.
        items: Number of its items.
        shards: Its shards.
        bytes: What it takes in the store.
        gathered: Whether a result was written.
    """

    id: str
    uri: str
    function: str
    created: str
    items: int
    shards: tuple[ShardStatus, ...]
    bytes: int
    gathered: bool

    @property
    def finished(self) -> int:
        """Number of finished shards."""
        return sum(shard.finished for shard in self.shards)

    @property
    def failed(self) -> int:
        """Number of failed items in finished shards."""
        return sum(shard.failed for shard in self.shards)


def status(job: str) -> Status:
    """How far a job is, with one listing and one read per finished shard.

    Args:
        job: The reference that `runwide.scatter` returned.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-status", shards=2)
        >>> status(job).finished
        0
    """
    about = manifest.read_job(job)
    with open_store(about.uri) as store:
        sizes = {info.name: info.size for info in store.list()}
        chunks = Counter(int(found[1]) for name in sizes if (found := _CHUNK.fullmatch(name)))

        def read(index: int) -> ShardStatus:
            return _shard(store, about, index, chunks[index], manifest.manifests_of(sizes, index))

        shards = tuple(ahead(read, range(about.shards), threads=_READERS))
    gathered = manifest.RESULT in sizes
    size = sum(sizes.values())
    return Status(
        about.id, about.uri, about.function_name, about.created, about.count, shards, size, gathered
    )


def _shard(store: Store, job: Job, index: int, chunks: int, manifests: int) -> ShardStatus:
    failed = 0
    if manifests:
        failed = len(manifest.read_shard(store, job, index, number=manifests - 1)[0].failures)
    return ShardStatus(index, len(job.items_of(index)), manifests > 0, chunks, failed)


def clean(job: str) -> int:
    """Delete everything of a job; other jobs in the store stay.

    Args:
        job: The job's reference, or the URI of its folder.

    Returns:
        Number of objects deleted.

    Raises:
        BadReference: This is no job's folder.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-clean", shards=1)
        >>> clean(job)
        3
    """
    uri = parse(job).folder if "#" in job else job.rstrip("/")
    parent, _, job_id = uri.rpartition("/")
    if not _JOB_ID.fullmatch(job_id):
        raise BadReference(
            "this is not the folder of a job", uri=uri, hint="pass a job's reference, as scatter printed it"
        )
    with open_store(parent) as store:
        names = [info.name for info in store.list(f"{job_id}/")]
        marker = f"{job_id}/{manifest.JOB}"
        with Behind(threads=_DELETERS) as behind:
            for name in names:
                if name != marker:
                    behind.submit(store.delete, name)
        store.delete(marker)  # last, so that a job that is half deleted can still be seen to be one
        store.sweep(job_id)
    return len(names)


def clean_older(store: str, *, seconds: float, now: float | None = None) -> list[str]:
    """Delete the jobs of a store that were made longer ago than that; whatever is no job stays.

    Args:
        store: URI of the store.
        seconds: Least age.
        now: Unix time, this moment when not given.

    Returns:
        URIs of the jobs that were deleted.
    """
    return [uri for uri in older(store, seconds=seconds, now=now) if clean(uri)]


def older(store: str, *, seconds: float, now: float | None = None) -> list[str]:
    """The jobs of a store that were made longer ago than that.

    Args:
        store: As for `clean_older`.
        seconds: As for `clean_older`.
        now: As for `clean_older`.
    """
    limit = (time.time() if now is None else now) - seconds
    with open_store(store) as root:
        names = {info.name.partition("/")[0] for info in root.list()}
        return [root.child_uri(name) for name in sorted(names) if _is_older(name, limit)]


def _is_older(name: str, limit: float) -> bool:
    try:
        return bool(_JOB_ID.fullmatch(name)) and made_at(name) < limit
    except ValueError:  # digits that are no date
        return False


def made_at(job_id: str) -> float:
    """When a job was made, as Unix time, from its name.

    Example:
        >>> made_at("a-20261124t231308-36c13f7040d35a90")
        1795561988.0
    """
    return datetime.strptime(job_id.split("-")[1] + "+0000", "%Y%m%dt%H%M%S%z").timestamp()
