"""`Components`: the place for ``runwide.map(on=…)`` where each shard is a component of a pipeline run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import EngineError, InputError, StepFailed
from runwide.job import gather, scatter, status
from runwide.log import Log
from runwide_components.engines.local import Local
from runwide_components.fan_out import shards_pipeline
from runwide_components.steps import JobOptions, base_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runwide_components.engines.base import Engine

_log = Log("components")


class Components:
    """Parallel components of one pipeline run, as the place where a map runs.

    The items are spilled here, the shards run through the engine at the same time, and the results are read back
    here. Nothing that finished is lost: an error names the job and how to go on with it.

    Args:
        components: How many.
        store: Where the job goes: ``gs://bucket/prefix`` or a folder that all components see; ``RUNWIDE_STORE``
            where None.
        engine: What runs the pipeline; `Local` where None.
        image: Image of the steps; `base_image` where None.
        parallelism: How many may run at the same time; None for all.

    Raises:
        InputError: The number cannot be meant, or there is no store.

    Example:
        >>> import tempfile, runwide
        >>> with tempfile.TemporaryDirectory() as store:
        ...     place = Components(2, store=store, engine=Local("subprocess"))
        ...     runwide.map(lambda x: x * x, [1, 2, 3], on=place)
        [1, 4, 9]
    """

    def __init__(
        self,
        components: int,
        *,
        store: str | None = None,
        engine: Engine | None = None,
        image: str | None = None,
        parallelism: int | None = None,
    ) -> None:
        if components < 1:
            raise InputError(f"{components} components cannot be meant", hint="give 1 or more")
        self.components = components
        self.store = store or settings.read().store or ""
        if not self.store:
            raise InputError("there is no store", hint='give store="gs://bucket/runs", or set RUNWIDE_STORE')
        self.engine: Engine = engine or Local()
        self.image = image or base_image()
        self.parallelism = parallelism

    def __repr__(self) -> str:
        return f"Components({self.components}, store={self.store!r}, engine={self.engine!r})"

    def map(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        on_error: str = "raise",
        workers: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
    ) -> list[Any]:
        """As `runwide.map`, whose ``on=`` calls this.

        Raises:
            StepFailed: A shard ended with an error that is not that of an item.
            EngineError: The engine is not there, or refused.
        """
        options = JobOptions(workers=workers, timeout=timeout, retries=retries)
        job = scatter(function, items, store=self.store, shards=self.components)
        manifests = self._run_shards(job, len(status(job).shards), options)
        return gather(job, manifests, on_error=on_error)

    def _run_shards(self, job: str, shards: int, options: JobOptions) -> list[str] | None:
        pipeline = shards_pipeline(self.image, self.parallelism, options)
        arguments = {"job": job, "shards": [str(index) for index in range(shards)]}
        _log.info("job.submitted", job=job, shards=shards, engine=repr(self.engine))
        try:
            folder = job.rpartition("/")[0]  # all that a shard reads and writes
            with self.engine.submit(
                pipeline, arguments, store=folder, parallelism=self.parallelism or shards
            ) as run:
                manifests: list[str] | None = run.wait().get("Output")
        except EngineError as error:
            raise _with_job(error, job) from error
        return manifests


def _with_job(error: EngineError, job: str) -> EngineError:
    """The same error with the job, and how to go on with it."""
    go_on = (
        "what finished is kept: 'runwide status JOB' shows what is missing, 'runwide shard JOB INDEX' runs it, "
        "'runwide gather JOB' reads the results"
    )
    where: dict[str, Any] = {"uri": job, "hint": f"{error.hint}; {go_on}" if error.hint else go_on}
    if isinstance(error, StepFailed):
        return StepFailed(error.message, step=error.step, exitcode=error.exitcode, log=error.log, **where)
    return EngineError(error.message, **where)
