"""Finish the shards of a job that have failed or missing items: run these again, or count them as failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide.errors import FormatTooNew, InputError, JobIncomplete
from runwide.job import chained, manifest, model
from runwide.job._shard import end_of, run
from runwide.job.chunk_log import ChunkLog
from runwide.job.incomplete import is_whole
from runwide.job.limit import Limit
from runwide.job.reducing import Tree
from runwide.job.reference import parse_shard, resolve
from runwide.job.writing import Writer, finish_shard
from runwide.log import Log, bound
from runwide.options.record import SHARD, Options, RunOptions
from runwide.options.signatures import taking
from runwide.records import Failure, FailureKind, Outcome
from runwide.redaction import shortened
from runwide.store import signing
from runwide.store.base import open_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Unpack

    from runwide.job.model import Job
    from runwide.store.base import Store


@taking(Options, SHARD)
def rerun(
    job: str,
    *,
    only: str = "failed",
    function: Callable[[Any], Any] | None = None,
    store: str | None = None,
    **options: Unpack[Options],
) -> list[str]:
    """Run the failed items of a job again in this process, and the items that its shards have not finished.

    Args:
        job: The reference that `scatter` returned, or another name of the job, see `gather`.
        only: ``"failed"``; items that succeeded are never run again.
        function: A function to run instead of the job's stored one, such as a corrected version.
        store: The store of the job, if it is given by id or name, see `gather`.
        **options: As in `runwide.options.record.Options`.

    Returns:
        The shards' references, for `gather`.

    Example:
        >>> job = runwide.scatter(lambda x: 1 / x, [0, 2], store="memory://doc-rerun", shards=1)
        >>> [str(one) for one in runwide.gather(job, [runwide.shard(job, 0, workers=1)], on_error="return")]
        ['item 0: ZeroDivisionError: division by zero', '0.5']
        >>> runwide.gather(job, rerun(job, function=lambda x: 1 / x if x else 0, workers=1))
        [0, 0.5]
    """
    if only != "failed":
        raise InputError(
            f"invalid only={only!r}: expected 'failed'", hint="items that succeeded are never run again"
        )
    chosen = RunOptions.on(SHARD, options)
    if function is not None:
        from runwide.pickling.functions import function_pickle

        function_pickle(function)  # raises now if it cannot be pickled
    return finish_all(manifest.read_job(resolve(job, store, runs=True)), chosen, function=function)


def finish_all(job: Job, options: RunOptions, *, limit: Limit | None = None, **further: Any) -> list[str]:
    """Run the shards of a job that have failed or missing items, one after another, and return all shards' references.

    Args:
        limit: Counts their failures; None for a limit of ``max_failures``.
    """
    limit = limit or Limit(options.max_failures)
    return [_finish(job, index, options=options, limit=limit, **further) for index in range(job.shards)]


def _finish(job: Job, index: int, **options: Any) -> str:
    """Run a shard if it has failed or missing items, and return its reference."""
    with open_inside(job.uri) as store:
        names = {info.name for info in store.list(f"{model.shard_folder(index)}/")}
        found = manifest.trusted_shard(store, job, index, model.manifests_in(names).get(index, []))
        if found is not None and not found.shard.failures and is_whole(found.shard, names):
            if job.run_key is None:
                signing.believe("results", job.uri)
            if job.reduced:
                given = options.get("given")
                tree = Tree(store, job, reduce=given and given.reduce, options=options.get("options"))
                tree.add(found.shard)
            return str(found.reference)
    return run(job, index, rerun_failed=True, **options)


log = Log("job")


def close(job: str, index: int, error: Exception, *, run_key: str | None = None) -> str:
    """End a shard that cannot be run: its items without a stored result count as failed with this error.

    Stored results are kept. `rerun` runs the failed items, and a copy of the shard that still runs may store their results.

    Args:
        error: The error; it is stored once for each item.

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
    chained.check_source(about)
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
        return finish_shard(store, about, chunks, index)


def close_unfinished(
    job: str,
    shards: Sequence[str] | None = None,
    error: Exception | None = None,
    *,
    run_key: str | None = None,
) -> list[str] | None:
    """End all shards of a job that have not finished; none of them may still run.

    Args:
        shards: The references of the other shards, if they are known.

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
