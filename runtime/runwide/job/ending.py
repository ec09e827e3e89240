"""The end of a shard: its manifest, in an object that is never replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.errors import IntegrityError, ObjectExists
from runwide.job import manifest
from runwide.job.reference import Reference
from runwide.job.verified import arrived_damaged
from runwide.log import Log
from runwide.spill.buffers import sha256

if TYPE_CHECKING:
    from runwide.job.chunks import ChunkLog
    from runwide.job.manifest import Job
    from runwide.spill.store import Store

log = Log("job")


def finish(store: Store, job: Job, chunks: ChunkLog, index: int) -> str:
    """Write the manifest, last, unless the shard has one that is as good, of an earlier run or of a copy.

    One that is damaged, or names a damaged chunk or an end that is superseded, stays where it is, and the next one counts.
    """
    while True:
        found = chunks.manifest()
        reference = _earlier(store, job, found, chunks.manifests)
        if reference is None:
            name, data = manifest.shard_name(index, chunks.manifests), manifest.shard_bytes(found, job)
            try:
                store.create(name, data)
            except ObjectExists:
                chunks.resume()  # whoever wrote it may know of chunks that are newer than ours
                continue
            reference = str(Reference(store.child_uri(name), sha256(data)))
        log.info(
            "shard.finished", job=job.id, shard=index, chunks=len(found.chunks), failed=len(found.failures)
        )
        return reference


def _earlier(store: Store, job: Job, ours: manifest.Shard, manifests: int) -> str | None:
    """Reference of the last manifest, if it names nothing but chunks that were checked here."""
    if not manifests:
        return None
    try:
        found, reference = manifest.read_shard(store, job, ours.index, number=manifests - 1)
    except IntegrityError as error:
        if arrived_damaged(error):
            raise
        found = None
    if found is not None and set(ours.chunks).issuperset(found.chunks):
        return str(reference)
    log.warning("manifest.superseded", uri=store.child_uri(manifest.shard_name(ours.index, manifests - 1)))
    return None
