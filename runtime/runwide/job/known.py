"""Results that are known before the shards of a job run, as those of the items by which its size was measured."""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby
from typing import TYPE_CHECKING, Any

from runwide.job import contexts, manifest
from runwide.job.chunks import ChunkLog, Ended
from runwide.log import Log
from runwide.spill import pack
from runwide.spill.codec import encode
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Mapping

log = Log("job")


def keep(job: str, results: Mapping[int, Any], *, run_key: str | None = None) -> None:
    """Store results where their shards find them and go on from.

    Args:
        job: The reference that `scatter` returned, of which no shard runs yet.
        results: What the job's function returned, by the item's index; it can be pickled.
        run_key: As for `runwide.job.shard`.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2, -3], store="memory://doc-keep", shards=2)
        >>> keep(job, {1: 22})
        >>> runwide.gather(job, [runwide.shard(job, index, workers=1) for index in (0, 1)])
        [1, 22, 3]
    """
    about = manifest.read_job(job, run_key=run_key)

    def ended(item: int) -> Ended:
        context = contexts.result_context(about.digest, item)
        return Ended(pack.Member(item, encode(results[item], context=context)))

    with open_inside(about.uri) as store:
        for index, items in groupby(sorted(results), key=lambda item: bisect_right(about.starts, item) - 1):
            ChunkLog(store, about, index).append([ended(item) for item in items])
    log.info("results.kept", job=about.id, items=len(results))
