"""Start the shards of a job on an engine, record the run next to the job, follow it, resume it, cancel it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide.cli.requirements import text_of
from runwide.errors import EngineError, StepFailed
from runwide.job import close_unfinished, status
from runwide.job._gather import keep_so_far
from runwide.job.incomplete import of_shards
from runwide.job.limit import too_many_stored
from runwide.job.manifest import read_job
from runwide.job.reference import parse, quoted
from runwide.job.runner import ShardOptions, looks
from runwide.log import Log
from runwide.naming import shown
from runwide.options.checks import seconds
from runwide.redaction import shortened
from runwide.store import signing
from runwide_components.engines.base import PipelineEngine, RunState, checked_engine
from runwide_components.engines.local_surroundings import in_full
from runwide_components.image import checked_image
from runwide_components.recorded import Place, Recorded, last_record, record
from runwide_components.watch import Watch, wants_to_cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.events.model import TaskEvent
    from runwide.job.limit import Accepted
    from runwide_components.engines.base import Run, ShardRunner
    from runwide_components.steps import JobOptions

_log = Log("components")
_LOOKS = (0.5, 10.0)
_seconds = seconds(least_is_0=True)
_CAUSE = 300  # characters


def start(
    job: str, shards: Sequence[int], place: Place, options: JobOptions, run_key: str | None = None
) -> Run:
    """Start shards of a job, and write a record of the run next to it.

    Args:
        run_key: The key that signs the results of this run; None if the user's key does, or if the job continues with
            results of another run.

    Raises:
        EngineError: The engine cannot be reached, or refused; the error names the job.
    """
    options = replace(options, configuration=options.configuration.travelling())
    wanted = ShardOptions(
        place.image, options.of_shard(), _folder_of(job), place.parallelism, run_key, options.configuration
    )
    runner: Any = place.engine
    start_shards = getattr(runner, "start", None) or partial(PipelineEngine.start, runner)
    try:
        # the whole path: steps on this machine have other working directories
        run: Run = start_shards(in_full(job), shards, wanted, place.resources)
    except EngineError as error:
        raise with_job(error, job) from error
    if not isinstance(getattr(run, "id", None), str):
        what = f"{type(runner).__name__}.start returned {shown(run)}: expected a run with an id"
        raise with_job(EngineError(what), job)
    _log.info("job.submitted", job=job, shards=len(shards), engine=repr(place.engine), run=run.id)
    record(job, {"run": run.id, "options": options.about(), **place.about()})
    return run


def _folder_of(job: str) -> str:
    """Return the folder that shards use: the job's, or the whole store if the items are another job's results."""
    folder = parse(job).folder
    return folder if read_job(job).source is None else folder.rpartition("/")[0]


def follow(
    job: str,
    run: Run,
    *,
    progress: bool | None = None,
    timeout: float | None = None,
    run_key: str | None = None,
    on_event: Callable[[TaskEvent], object] | None = None,
    fresh: bool = True,
    limit: Accepted | None = None,
) -> list[str] | None:
    """Wait for the shards of a run, with one bar for all; return their manifests, if the engine reports them.

    Args:
        on_event: As for `Watch`.
        fresh: As for `Watch`.
        limit: The number of failed items that is accepted; with more, the run is cancelled.

    Raises:
        EngineError: The run failed or was cancelled; the error names the job.
        TooManyFailures: More items failed than are accepted.
        TimeoutError: The run has not ended yet.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with Watch(job, progress=progress, run_key=run_key, on_event=on_event, fresh=fresh) as watch:
            for pause in looks(*_LOOKS):
                if run.state().ended:
                    break
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"run {run.id} has not ended after {timeout} s")
                watch.look()
                if limit is not None and too_many_stored(job, limit) is not None:
                    run.cancel()
                    break
                with suppress(TimeoutError):
                    run.wait(pause)
            watch.look()
        manifests: list[str] | None = run.wait().get("Output")
    except EngineError as error:
        refuse_too_many(job, limit, run_key)
        raise with_job(error, job) from error
    except KeyboardInterrupt:
        if run.outlives_client and wants_to_cancel(f"the components of {job.partition('#')[0]}"):
            run.cancel()
        raise
    finally:
        run.leave()
    refuse_too_many(job, limit, run_key)
    return manifests


def refuse_too_many(job: str, limit: Accepted | None, run_key: str | None = None) -> None:
    """Raise an error with all stored results if more items failed than are accepted.

    Args:
        limit: The number of failed items that is accepted; None for any number.
    """
    stopped = None if limit is None else too_many_stored(job, limit)
    if stopped is not None:
        keep_so_far(stopped, job, run_key=run_key)
        if stopped.failures:
            stopped.args = (f"{stopped.message}, the last: {stopped.failures[-1]}",)
        raise stopped from None


def ended(
    job: str, run: Run, *, on_error: str, run_key: str | None = None, **options: Any
) -> list[str] | None:
    """Follow a run; with ``on_error="return"``, close the unfinished shards of a run that failed, and return None."""
    try:
        return follow(job, run, run_key=run_key, **options)
    except EngineError as error:
        if on_error == "raise":
            raise
        close_lost_shards(job, run, error, run_key)
        return None


def close_lost_shards(job: str, run: Run, error: EngineError, run_key: str | None = None) -> None:
    """Close the unfinished shards of a run that failed, so that the stored results can be gathered.

    Raises:
        EngineError: The run did not fail: it was cancelled, or its state is unknown.
    """
    if run.state() is not RunState.FAILED:
        raise error
    # without the log: it is stored once for each item
    cause = StepFailed(
        shortened(error.message, _CAUSE),
        step=getattr(error, "step", ""),
        exitcode=getattr(error, "exitcode", None),
    )
    close_unfinished(job, error=cause, run_key=run_key)


