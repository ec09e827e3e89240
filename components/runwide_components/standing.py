"""The state of the runs of a batch, from its records and the engines, and how to cancel them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError
from runwide.spill.store import open_inside
from runwide_components.attempts import Records
from runwide_components.batch import Batch, PipelineRun
from runwide_components.engines.base import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide_components.attempts import AttemptRecord
    from runwide_components.engines.base import Engine

_LEVELS = 2  # of a batch's folder in its store


def status_of(uri: str, *, engine: Engine | None = None) -> Batch:
    """Return all runs of a batch in the store, with the current state from the engine where they have not ended.

    Args:
        uri: `Pipelines.uri` of the batch.
        engine: The engine of the runs; None for the engine in each record.
    """
    with open_inside(uri, _LEVELS) as store:
        stores = (store.uri.rsplit("/", _LEVELS)[0],)
        return Batch(
            [_current(attempts, engine, stores) for attempts in Records(store).attempts().values()],
            uri=store.uri,
        )


def cancel_all(uri: str, *, engine: Engine | None = None) -> int:
    """Cancel all runs of a batch that have not ended, of this and of other clients; return their number.

    Args:
        uri: `Pipelines.uri` of the batch.
        engine: The engine of the runs; None for the engine in each record.
    """
    cancelled = 0
    with open_inside(uri, _LEVELS) as store:
        records = Records(store)
        for key, attempts in records.attempts().items():
            last = max(attempts)
            found = attempts[last]
            if "ended" in found or "submitted" not in found:
                continue
            submitted = found["submitted"]
            asked = engine or submitted.engine()
            with suppress(EngineError):  # the engine has deleted the run
                run = asked.attach(submitted.about["run"])
                if not run.state().ended:
                    run.cancel()
                    cancelled += 1
            records.end(key, last, state="cancelled")
    return cancelled


def _current(
    attempts: dict[int, dict[str, AttemptRecord]], engine: Engine | None, stores: Sequence[str]
) -> PipelineRun:
    number = max(attempts)
    found = attempts[number]
    claimed: dict[str, Any] = {"name": "", "arguments": {}}
    if "claimed" in found:
        claimed = found["claimed"].about
    about = PipelineRun(claimed["name"], claimed["arguments"], attempts=number + 1)
    if "ended" in found:
        return ended_run(about, found, stores)
    if "submitted" not in found:
        return about
    submitted = found["submitted"]
    about = replace(about, run=submitted.about["run"], logs=submitted.logs(), started=submitted.about["time"])
    try:
        return replace(about, state=(engine or submitted.engine()).attach(about.run).state())
    except EngineError as error:
        return replace(about, state=RunState.FAILED, error=str(error))


def ended_run(about: PipelineRun, found: dict[str, AttemptRecord], stores: Sequence[str]) -> PipelineRun:
    """Return a run with the content of the record of its end.

    Args:
        about: The run as known from its parameters.
        found: Its records by kind.
        stores: As for `runwide_components.attempts.AttemptRecord.outputs`.
    """
    ended = found["ended"]
    known = replace(
        about,
        state=ended.about["state"],
        outputs=ended.outputs(stores),
        error=ended.about["error"],
        seconds=ended.about["seconds"],
    )
    if "submitted" not in found:
        return known
    submitted = found["submitted"]
    return replace(
        known,
        name=submitted.about["name"],
        run=submitted.about["run"],
        logs=submitted.logs(),
        started=submitted.about["time"],
    )
