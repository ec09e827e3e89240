"""Show the status of jobs, and remove jobs."""

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
    ObjectNotFound,
    StoreNotFound,
    StoreNotWritable,
)
from runwide.job import manifest, model
from runwide.job.flow import Behind, ahead
from runwide.job.incomplete import is_whole
from runwide.job.lookup import JOB_ID, folder_of
from runwide.job.reference import resolve
from runwide.log import Log
from runwide.redaction import shortened
from runwide.store.base import open_inside, open_store, parted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from runwide.job.model import Job
    from runwide.records import Failure
    from runwide.store.base import Store

log = Log("job")

_CHUNK = re.compile(r"(shards/[0-9]+)/chunks/[0-9]+\.pack")
# Objects that scatter writes before the job's manifest.
_SCATTERED = re.compile(r"function\.pkl|code\.zip|items/[0-9]{4,}\.pack|files/[0-9a-f]{64}/[^/]+")
_FIRST = 10  # failed items that are listed
_ERROR = 300  # characters of an item's error
_DELETERS = 16
_READERS = 8


@dataclass(frozen=True, slots=True)
class FailedItem:
    """A failed item, from its shard's manifest; nothing is unpickled.

    Args:
        item: Its index in the input.
        kind: The kind of failure: ``exception``, ``crash``, ``timeout``, ….
        error: Type and text of the exception, in one line.
        attempts: Number of attempts.
    """

    item: int
    kind: str
    error: str
    attempts: int

    @classmethod
    def of(cls, failure: Failure) -> FailedItem:
        """Return the failed item of a failure."""
        error = " ".join(shortened(f"{failure.type}: {failure.message}", _ERROR).split())
        return cls(failure.index, failure.kind.value, error, failure.attempts)


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """The status of one shard.

    Args:
        index: Its index.
        items: Number of its items.
        finished: Whether its manifest is written.
        chunks: Number of its chunks in the store.
        failed: Number of failed items, if it has finished.
        failures: The first 10 failed items.
    """

    index: int
    items: int
    finished: bool
    chunks: int
    failed: int = 0
    failures: tuple[FailedItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a job.

    Args:
        id: The job's id.
        uri: URI of its folder.
        function: Name of its function.
        created: When it was made, ISO 8601 in UTC.
        items: Number of its items.
        shards: Its shards.
        bytes: Size of its objects in the store.
        gathered: Whether it has a result.
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
        """The first 10 failed items, by index."""
        found = (one for shard in self.shards for one in shard.failures)
        return sorted(found, key=lambda one: one.item)[:_FIRST]


def status(job: str, *, store: str | None = None) -> Status:
    """Return the status of a job, with one listing and one read for each finished shard.

    Args:
        job: The reference that `runwide.scatter` returned, or another name of the job, see `gather`.
        store: The store of the job, if it is given by id or name, see `gather`.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-status", shards=2)
        >>> status(job).finished
        0
    """
    about = manifest.read_job(resolve(job, store))
    with open_inside(about.uri) as folder:
        sizes = {info.name: info.size for info in folder.list()}
        chunks = Counter(found[1] for name in sizes if (found := _CHUNK.fullmatch(name)))

        manifests = model.manifests_in(sizes)

        def read(index: int) -> ShardStatus:
            stored = chunks[model.shard_folder(index)]
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
    """Return the failures in a shard's manifest; None if it has no valid manifest, or results were removed.

    Args:
        manifests: The numbers of its manifests, the last one first.
    """
    try:
        found = manifest.trusted_shard(store, job, index, manifests)
    except FormatTooNew:
        return None
    return found.shard.failures if found is not None and is_whole(found.shard, names) else None


def clean(job: str, *, store: str | None = None) -> int:
    """Delete all objects of a job. Other jobs stay, and so do the targets of links in the job's folder.

    Args:
        job: The job's reference, or another name of the job, see `gather`.
        store: The store of the job, if it is given by id or name, see `gather`.

    Returns:
        Number of deleted objects; 0 if the folder was deleted before.

    Raises:
        BadReference: This is not the folder of a job: it has no ``job.json``, and objects that `runwide.scatter` does not
            write before it.
        StoreNotWritable: Some objects may not be deleted. All others were, except ``job.json``.

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
        marker = f"{job_id}/{model.JOB}"
        if not _is_job(job_id, names):
            _check_absent(root, marker, names)
            return 0
        _delete(root, [name for name in names if name != marker], uri)
        root.sweep(job_id)
        root.delete(marker)  # last, so that a partly deleted job is still recognized
    return len(names)


def _is_job(job_id: str, names: Iterable[str]) -> bool:
    """Return whether objects belong to a job, or to a scatter that was killed before it wrote the job's manifest."""
    seen = others = False
    for name in names:
        inside = name.removeprefix(f"{job_id}/")
        if inside == model.JOB:
            return True
        seen, others = True, others or not _SCATTERED.fullmatch(inside)
    return seen and not others


def _check_absent(store: Store, marker: str, names: list[str]) -> None:
    """Raise the error of a folder that is not a job's, unless it does not exist: it may have been cleaned before."""
    folder = store.child_uri(marker).rpartition("/")[0]
    why = f"it has no {model.JOB}"
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
        hint="check its contents, and delete it yourself",
    )


def _delete(store: Store, names: list[str], uri: str) -> None:
    """Delete all objects that may be deleted; raise `StoreNotWritable` if others are left."""
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
            hint=refused[0].hint or "ask someone with permission to delete them",
        ) from refused[0]


def clean_older(store: str, *, seconds: float, now: float | None = None) -> list[str]:
    """Delete the jobs of a store that are older than a limit; other folders stay.

    Args:
        now: The present as Unix time; None for the clock's.

    Returns:
        URIs of the deleted jobs.

    Raises:
        StoreNotWritable: Objects of a job could not be deleted; the other jobs were.
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
    """Return the jobs that `clean_older` deletes; a folder that only has the name of a job is left out."""
    limit = (time.time() if now is None else now) - seconds
    found: list[str] = []
    with open_store(store) as root:
        for name, infos in groupby(root.list(), key=lambda info: info.name.partition("/")[0]):
            made = made_at(name)
            if made is None or made >= limit:
                continue
            if _is_job(name, (info.name for info in infos)):
                found.append(root.child_uri(name))
            else:
                log.warning("folder.ignored", uri=root.child_uri(name), cause=f"it has no {model.JOB}")
    return found


def made_at(name: str) -> float | None:
    """Return when the job in a folder was made, as Unix time, by the folder's name; None if it is not the name of a job.

    Example:
        >>> made_at("a-20261124t231308-36c13f7040d35a90"), made_at("batches")
        (1795561988.0, None)
    """
    try:
        date = name.split("-")[1] if JOB_ID.fullmatch(name) else ""
        return datetime.strptime(f"{date}+0000", "%Y%m%dt%H%M%S%z").timestamp()
    except ValueError:  # it has no date, or an impossible one
        return None
