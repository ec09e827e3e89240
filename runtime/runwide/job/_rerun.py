"""Run the failed and missing items of a job again, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.job import manifest, shard_names
from runwide.job._shard import run
from runwide.job.incomplete import is_whole
from runwide.job.limit import Limit
from runwide.job.reducing import Tree
from runwide.job.reference import resolve
from runwide.options import SHARD, Options, RunOptions
from runwide.signatures import taking
from runwide.spill import signing
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from runwide.job.model import Job


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
        **options: As in `runwide.options.Options`.

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
        from runwide.pickled import function_pickle

        function_pickle(function)  # raises now if it cannot be pickled
    return finish_all(manifest.read_job(resolve(job, store, runs=True)), chosen, function=function)


def finish_all(job: Job, options: RunOptions, *, limit: Limit | None = None, **further: Any) -> list[str]:
    """Run the shards of a job that have failed or missing items, one after another, and return all shards' references.

    Args:
        job: The job.
        options: How items are run.
        limit: Counts their failures; None for a limit of ``max_failures``.
        **further: As for `runwide.job._shard.run`.

    Raises:
        TooManyFailures: All shards together have passed ``max_failures``.
    """
    limit = limit or Limit(options.max_failures)
    return [_finish(job, index, options=options, limit=limit, **further) for index in range(job.shards)]


def _finish(job: Job, index: int, **options: Any) -> str:
    """Run a shard if it has failed or missing items, and return its reference.

    Args:
        job: The job.
        index: The shard.
        **options: As for `run`.
    """
    with open_inside(job.uri) as store:
        names = {info.name for info in store.list(f"{shard_names.shard_folder(index)}/")}
        found = manifest.trusted_shard(store, job, index, shard_names.manifests_in(names).get(index, []))
        if found is not None and not found.shard.failures and is_whole(found.shard, names):
            if job.run_key is None:
                signing.believe("results", job.uri)
            if job.reduced:
                given = options.get("given")
                tree = Tree(store, job, reduce=given and given.reduce, options=options.get("options"))
                tree.add(found.shard)
            return str(found.reference)
    return run(job, index, rerun_failed=True, **options)
