"""The run of a job's shards: started, recorded beside the job, followed, taken up again, cancelled."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide.cli.requirements import text_of
from runwide.errors import (
    EngineError,
    StepFailed,
)
from runwide.job import close_unfinished, status
from runwide.job.gather import keep_so_far
from runwide.job.incomplete import of_shards
from runwide.job.limit import too_many_stored
from runwide.job.manifest import read_job
from runwide.job.reference import parse, quoted
from runwide.log import Log
from runwide.redaction import shortened
from runwide.spill import signing
from runwide_components.engines.base import RunState
from runwide_components.engines.local_stores import in_full
from runwide_components.engines.pace import looks
from runwide_components.fanout import shards_pipeline
from runwide_components.interrupt import wants_to_cancel
from runwide_components.recorded import Place, Recorded, last_record, record
from runwide_components.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.job.limit import Accepted
    from runwide.records import TaskEvent
    from runwide_components.engines.base import Engine, Run
    from runwide_components.steps import JobOptions

_log = Log("components")
_LOOKS = (0.5, 10.0)
_CAUSE = 300  # characters


def start(
    job: str, shards: Sequence[int], place: Place, options: JobOptions, run_key: str | None = None
) -> Run:
    """Submit shards of a job, and leave a record of that beside it.

    Args:
        job: The job's reference.
        shards: Which of them.
        place: Where.
        options: How the items are run.
        run_key: What vouches for the results within this run; None where the user's key does, or where the job goes on
            with what another run has stored.

    Raises:
        EngineError: The engine is not there, or refused; it names the job.
    """
    options = replace(options, configuration=options.configuration.travelling())
    pipeline = shards_pipeline(place.image, place.parallelism, options, place.resources)
    # a relative one is found from here alone: steps on this machine have directories of their own
    arguments = {"job": in_full(job), "shards": [str(index) for index in shards], "run_key": run_key or "-"}
    try:
        run = place.engine.submit(
            pipeline, arguments, store=_seen(job), parallelism=place.parallelism or len(shards)
        )
    except EngineError as error:
        raise with_job(error, job) from error
    _log.info("job.submitted", job=job, shards=len(shards), engine=repr(place.engine), run=run.id)
    record(job, {"run": run.id, "options": options.about(), **place.about()})
    return run


def _seen(job: str) -> str:
    """All that a shard reads and writes: the job's folder, or the store, if the items are another job's results."""
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
    """Wait for the shards of a run, with one bar for all of them; what they returned, where the engine tells it.

    Args:
        job: The job's reference.
        run: Its run.
        progress: As for `Components`.
        timeout: Seconds to wait.
        run_key: As for `start`.
        on_event: As for `Watch`.
        fresh: As for `Watch`.
        limit: How many failed items are accepted; with more, the run is cancelled.

    Raises:
        EngineError: The run failed or was cancelled; it names the job.
        TooManyFailures: More items failed than are accepted.
        TimeoutError: It goes on.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with Watch(job, progress=progress, run_key=run_key, on_event=on_event, fresh=fresh) as watch:
            for pause in looks(*_LOOKS):
                if run.state().ended:
                    break
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"run {run.id} goes on after {timeout} s")
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
    """Raise that more items failed than are accepted, with all that is stored.

    Args:
        job: The job's reference.
        limit: How many are accepted; None for any number.
        run_key: As for `start`.

    Raises:
        TooManyFailures: More did.
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
    """As `follow`; with ``on_error="return"``, shards of a run that failed are ended, and nothing is known of the others."""
    try:
        return follow(job, run, run_key=run_key, **options)
    except EngineError as error:
        if on_error == "raise":
            raise
        without_the_lost(job, run, error, run_key)
        return None


def without_the_lost(job: str, run: Run, error: EngineError, run_key: str | None = None) -> None:
    """End the shards of a run that failed, so that its job can be gathered without what they had not stored.

    Raises:
        EngineError: The run did not fail: it was cancelled, or nobody knows how it is.
    """
    if run.state() is not RunState.FAILED:
        raise error
    # stored once for each item, so without the log
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
    engine: Engine | None = None,
    image: str | None = None,
    progress: bool | None = None,
    timeout: float | None = None,
    on_error: str = "raise",
    requirements: Any = None,
) -> list[str] | None:
    """Wait for a job's shards, wherever they run; what nobody runs any more is run again.

    Of a record that is not signed, the engine's name and project are believed, the run's id, the options and the sizes of
    machines; nothing that says what is run, or where else.

    Args:
        job: The job's reference.
        vouched: Whether somebody vouches for the job; if not, nothing of it is run again.
        engine: What runs them; None for the one that its record describes.
        image: Image of what is run again; None for that of the record, if it is signed, else `base_image`.
        progress: As for `Components`.
        timeout: Seconds to wait.
        on_error: With ``"return"``, shards whose run fails once more are ended, with their items failed.
        requirements: What is run again installs these first; None for what the record says, if it is signed.

    Returns:
        What all shards returned, where the engine tells it.

    Raises:
        EngineError: No record says where it runs, or its run failed.
    """
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
            f"{len(missing)} shards have to run again, and nobody vouches for the function of the job",
            uri=parse(job).folder,
            hint=f"give the job's whole reference, with its digest; or {signing.HINT}",
        )
    unbelieved = [name for name in found.unbelieved if name != "requirements" or requirements is None]
    if unbelieved:
        names = ", ".join(f"{name}=" for name in unbelieved)
        raise EngineError(
            f"{len(missing)} shards have to run again, and the record of their {names} is not signed and not believed",
            uri=found.uri,
            hint=f"give requirements= again; or run them with: runwide shard {quoted(job)} {missing[0]}{_others(missing)}, "
            "and its options --env and --secret, then gather; or " + signing.HINT,
        )
    _log.info("job.resumed", job=job, shards=len(missing))
    options = found.options.anew()
    if requirements is not None:
        options = replace(options, requirements=text_of(requirements))
    run = start(job, missing, found.place(engine, image), options)
    ended(job, run, progress=progress, timeout=timeout, on_error=on_error, limit=options.accepted)
    return None


def still_going(job: str, engine: Engine) -> Run | None:
    """The run of a job that this or another client has started, if it has not ended."""
    try:
        run = _attached(last_record(job), engine, job)
        return None if run.state().ended else run
    except EngineError:  # nobody has started it, or the engine does not know that run any more
        return None


def cancel(job: str, *, engine: Engine | None = None) -> bool:
    """Cancel the run of a job's shards; false where it has ended already.

    Raises:
        EngineError: No record says where it runs, or the engine does not know it.
    """
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


def _attached(found: Recorded, engine: Engine, job: str) -> Run:
    """The run of a record; of one that is not signed only if it is this job's, so that no other is followed or ended."""
    run = engine.attach(found.run)
    if not found.vouched and run.argument("job") != job:
        raise EngineError(
            "the record of the run is not signed, and names a run of something else",
            uri=found.uri,
            hint=signing.HINT,
        )
    return run


def _others(missing: Sequence[int]) -> str:
    """The shards after the first one, in words; no more than a few."""
    more = ", ".join(map(str, missing[1:10])) + (", …" if len(missing) > 10 else "")  # noqa: PLR2004 - fit a line
    return f" (and so for {more})" if more else ""


def with_job(error: EngineError, job: str) -> EngineError:
    """The same error with the job, and how to go on with it."""
    word = quoted(job)
    go_on = (
        f"what finished is kept; see what is missing: runwide status {word}; run that: runwide wait {word}, or "
        f"runwide.attach({job!r})"
    )
    # an engine that knows the job has said how to go on in its own words
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
