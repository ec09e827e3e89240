"""What became of a job, and its removal."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from runwide.errors import (
    BadReference,
    FormatTooNew,
    FrameCorrupt,
    IntegrityError,
    ObjectNotFound,
    StoreNotFound,
    StoreNotWritable,
)
from runwide.job import manifest
from runwide.job.flow import Behind, ahead
from runwide.job.found import JOB_ID, folder_of
from runwide.job.incomplete import is_whole
from runwide.job.reference import whole
from runwide.log import Log
from runwide.redaction import shortened
from runwide.spill.store import open_inside, open_store, parted
from runwide.spill.verified import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from runwide.job.manifest import Job
    from runwide.records import Failure
    from runwide.spill.store import Store

log = Log("job")

_CHUNK = re.compile(r"(shards/[0-9]+)/chunks/[0-9]+\.pack")
# What scatter writes before the job's manifest.
_SCATTERED = re.compile(r"function\.pkl|code\.zip|items/[0-9]{4,}\.pack|files/[0-9a-f]{64}/[^/]+")
_FIRST = 10  # failed items that are told
_ERROR = 300  # characters of each one's error
_DELETERS = 16
_READERS = 8


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that failed, as its shard's manifest tells it; nothing is unpickled.

    Args:
        item: Its index in the input.
        kind: Why: ``exception``, ``crash``, ``timeout``, ….
        error: Type and text of the exception, in one line.
        attempts: How often it was started.
    """

    item: int
    kind: str
    error: str
    attempts: int

    @classmethod
    def of(cls, failure: Failure) -> FailedItem:
        """The item of a failure."""
        error = " ".join(shortened(f"{failure.type}: {failure.message}", _ERROR).split())
        return cls(failure.index, failure.kind.value, error, failure.attempts)


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """How far one shard is.

    Args:
        index: Its index.
        items: Number of its items.
        finished: Whether its manifest is written.
        chunks: Number of results packs in the store.
        failed: Number of failed items, once it has finished.
        failures: The first 10 of them.
    """

    index: int
    items: int
    finished: bool
    chunks: int
    failed: int = 0
    failures: tuple[FailedItem, ...] = ()


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
        reference: Its reference.
    """

    id: str
    uri: str
    function: str
    created: str
    items: int
    shards: tuple[ShardStatus, ...]
    bytes: int
    gathered: bool
    reference: str = ""

    @property
    def finished(self) -> int:
        """Number of finished shards."""
        return sum(shard.finished for shard in self.shards)

    @property
    def failed(self) -> int:
        """Number of failed items in finished shards."""
        return sum(shard.failed for shard in self.shards)

    @property
    def failures(self) -> list[FailedItem]:
        """The first 10 of them, by item."""
        found = (one for shard in self.shards for one in shard.failures)
        return sorted(found, key=lambda one: one.item)[:_FIRST]


def status(job: str, *, store: str | None = None) -> Status:
    """How far a job is, with one listing and one read per finished shard.

    Args:
        job: The reference that `runwide.scatter` returned, or another name of the job, see `gather`.
        store: Where an id or a name is looked for, see `gather`.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-status", shards=2)
        >>> status(job).finished
        0
    """
    about = manifest.read_job(whole(job, store))
    with open_inside(about.uri) as folder:
        sizes = {info.name: info.size for info in folder.list()}
        chunks = Counter(found[1] for name in sizes if (found := _CHUNK.fullmatch(name)))

        manifests = manifest.manifests_in(sizes)

        def read(index: int) -> ShardStatus:
            stored = chunks[manifest.shard_folder(index)]
            return _shard(folder, about, index, stored, manifests=manifests.get(index, []), names=sizes)

        shards = tuple(ahead(read, range(about.shards), threads=_READERS))
    gathered = manifest.RESULT in sizes
    size = sum(sizes.values())
    return Status(
        about.id, about.uri, about.function_name, about.created, about.count, shards, size, gathered, about.reference,
    )  # fmt: skip


def _shard(
    store: Store, job: Job, index: int, chunks: int, *, manifests: Sequence[int], names: Collection[str]
) -> ShardStatus:
    failed = failures_of(store, job, index, manifests, names) if manifests else None
    items = len(job.items_of(index))
    if failed is None:
        return ShardStatus(index, items, finished=False, chunks=chunks)
    first = tuple(map(FailedItem.of, sorted(failed, key=lambda one: one.index)[:_FIRST]))
    return ShardStatus(index, items, finished=True, chunks=chunks, failed=len(failed), failures=first)


def failures_of(
    store: Store, job: Job, index: int, manifests: Sequence[int], names: Collection[str]
) -> tuple[Failure, ...] | None:
    """The failed items by a shard's manifest; None where it has none that may be believed, or results were removed.

    Args:
        store: The job's folder.
        job: The job.
        index: The shard.
        manifests: The numbers of its manifests, the last one first.
        names: The objects of the job.
    """
    try:
        found, _ = manifest.read_shard(store, job, index, numbers=manifests)
    except (IntegrityError, *ABSENT, FormatTooNew) as error:
        if arrived_damaged(error):
            raise
        return None
    return found.failures if is_whole(found, names) else None


def clean(job: str, *, store: str | None = None) -> int:
    """Delete everything of a job; other jobs in the store stay, and so does everything that links in it lead to.

    Args:
        job: The job's reference, or another name of the job, see `gather`.
        store: Where an id or a name is looked for, see `gather`.

    Returns:
        Number of objects deleted; 0 where the folder is gone already.

    Raises:
        BadReference: This is no job's folder: it has no ``job.json``, and other objects than `runwide.scatter` writes
            before that.
        StoreNotWritable: Some objects may not be deleted. All others are, but for ``job.json``.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-clean", shards=1)
        >>> clean(job)
        3
    """
    uri = folder_of(job, store)
    if not JOB_ID.fullmatch(uri.rpartition("/")[2]):
        raise BadReference(
            "this is not the folder of a job", uri=uri, hint="pass a job's reference, as scatter printed it"
        )
    parent, job_id = parted(uri)
    with open_store(parent) as root:
        names = [info.name for info in root.list(f"{job_id}/")]
        marker = f"{job_id}/{manifest.JOB}"
        if not _is_job(job_id, names):
            _check_absent(root, marker, names)
            return 0
        _delete(root, [name for name in names if name != marker], uri)
        root.sweep(job_id)
        root.delete(marker)  # last, so that a job that is half deleted can still be seen to be one
    return len(names)


def _is_job(job_id: str, names: Iterable[str]) -> bool:
    """Whether objects are a job's, or those of a scatter that was killed before it wrote the job's manifest."""
    seen = others = False
    for name in names:
        inside = name.removeprefix(f"{job_id}/")
        if inside == manifest.JOB:
            return True
        seen, others = True, others or not _SCATTERED.fullmatch(inside)
    return seen and not others


def _check_absent(store: Store, marker: str, names: list[str]) -> None:
    """Raise the error of a folder that is no job's; a folder that is not there is fine: it may have been cleaned since."""
    folder = store.child_uri(marker).rpartition("/")[0]
    why = f"it has no {manifest.JOB}"
    try:
        store.read(marker, length=0)
    except FrameCorrupt as error:
        folder, why = error.uri or folder, error.message
    except (ObjectNotFound, StoreNotFound):
        if not names:
            return
    raise BadReference(
        f"this is not the folder of a job: {why}",
        uri=folder,
        hint="look at what it is, and delete it yourself",
    )


