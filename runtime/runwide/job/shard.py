"""Run one shard of a job on the cores of this component."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    EnvironmentMismatch,
    IntegrityError,
    ItemNotLoadable,
    ObjectExists,
    ResultNotPicklable,
)
from runwide.job import environment, manifest
from runwide.job.chunks import ChunkLog, Ended, Writer, located
from runwide.job.items import frames
from runwide.job.reference import Reference
from runwide.job.task import ItemDamaged, Task, loaded
from runwide.log import Log
from runwide.records import FailureKind
from runwide.spill import pack
from runwide.spill.buffers import sha256
from runwide.spill.codec import encode
from runwide.spill.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.job.manifest import Job
    from runwide.records import Failure, Outcome, TaskEvent
    from runwide.spill.store import Store

log = Log("job")


def shard(
    job: str,
    index: int,
    *,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    on_event: Callable[[TaskEvent], None] | None = None,
) -> str:
    """Run one shard; run again, it computes only what is not stored yet.

    Items that fail for good are recorded and do not stop the others; `gather` reports them.

    Args:
        job: The reference that `scatter` returned.
        index: Which shard, from 0.
        workers: Number of worker processes; None for one per physical core.
        timeout: Seconds that one attempt at one item may take.
        retries: Further attempts after an exception.
        on_event: Called with each `runwide.records.TaskEvent`, on another thread.

    Returns:
        The shard's reference, for `gather`.

    Raises:
        ShardOutOfRange: The job has no such shard.
        EnvironmentMismatch: This process cannot load the job's function.
        FormatTooNew: A newer runwide made the job.
        DigestMismatch: The job's objects were changed.
        StoreUnavailable: The store did not answer; what was finished is stored, run the shard again.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2, -3], store="memory://doc-shard", shards=2)
        >>> references = [shard(job, 0, workers=1), shard(job, 1, workers=1)]
        >>> runwide.gather(job, references)
        [1, 2, 3]
    """
    about = manifest.read_job(job)
    items = about.items_of(index)
    environment.check(about.environment, uri=about.uri)
    with open_store(about.uri) as store:
        store.share(about.shards)
        chunks = ChunkLog(store, about, index)
        folder = f"{manifest.shard_folder(index)}/"
        chunks.resume(info.name.removeprefix(folder) for info in list(store.list(folder)))
        pending = [item for item in items if item not in chunks.finished]
        log.info(
            "shard.started", job=about.id, shard=index, items=len(items), finished=len(items) - len(pending)
        )
        if pending:
            _run(
                store,
                about,
                chunks,
                pending,
                workers=workers,
                timeout=timeout,
                retries=retries,
                on_event=on_event,
            )
        return _finish(store, about, chunks, index)


def _run(store: Store, job: Job, chunks: ChunkLog, pending: list[int], **options: Any) -> None:
    from runwide.pool import outcomes

    task = Task(_function(store, job), job.id, job.digest)
    with Writer(chunks) as writer:
        for again in (False, True):
            damaged = []
            for outcome in outcomes(task, frames(store, job, pending), **options):
                item = pending[outcome.index]
                if not again and _is_damaged(outcome):
                    damaged.append(item)
                else:
                    writer.put(_end(outcome, item, job))
            if not damaged:
                return
            # A byte range comes without a checksum: damage on the way shows in the worker, and is gone when read anew.
            log.warning("items.reread", job=job.id, items=len(damaged))
            pending = sorted(damaged)


def _is_damaged(outcome: Outcome) -> bool:
    return outcome.failure is not None and isinstance(outcome.failure.exception, ItemDamaged)


def _function(store: Store, job: Job) -> bytes:
    """The pickled function, once it is sure that it can be loaded here."""
    data = bytes(manifest.fetch(store, manifest.FUNCTION, digest=job.function))
    try:
        loaded(data)
    except Exception as error:
        raise EnvironmentMismatch(
            f"the function {job.function_name} cannot be loaded here: {type(error).__name__}: {error}",
            uri=store.child_uri(manifest.FUNCTION),
            hint="install what it imports in the image of this component, in the versions of the one that made the job",
        ) from error
    return data


def _end(outcome: Outcome, item: int, job: Job) -> Ended:
    if outcome.failure is None:
        return Ended(pack.Member(item, outcome.value))
    failure = located(_classified(outcome.failure), item)
    context = manifest.result_context(job.digest, item)
    try:
        value = encode(failure.exception, context=context)
    except Exception:  # its text is in the record
        value = encode(None, context=context)
    return Ended(pack.Member(item, value, failed=True), failure)


def _classified(failure: Failure) -> Failure:
    """A failure whose kind is that of the user's item or result, not that of our frame around it."""
    if isinstance(failure.exception, (ItemNotLoadable, ResultNotPicklable)):
        return replace(failure, kind=FailureKind.PICKLING)
    return failure


def _finish(store: Store, job: Job, chunks: ChunkLog, index: int) -> str:
    """Write the manifest, last, unless a copy of this shard has written one as good."""
    stored = sorted(chunks.stored, key=lambda one: one.number)
    failures = sorted(
        (failure for one in stored for failure in one.failures), key=lambda failure: failure.index
    )
    data = manifest.shard_bytes(
        manifest.Shard(index, tuple(one.chunk for one in stored), tuple(failures)), job
    )
    name = manifest.shard_name(index)
    try:
        store.create(name, data)
        digest = sha256(data)
    except ObjectExists:
        digest = _other(store, job, chunks, index) or _replaced(store, name, data)
    log.info("shard.finished", job=job.id, shard=index, chunks=len(stored), failed=len(failures))
    return str(Reference(store.child_uri(name), digest))


def _other(store: Store, job: Job, chunks: ChunkLog, index: int) -> str | None:
    """Digest of the manifest that is there, if it names nothing but chunks that were checked here."""
    try:
        found, digest = manifest.read_shard(store, job, index)
    except IntegrityError:
        return None
    checked = {one.chunk for one in chunks.stored}
    return digest if checked.issuperset(found.chunks) else None


def _replaced(store: Store, name: str, data: bytes) -> str:
    """Put a manifest in the place of one that names a damaged chunk, or is damaged itself."""
    log.warning("manifest.replaced", uri=store.child_uri(name))
    store.delete(name)
    store.create(name, data)
    return sha256(data)
