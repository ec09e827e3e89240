"""How the runs of a batch stand, from its records and the engines, whoever has submitted them; and their end by order."""

from __future__ import annotations

import time
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

    from runwide_components.attempts import Noted
    from runwide_components.engines.base import Engine

_LEVELS = 2  # of a batch's folder in its store


def status_of(uri: str, *, engine: Engine | None = None) -> Batch:
    """All runs of a batch that the store knows of, asked for at the engine where they have not ended.

    Args:
        uri: `Pipelines.uri` of the batch.
        engine: What runs them; None for the one that submitted each.
    """
    with open_inside(uri, _LEVELS) as store:
        stores = (store.uri.rsplit("/", _LEVELS)[0],)
        return Batch(
            [_looked_at(attempts, engine, stores) for attempts in Records(store).attempts().values()]
        )


def cancel_all(uri: str, *, engine: Engine | None = None) -> int:
    """Cancel all runs of a batch that have not ended, whoever submitted them; returns how many.

    Args:
        uri: `Pipelines.uri` of the batch.
        engine: What runs them; None for the one that submitted each.
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
            with suppress(EngineError):  # the engine does not know it any more
                run = asked.attach(submitted.about["run"])
                if not run.state().ended:
                    run.cancel()
                    cancelled += 1
            records.write(key, last, "ended", {"state": "cancelled", "time": time.time()})
    return cancelled


def _looked_at(
    attempts: dict[int, dict[str, Noted]], engine: Engine | None, stores: Sequence[str]
) -> PipelineRun:
    number = max(attempts)
    found = attempts[number]
    claimed: dict[str, Any] = {"name": "", "arguments": {}}
    if "claimed" in found:
        claimed = found["claimed"].about
    about = PipelineRun(claimed["name"], claimed["arguments"], attempts=number + 1)
    if "ended" in found:
        return as_it_ended(about, found, stores)
    if "submitted" not in found:
        return about
    submitted = found["submitted"]
    about = replace(about, run=submitted.about["run"], logs=submitted.logs(), started=submitted.about["time"])
    try:
        return replace(about, state=(engine or submitted.engine()).attach(about.run).state())
    except EngineError as error:
        return replace(about, state=RunState.FAILED, error=str(error))


def as_it_ended(about: PipelineRun, found: dict[str, Noted], stores: Sequence[str]) -> PipelineRun:
    """A run with what the record of its end says.

    Args:
        about: What is known of it from its parameters.
        found: Its records by kind.
        stores: As for `runwide_components.attempts.Noted.outputs`.
    """
    ended = found["ended"]
    told = replace(
        about,
        state=ended.about["state"],
        outputs=ended.outputs(stores),
        error=ended.about["error"],
        seconds=ended.about["seconds"],
    )
    if "submitted" not in found:
        return told
    submitted = found["submitted"]
    return replace(
        told,
        name=submitted.about["name"],
        run=submitted.about["run"],
        logs=submitted.logs(),
        started=submitted.about["time"],
    )
