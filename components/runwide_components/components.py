"""`Components`: the place for ``runwide.map(on=…)`` where each shard is a component of a pipeline run."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import EngineError, InputError, ObjectExists, StepFailed, StoreError
from runwide.job import begun, gather, status
from runwide.log import Log
from runwide.spill import open_store
from runwide_components.engines.local import Local
from runwide_components.engines.pace import looks
from runwide_components.engines.registry import engine_of
from runwide_components.fanout import shards_pipeline
from runwide_components.interrupt import wants_to_cancel
from runwide_components.steps import JobOptions, Resources, base_image
from runwide_components.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runwide_components.engines.base import Engine, Run

_log = Log("components")
_LOOKS = (0.5, 10.0)


class Components:
    """Parallel components of one pipeline run, as the place where a map runs.

    The items are spilled here, the shards run through the engine at the same time, and the results are read back
    here. Nothing that finished is lost: an error names the job and how to go on with it, and a client that was killed, or
    lost its connection, is followed by ``runwide.attach(job)``.

    Args:
        components: How many.
        store: Where the job goes: ``gs://bucket/prefix`` or a folder that all components see; ``RUNWIDE_STORE``
            where None.
        engine: What runs the pipeline; `Local` where None.
        image: Image of the steps; `base_image` where None.
        parallelism: How many may run at the same time; None for all.
        cpu: CPUs of each component, such as ``"8"``; None for the engine's default. Machines are the engine's: see `Vertex`.
        memory: Memory of each component, such as ``"32G"``.
        accelerator: Type and number of accelerators of each component, such as ``("NVIDIA_L4", 1)``.
        as_step: Makes another step of the one that runs a shard, such as a CustomJob on Spot machines.
        progress: True for a bar over all items, False for silence, None for a bar on a terminal or in a notebook and log
            lines elsewhere.

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
        cpu: str | None = None,
        memory: str | None = None,
        accelerator: tuple[str, int] | None = None,
        as_step: Callable[[Any], Any] | None = None,
        progress: bool | None = None,
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
        self.resources = Resources(cpu=cpu, memory=memory, accelerator=accelerator, as_step=as_step)
        self.progress = progress

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
        name: str | None = None,
    ) -> list[Any]:
        """As `runwide.map`, whose ``on=`` calls this.

        On a terminal, Ctrl-C asks whether the components should be cancelled or go on without this client.

        Raises:
            InputError: The job of that name is another one.
            StepFailed: A shard ended with an error that is not that of an item.
            EngineError: The engine is not there, or refused.
        """
        job = self.submit(
            function, items, workers=workers, timeout=timeout, retries=retries, name=name, wait=True
        )
        return gather(job[0], job[1], on_error=on_error)

    def submit(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        workers: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        name: str | None = None,
        wait: bool = False,
    ) -> tuple[str, list[str] | None]:
        """Spill a map and start its shards.

        Args:
            function: As for `map`.
            items: As for `map`.
            workers: As for `map`.
            timeout: As for `map`.
            retries: As for `map`.
            name: As for `runwide.map`.
            wait: Whether to wait for their end.

        Returns:
            The job's reference, and what its shards returned where they were waited for and the engine tells it.
        """
        options = JobOptions(workers=workers, timeout=timeout, retries=retries)
        job = begun(function, items, store=self.store, shards=self.components, name=name)
        shards = range(len(status(job).shards))
        run = start(job, shards, self, options)
        return job, follow(job, run, progress=self.progress) if wait else None

    def about(self) -> dict[str, Any]:
        """What `runwide.attach` needs to run shards of the same kind."""
        return {"image": self.image, "parallelism": self.parallelism, "resources": self.resources.about()}


def start(job: str, shards: Sequence[int], place: Components, options: JobOptions) -> Run:
    """Submit shards of a job, and leave a record of that beside it.

    Raises:
        EngineError: The engine is not there, or refused; it names the job.
    """
    pipeline = shards_pipeline(place.image, place.parallelism, options, place.resources)
    arguments = {"job": job, "shards": [str(index) for index in shards]}
    folder = job.partition("#")[0].rpartition("/")[0]  # all that a shard reads and writes
    try:
        run = place.engine.submit(
            pipeline, arguments, store=folder, parallelism=place.parallelism or len(shards)
        )
    except EngineError as error:
        raise _with_job(error, job) from error
    _log.info("job.submitted", job=job, shards=len(shards), engine=repr(place.engine), run=run.id)
    _record(
        folder, {"run": run.id, "engine": place.engine.about(), "options": options.about(), **place.about()}
    )
    return run


