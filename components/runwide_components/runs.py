"""The run of a job's shards: started, recorded beside the job, followed, taken up again, cancelled."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError, ObjectExists, StepFailed, StoreError
from runwide.job import close_unfinished
from runwide.log import Log
from runwide.spill import open_store
from runwide_components.engines.base import RunState
from runwide_components.engines.pace import looks
from runwide_components.engines.registry import engine_of
from runwide_components.fanout import shards_pipeline
from runwide_components.interrupt import wants_to_cancel
from runwide_components.resources import Resources
from runwide_components.steps import JobOptions
from runwide_components.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide_components.engines.base import Engine, Run

_log = Log("components")
_LOOKS = (0.5, 10.0)
_CAUSE = 300  # characters


@dataclass(frozen=True, slots=True)
class Place:
    """Where shards run, and as what.

    Args:
        engine: What runs them.
        image: Image of the steps.
        parallelism: How many may run at the same time; None for all.
        resources: What each asks for.
    """

    engine: Engine
    image: str
    parallelism: int | None
    resources: Resources

    def about(self) -> dict[str, Any]:
        """What makes shards of the same kind again, as JSON."""
        return {
            "engine": self.engine.about(), "image": self.image, "parallelism": self.parallelism,
            "resources": self.resources.about(),
        }  # fmt: skip


def start(job: str, shards: Sequence[int], place: Place, options: JobOptions) -> Run:
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
    _record(folder, {"run": run.id, "options": options.about(), **place.about()})
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
        if run.outlives_client and wants_to_cancel(f"the components of {job.partition('#')[0]}"):
            run.cancel()
        raise
    finally:
        run.leave()
    return manifests


def ended(
    job: str, run: Run, *, on_error: str, progress: bool | None = None, timeout: float | None = None
) -> list[str] | None:
    """As `follow`; with ``on_error="return"``, shards of a run that failed are ended, and nothing is known of the others."""
    try:
        return follow(job, run, progress=progress, timeout=timeout)
    except EngineError as error:
        if on_error == "raise":
            raise
        without_the_lost(job, run, error)
        return None


def without_the_lost(job: str, run: Run, error: EngineError) -> None:
    """End the shards of a run that failed, so that its job can be gathered without what they had not stored.

    Raises:
        EngineError: The run did not fail: it was cancelled, or nobody knows how it is.
    """
    if run.state() is not RunState.FAILED:
        raise error
    # stored once for each item, so without the log
    cause = StepFailed(
        error.message[:_CAUSE], step=getattr(error, "step", ""), exitcode=getattr(error, "exitcode", None)
    )
    close_unfinished(job, error=cause)


def rejoin(
    job: str,
    *,
    engine: Engine | None = None,
    progress: bool | None = None,
    timeout: float | None = None,
    on_error: str = "raise",
) -> list[str] | None:
    """Wait for a job's shards, wherever they run; what nobody runs any more is run again.

    Args:
        job: The job's reference.
        engine: What runs them; None for the one that its record describes.
        progress: As for `Components`.
        timeout: Seconds to wait.
        on_error: With ``"return"``, shards whose run fails once more are ended, with their items failed.

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
    found = last_record(job)
    engine = engine or engine_of(found["engine"])
    try:
        run = engine.attach(found["run"])
        ended_badly = run.state().ended and run.state().value != "succeeded"
    except EngineError as error:
        _log.info("run.lost", run=found["run"], cause=error.message)
        ended_badly = True
    if not ended_badly:
        return ended(job, run, progress=progress, timeout=timeout, on_error=on_error)
    _log.info("job.resumed", job=job, shards=len(missing))
    place = Place(engine, found["image"], found["parallelism"], Resources.of(found["resources"]))
    run = start(job, missing, place, JobOptions(**found["options"]))
    ended(job, run, progress=progress, timeout=timeout, on_error=on_error)
    return None


def still_going(job: str, engine: Engine) -> Run | None:
    """The run of a job that this or another client has started, if it has not ended."""
    try:
        run = engine.attach(last_record(job)["run"])
        return None if run.state().ended else run
    except EngineError:  # nobody has started it, or the engine does not know that run any more
        return None


def cancel(job: str, *, engine: Engine | None = None) -> bool:
    """Cancel the run of a job's shards; false where it has ended already.

    Raises:
        EngineError: No record says where it runs, or the engine does not know it.
    """
    found = last_record(job)
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


def last_record(job: str) -> dict[str, Any]:
    """What is recorded of the last run of a job.

    Raises:
        EngineError: Nothing is.
    """
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
    # an engine that knows the job has said how to go on in its own words
    hint = f"{error.hint}; {go_on}" if error.hint and error.uri != job else go_on
    where: dict[str, Any] = {"uri": job, "hint": hint}
    if isinstance(error, StepFailed):
        return StepFailed(error.message, step=error.step, exitcode=error.exitcode, log=error.log, **where)
    return EngineError(error.message, **where)
