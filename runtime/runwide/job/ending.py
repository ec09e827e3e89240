"""The end of a shard: its manifest, in an object that is never replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.errors import IntegrityError, ObjectExists
from runwide.job import manifest
from runwide.job.reference import Reference
from runwide.log import Log
from runwide.spill.buffers import sha256
from runwide.spill.verified import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.job.chunks import ChunkLog
    from runwide.job.manifest import Job
    from runwide.spill.store import Store

log = Log("job")


def finish(store: Store, job: Job, chunks: ChunkLog, index: int) -> str:
    """Write the manifest, last, unless the shard has one that is as good, of an earlier run or of a copy.

    One that is damaged, or names a damaged chunk or an end that is superseded, stays where it is, and the next one counts.
    """
    least = 0  # numbers below are taken by what is no manifest, or not ours
    while True:
        found = chunks.manifest()
        reference, number = _earlier(store, job, found, chunks.manifests)
        if reference is None:
            number = max(least, number)
            name, data = manifest.shard_name(index, number), manifest.shard_bytes(found, job)
            try:
                store.create(name, data)
            except ObjectExists:
                chunks.resume()  # whoever wrote it may know of chunks that are newer than ours
                least = number + 1
                continue
            reference = str(Reference(store.child_uri(name), sha256(data)))
        log.info(
            "shard.finished", job=job.id, shard=index, chunks=len(found.chunks), failed=len(found.failures)
        )
        return reference


def _earlier(store: Store, job: Job, ours: manifest.Shard, numbers: Sequence[int]) -> tuple[str | None, int]:
    """Reference of the last manifest that may be believed, if it names nothing but chunks that were checked here.

    Returns:
        It or None, and the number that comes after that manifest's.
    """
    try:
        found, reference, number = manifest.last_shard(store, job, ours.index, numbers)
    except (IntegrityError, *ABSENT) as error:
        if arrived_damaged(error):
            raise
        return None, 0
    if set(ours.chunks).issuperset(found.chunks):
        return str(reference), number
    log.warning("manifest.superseded", uri=reference.uri)
    return None, number + 1