def rejoin(
    job: str,
    *,
    vouched: bool = True,
    engine: ShardRunner | None = None,
    image: str | None = None,
    progress: bool | None = None,
    timeout: float | None = None,
    on_error: str = "raise",
    requirements: Any = None,
) -> list[str] | None:
    """Wait for the shards of a job on their engine, and start shards again that no longer run.

    Of an unsigned record, only these parts are trusted: the engine's name and project, the id of the run, the options and
    the sizes of machines. Its image, packages and addresses are not.

    Args:
        vouched: True if the job's digest or a signature is known; otherwise no shard is started again.
        engine: The engine of the shards; None for the engine in the record.
        image: Image of shards that are started again; None for the image of a signed record, or else `base_image`.
        on_error: With ``"return"``, shards whose run fails again are closed, and their items count as failed.
        requirements: Packages that shards install when they are started again; None for those of a signed record.

    Returns:
        The manifests of all shards, if the engine reports them.

    Raises:
        EngineError: There is no record of the run, or the run failed.
    """
    checked_engine(engine)
    if image is not None:
        checked_image(image)
    if timeout is not None:
        timeout = _seconds("timeout", timeout)
    missing = [shard.index for shard in status(job).shards if not shard.finished]
    if not missing:
        return None
    try:
        found = last_record(job)
    except EngineError as error:
        which = of_shards(read_job(job), missing, "have not finished, or were removed").message
        raise EngineError(f"{error.message} ({which})", uri=error.uri, hint=error.hint) from error
    engine = engine or found.engine()
    try:
        run = _attached(found, engine, job)
        ended_badly = run.state().ended and run.state().value != "succeeded"
    except EngineError as error:
        _log.info("run.lost", run=found.run, cause=error.message)
        ended_badly = True
    if not ended_badly:
        limit = found.options.accepted
        return ended(job, run, progress=progress, timeout=timeout, on_error=on_error, limit=limit)
    if not vouched:
        raise EngineError(
            f"{len(missing)} shards have to run again, and the function of the job is not signed",
            uri=parse(job).folder,
            hint=f"give the job's whole reference, with its digest; or {signing.HINT}",
        )
    unbelieved = [name for name in found.unbelieved if name != "requirements" or requirements is None]
    if unbelieved:
        names = ", ".join(f"{name}=" for name in unbelieved)
        raise EngineError(
            f"{len(missing)} shards have to run again, and the record of their {names} is not signed, so it is not trusted",
            uri=found.uri,
            hint=f"give requirements= again; or run them with: runwide shard {quoted(job)} {missing[0]}{_others(missing)}, "
            "and its options --env and --secret, then gather; or " + signing.HINT,
        )
    _log.info("job.resumed", job=job, shards=len(missing))
    options = found.options.for_new_attempt()
    if requirements is not None:
        options = replace(options, requirements=text_of(requirements))
    run = start(job, missing, found.place(engine, image), options)
    ended(job, run, progress=progress, timeout=timeout, on_error=on_error, limit=options.accepted)
    return None


def still_going(job: str, engine: ShardRunner) -> Run | None:
    """Return the run of a job that this or another client started, if it has not ended."""
    try:
        run = _attached(last_record(job), engine, job)
        return None if run.state().ended else run
    except EngineError:  # no client started it, or the engine has deleted the run
        return None


def cancel(job: str, *, engine: ShardRunner | None = None) -> bool:
    """Cancel the run of a job's shards; return False if it has ended already.

    Args:
        engine: The engine of the run; None for the engine in the record.

    Raises:
        EngineError: There is no record of the run, or the engine does not know it.
    """
    checked_engine(engine)
    try:
        found = last_record(job)
    except EngineError:
        about = status(job)
        if about.finished == len(about.shards):
            return False
        raise
    run = _attached(found, engine or found.engine(), job)
    if run.state().ended:
        return False
    run.cancel()
    return True


def _attached(found: Recorded, engine: ShardRunner, job: str) -> Run:
    """Return the run of a record. The run of an unsigned record must belong to this job, so that no other is cancelled."""
    run = engine.attach(found.run)
    if not found.vouched and run.argument("job") != job:
        raise EngineError(
            "the record of the run is not signed, and names a run of another job",
            uri=found.uri,
            hint=signing.HINT,
        )
    return run


def _others(missing: Sequence[int]) -> str:
    """Return the shards after the first one in words, ten at most."""
    more = ", ".join(map(str, missing[1:10])) + (", …" if len(missing) > 10 else "")  # noqa: PLR2004 - ten fit in a line
    return f" (and so for {more})" if more else ""


def with_job(error: EngineError, job: str) -> EngineError:
    """Return the error with the job's reference, and with commands that continue the job."""
    word = quoted(job)
    go_on = (
        f"finished work is kept; list missing shards: runwide status {word}; run them: runwide wait {word}, or "
        f"runwide.attach({job!r})"
    )
    # an engine that knows the job has its own hint
    theirs = error.hint if error.uri != job else None
    if not isinstance(error, StepFailed):
        return EngineError(error.message, uri=job, hint=f"{theirs}; {go_on}" if theirs else go_on)
    whole = f"its whole log is {error.log_path}" if error.log_path and not theirs else None
    return StepFailed(
        error.message,
        step=error.step,
        exitcode=error.exitcode,
        log=error.log,
        log_path=error.log_path,
        uri=job,
        hint="; ".join(filter(None, (theirs, go_on, whole))),
    )