def _delete(store: Store, names: list[str], uri: str) -> None:
    """Delete objects, also those behind one that may not be deleted.

    Raises:
        StoreNotWritable: There was such a one.
    """
    refused: list[StoreNotWritable] = []

    def delete(name: str) -> None:
        try:
            store.delete(name)
        except StoreNotWritable as error:
            refused.append(error)

    with Behind(threads=_DELETERS) as behind:
        for name in names:
            behind.submit(delete, name)
    if refused:
        raise StoreNotWritable(
            f"{len(refused)} of {len(names)} objects could not be deleted, such as {refused[0].uri}: "
            f"{refused[0].message}",
            uri=uri,
            hint=refused[0].hint or "have somebody delete them who may",
        ) from refused[0]


def clean_older(store: str, *, seconds: float, now: float | None = None) -> list[str]:
    """Delete the jobs of a store that were made longer ago than that; whatever is no job stays.

    Args:
        store: URI of the store.
        seconds: Least age.
        now: Unix time, this moment when not given.

    Returns:
        URIs of the jobs that were deleted.

    Raises:
        StoreNotWritable: A job could not be deleted whole; the others were.
    """
    deleted: list[str] = []
    refused: list[StoreNotWritable] = []
    for uri in older(store, seconds=seconds, now=now):
        try:
            if clean(uri):
                deleted.append(uri)
        except StoreNotWritable as error:
            refused.append(error)
    if refused:
        raise refused[0]
    return deleted


def older(store: str, *, seconds: float, now: float | None = None) -> list[str]:
    """The jobs of a store that were made longer ago than that; a folder that only has a job's name is left out.

    Args:
        store: As for `clean_older`.
        seconds: As for `clean_older`.
        now: As for `clean_older`.
    """
    limit = (time.time() if now is None else now) - seconds
    found: list[str] = []
    with open_store(store) as root:
        for name, infos in groupby(root.list(), key=lambda info: info.name.partition("/")[0]):
            if not _is_older(name, limit):
                continue
            if _is_job(name, (info.name for info in infos)):
                found.append(root.child_uri(name))
            else:
                log.warning("folder.ignored", uri=root.child_uri(name), cause=f"it has no {manifest.JOB}")
    return found


def _is_older(name: str, limit: float) -> bool:
    try:
        return bool(JOB_ID.fullmatch(name)) and made_at(name) < limit
    except ValueError:  # digits that are no date
        return False


def made_at(job_id: str) -> float:
    """When a job was made, as Unix time, from its name.

    Example:
        >>> made_at("a-20261124t231308-36c13f7040d35a90")
        1795561988.0
    """
    return datetime.strptime(job_id.split("-")[1] + "+0000", "%Y%m%dt%H%M%S%z").timestamp()
