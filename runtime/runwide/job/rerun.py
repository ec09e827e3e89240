"""Run what has failed or is missing of a job again, here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, IntegrityError
from runwide.job import manifest
from runwide.job.incomplete import is_whole
from runwide.job.limit import Limit
from runwide.job.reducing import Tree
from runwide.job.reference import whole
from runwide.job.shard import run
from runwide.options import SHARD, Options, RunOptions
from runwide.signatures import taking
from runwide.spill import signing
from runwide.spill.store import open_inside
from runwide.spill.verified import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from runwide.job.manifest import Job


@taking(Options, SHARD)
def rerun(
    job: str,
    *,
    only: str = "failed",
    function: Callable[[Any], Any] | None = None,
    store: str | None = None,
    **options: Unpack[Options],
) -> list[str]:
    """Run the failed items of a job again, here, and what its shards have not finished.

    Args:
        job: The reference that `scatter` returned, or another name of the job, see `gather`.
        only: ``"failed"``; what succeeded is never run again.
        function: What to run in the place of the job's function, which was stored as it then was: that one, mended.
        store: Where an id or a name is looked for, see `gather`.
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
        raise InputError(f"only={only!r} is not 'failed'", hint="what succeeded is never run again")
    chosen = RunOptions.on(SHARD, options)
    if function is not None:
        from runwide.pickled import function_bytes

        function_bytes(function)  # one that cannot be sent is an error now
    return finished_all(manifest.read_job(whole(job, store, runs=True)), chosen, function=function)


def finished_all(job: Job, options: RunOptions, *, limit: Limit | None = None, **further: Any) -> list[str]:
    """Return the references of all shards, whose items have succeeded, or have been run again now, one after another.

    Args:
        job: The job.
        options: How items are run.
        limit: Counts their failures; None for one by ``max_failures``.
        **further: As for `runwide.job.shard.run`.

    Raises:
        TooManyFailures: ``max_failures`` was passed, by all shards together.
    """
    limit = limit or Limit(options.max_failures)
    return [finished(job, index, options=options, limit=limit, **further) for index in range(job.shards)]


def finished(job: Job, index: int, **options: Any) -> str:
    """The reference of a shard all of whose items have succeeded, or have been run again now.

    Args:
        job: The job.
        index: The shard.
        **options: As for `run`.
    """
    with open_inside(job.uri) as store:
        names = {info.name for info in store.list(f"{manifest.shard_folder(index)}/")}
        numbers = manifest.manifests_in(names).get(index, [])
        try:
            found, reference = manifest.read_shard(store, job, index, numbers=numbers)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            found = None
        if found is not None and not found.failures and is_whole(found, names):
            if job.run_key is None:
                signing.believe("results", job.uri)
            if job.reduced:
                given = options.get("given")
                Tree(store, job, reduce=given and given.reduce, options=options.get("options")).add(found)
            return str(reference)
    return run(job, index, rerun_failed=True, **options)
