"""`attach`: the results of a job that runs on components which another client has started."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from runwide.errors import EngineError

GROUP = "runwide.attach"  # who knows engines says so there; the runtime itself knows none


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
    """The results of a job whose client was killed, lost its connection, or was told to let it go on.

    Its run is waited for where it still is; shards that nobody runs any more are run again, and compute what is
    missing.

    Args:
        job: The job's reference, as the log line ``job.submitted`` and every error of `runwide.map` name it. Or the bare URI
            of its folder, its id or its name, without a digest: where a signing key is set, the job must be signed with it;
            without one its results are believed as far as the store is, which is said in one line, and nothing of it is
            run again.
        engine: What runs it; None for the one that submitted it, with the default credentials: of a record that is not
            signed, the engine's name and project are believed, and no address, mount or image.
        image: Image of the shards that are run again; None for that of the first run where the record is signed, else the
            default one.
        on_error: As for `runwide.map`.
        progress: As for `runwide.map`.
        timeout: Seconds to wait; None for as long as it takes.
        requirements: What shards that are run again install first; None for those of the first run where the record is
            signed, else none.
        store: Where an id or a name is looked for, see `gather`.

    Returns:
        What `runwide.map` would have returned.

    Raises:
        EngineError: No record says where the job runs, its run failed, or runwide_components is not installed here.
        TimeoutError: It goes on.

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
            "nothing here knows the engines on which jobs run",
            uri=job,
            hint="pip install runwide with its runwide_components",
        )
    results: list[Any] = found.load()(
        job,
        engine=engine,
        image=image,
        on_error=on_error,
        progress=progress,
        timeout=timeout,
        requirements=requirements,
        store=store,
    )
    return results
