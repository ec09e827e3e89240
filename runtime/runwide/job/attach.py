"""`attach`: wait for the results of a job that another client has started on components."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from runwide.errors import EngineError

GROUP = "runwide.attach"  # the entry point of the package with the engines, since the runtime has none


def attach(
    job: str,
    *,
    engine: Any = None,
    image: str | None = None,
    on_error: str = "raise",
    progress: bool | None = None,
    timeout: float | None = None,
    requirements: Any = None,
    store: str | None = None,
) -> list[Any]:
    """Return the results of a job whose client was killed, lost its connection, or detached from it.

    If the job's run still exists, this waits for it. Shards that have stopped are run again, without items that have
    results.

    Args:
        job: The job's reference, as in the log line ``job.submitted`` and in every error of `runwide.map`. Or the URI of its
            folder, its id or its name, without a digest: then, if a signing key is set, the job must be signed with it.
            Otherwise the store is trusted for the results, one log line says so, and no shard is run again.
        engine: The engine; None for the one that submitted the job, with the default credentials. If its record is not
            signed, only the engine's name and project are used, and no address, mount or image.
        image: Image for shards that are run again; None for the first run's image if the record is signed, else for the
            default one.
        on_error: As for `runwide.map`.
        progress: As for `runwide.map`.
        timeout: Seconds to wait; None for no limit.
        requirements: Packages that shards install before they are run again; None for those of the first run if the record
            is signed, else for none.
        store: The store of the job, if it is given by id or name, see `gather`.

    Returns:
        The return value of `runwide.map`.

    Raises:
        EngineError: No record says where the job runs, its run failed, or runwide_components is not installed here.
        TimeoutError: The time is over, and the job goes on.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-attach", shards=1)
        >>> runwide.shard(job, 0, workers=1).startswith("memory://doc-attach/")
        True
        >>> attach(job)
        [1, 2]
    """
    found = next(iter(entry_points(group=GROUP)), None)
    if found is None:
        raise EngineError(
            "runwide_components, which has the engines for jobs, is not installed",
            uri=job,
            hint="install runwide with its runwide_components",
        )
    results: list[Any] = found.load()(
        job, engine=engine, image=image, on_error=on_error, progress=progress, timeout=timeout, requirements=requirements,
        store=store,
    )  # fmt: skip
    return results
