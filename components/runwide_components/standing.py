"""How the runs of a batch stand, from its records and the engines, whoever has submitted them; and their end by order."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError
from runwide.spill import open_store
from runwide_components.batch import Batch, PipelineRun, Records
from runwide_components.engines.base import RunState
from runwide_components.engines.registry import engine_of

if TYPE_CHECKING:
    from runwide_components.engines.base import Engine


def status_of(uri: str, *, engine: Engine | None = None) -> Batch:
    """All runs of a batch that the store knows of, asked for at the engine where they have not ended.

    Args:
        uri: `Pipelines.uri` of the batch.
        engine: What runs them; None for the one that submitted each.
    """
    with open_store(uri) as store:
        return Batch([_looked_at(attempts, engine) for attempts in Records(store).attempts().values()])


def cancel_all(uri: str, *, engine: Engine | None = None) -> int:
    """Cancel all runs of a batch that have not ended, whoever submitted them; returns how many.

    Args:
        uri: `Pipelines.uri` of the batch.
        engine: What runs them; None for the one that submitted each.
    """
    cancelled = 0
    with open_store(uri) as store:
        records = Records(store)
        for key, attempts in records.attempts().items():
            last = max(attempts)
            found = attempts[last]
            if "ended" in found or "submitted" not in found:
                continue
            with suppress(EngineError):  # the engine does not know it any more
                run = (engine or engine_of(found["submitted"]["engine"])).attach(found["submitted"]["run"])
                if not run.state().ended:
                    run.cancel()
                    cancelled += 1
            records.write(key, last, "ended", {"state": "cancelled", "time": time.time()})
    return cancelled


def _looked_at(attempts: dict[int, dict[str, Any]], engine: Engine | None) -> PipelineRun:
    number = max(attempts)
    found = attempts[number]
    claimed = found.get("claimed", {})
    about = PipelineRun(claimed.get("name", ""), claimed.get("arguments", {}), attempts=number + 1)
    if "ended" in found:
        return as_it_ended(about, found)
    if "submitted" not in found:
        return about
    submitted = found["submitted"]
    about = replace(about, run=submitted["run"], logs=submitted["logs"], started=submitted.get("time", 0.0))
    try:
        return replace(about, state=(engine or engine_of(submitted["engine"])).attach(about.run).state())
    except EngineError as error:
        return replace(about, state=RunState.FAILED, error=error.message)


def as_it_ended(about: PipelineRun, found: dict[str, Any]) -> PipelineRun:
    """A run with what the record of its end says.

    Args:
        about: What is known of it from its parameters.
        found: Its records by kind.
    """
    ended, submitted = found["ended"], found.get("submitted", {})
    return replace(
        about,
        name=submitted.get("name", about.name),
        state=RunState(ended["state"]),
        outputs=ended.get("outputs", {}),
        error=ended.get("error", ""),
        seconds=ended.get("seconds", 0.0),
        run=submitted.get("run", ""),
        logs=submitted.get("logs", ""),
        started=submitted.get("time", 0.0),
    )
