"""End shards that cannot be run, by counting the items without a stored result as failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.errors import FormatTooNew, JobIncomplete
from runwide.job import chained, manifest
from runwide.job._shard import end_of
from runwide.job.chunks import ChunkLog
from runwide.job.ending import Writer, finish
from runwide.job.reference import parse_shard
from runwide.log import Log, bound
from runwide.records import Failure, FailureKind, Outcome
from runwide.redaction import shortened
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.job.model import Job
    from runwide.spill.store import Store

log = Log("job")


def close(job: str, index: int, error: Exception, *, run_key: str | None = None) -> str:
    """End a shard that cannot be run: its items without a stored result count as failed with this error.

    Stored results are kept. `rerun` runs the failed items, and a copy of the shard that still runs may store their results.

    Args:
        job: The reference that `scatter` returned.
        index: Index of the shard, from 0.
        error: The error; it is stored once for each item.
        run_key: As for `shard`.

    Returns:
        The shard's reference, for `gather`.

    Example:
        >>> job = runwide.scatter(abs, [-1, -1], store="memory://doc-close", shards=2)
        >>> references = [runwide.shard(job, 0, workers=1), close(job, 1, RuntimeError("no machine"))]
        >>> found = runwide.gather(job, references, on_error="return")
        >>> found.count(1), [one.message for one in found if one != 1]
        (1, ['no machine'])
    """
    about = manifest.read_job(job, run_key=run_key)
    items = about.items_of(index)
    chained.check_count(about)
    with bound(job=about.id, shard=index), open_inside(about.uri) as store:
        chunks = ChunkLog(store, about, index)
        chunks.resume()
        finished = chunks.finished
        missing = [item for item in items if item not in finished]
        log.warning(
            "shard.closed", job=about.id, shard=index, items=len(missing), cause=shortened(str(error), 500)
        )
        failure = Failure(0, FailureKind.CRASH, type(error).__name__, str(error), exception=error)
        with Writer(chunks) as writer:
            for item in missing:
                writer.put(end_of(Outcome(item, failure=failure), item, about))
        return finish(store, about, chunks, index)


def close_unfinished(
    job: str,
    shards: Sequence[str] | None = None,
    error: Exception | None = None,
    *,
    run_key: str | None = None,
) -> list[str] | None:
    """End all shards of a job that have not finished; none of them may still run.

    Args:
        job: As for `close`.
        shards: The references of the other shards, if they are known.
        error: The error; None if it is not known.
        run_key: As for `shard`.

    Returns:
        The references of all shards; None if those of the other shards are not known.
    """
    about = manifest.read_job(job, run_key=run_key)
    known = {parse_shard(one)[0] for one in shards or ()}
    with open_inside(about.uri) as store:
        known |= {
            index for index in range(about.shards) if index not in known and _is_finished(store, about, index)
        }
    closed = [
        close(job, index, error or JobIncomplete(f"shard {index} never finished"), run_key=run_key)
        for index in range(about.shards)
        if index not in known
    ]
    return None if shards is None else [*shards, *closed]


def _is_finished(store: Store, job: Job, index: int) -> bool:
    """Return whether a shard has a valid manifest."""
    try:
        return manifest.trusted_shard(store, job, index) is not None
    except FormatTooNew:
        return False