def follow(
    job: str, run: Run, *, progress: bool | None = None, timeout: float | None = None
) -> list[str] | None:
    """Wait for the shards of a run, with one bar for all of them; what they returned, where the engine tells it.

    Raises:
        EngineError: The run failed or was cancelled; it names the job.
        TimeoutError: It goes on.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with Watch(job, progress=progress) as watch:
            for pause in looks(*_LOOKS):
                if run.state().ended:
                    break
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"run {run.id} goes on after {timeout} s")
                watch.look()
                with suppress(TimeoutError):
                    run.wait(pause)
            watch.look()
        manifests: list[str] | None = run.wait().get("Output")
    except EngineError as error:
        raise _with_job(error, job) from error
    except KeyboardInterrupt:
        if wants_to_cancel(f"the components of {job.partition('#')[0]}"):
            run.cancel()
        raise
    finally:
        run.leave()
    return manifests


def attach(
    job: str,
    *,
    engine: Engine | None = None,
    on_error: str = "raise",
    progress: bool | None = None,
    timeout: float | None = None,
) -> list[Any]:
    """The results of a job that this or another client has started; see `runwide.attach`."""
    return gather(job, rejoin(job, engine=engine, progress=progress, timeout=timeout), on_error=on_error)


def rejoin(
    job: str, *, engine: Engine | None = None, progress: bool | None = None, timeout: float | None = None
) -> list[str] | None:
    """Wait for a job's shards, wherever they run; what nobody runs any more is run again.

    Args:
        job: The job's reference.
        engine: What runs them; None for the one that its record describes.
        progress: As for `Components`.
        timeout: Seconds to wait.

    Returns:
        What all shards returned, where the engine tells it.

    Raises:
        EngineError: No record says where it runs, or its run failed.
    """
    with Watch(job, progress=False) as watch:
        watch.look()
        missing = watch.unfinished
    if not missing:
        return None
    found = _last_record(job)
    engine = engine or engine_of(found["engine"])
    try:
        run = engine.attach(found["run"])
        ended_badly = run.state().ended and run.state().value != "succeeded"
    except EngineError as error:
        _log.info("run.lost", run=found["run"], cause=error.message)
        ended_badly = True
    if not ended_badly:
        return follow(job, run, progress=progress, timeout=timeout)
    _log.info("job.resumed", job=job, shards=len(missing))
    resources = Resources.of(found["resources"])
    place = Components(
        len(missing),
        store=job.partition("#")[0],
        engine=engine,
        image=found["image"],
        parallelism=found["parallelism"],
    )
    place.resources = resources
    follow(
        job, start(job, missing, place, JobOptions(**found["options"])), progress=progress, timeout=timeout
    )
    return None


def cancel(job: str, *, engine: Engine | None = None) -> bool:
    """Cancel the run of a job's shards; false where it has ended already.

    Raises:
        EngineError: No record says where it runs, or the engine does not know it.
    """
    found = _last_record(job)
    run = (engine or engine_of(found["engine"])).attach(found["run"])
    if run.state().ended:
        return False
    run.cancel()
    return True


def _record(folder: str, about: dict[str, Any]) -> None:
    """Leave a record of a run beside its job; without one the job cannot be attached to, but its run is as good."""
    data = json.dumps({**about, "time": time.time()}, sort_keys=True).encode()
    number = 0
    with open_store(folder) as store:
        while True:
            try:
                store.create(f"runs/{number:03d}.json", data)
            except ObjectExists:
                number += 1
                continue
            except StoreError as error:
                _log.warning("record.lost", uri=folder, cause=str(error))
            return


def _last_record(job: str) -> dict[str, Any]:
    folder = job.partition("#")[0].rpartition("/")[0]
    with open_store(folder) as store:
        names = [info.name for info in store.list("runs/")]
        if not names:
            raise EngineError(
                "there is no record of where this job runs",
                uri=folder,
                hint="it was made by scatter: run its shards (runwide shard JOB INDEX), then gather",
            )
        found: dict[str, Any] = json.loads(store.read(names[-1]))
        return found


def _with_job(error: EngineError, job: str) -> EngineError:
    """The same error with the job, and how to go on with it."""
    go_on = (
        "what finished is kept: 'runwide status JOB' shows what is missing, runwide.attach(job) or 'runwide wait JOB' "
        "runs it, 'runwide shard JOB INDEX' runs one shard here"
    )
    where: dict[str, Any] = {"uri": job, "hint": f"{error.hint}; {go_on}" if error.hint else go_on}
    if isinstance(error, StepFailed):
        return StepFailed(error.message, step=error.step, exitcode=error.exitcode, log=error.log, **where)
    return EngineError(error.message, **where)
