"""What is recorded of a run beside its job, and how far that is believed."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError, IntegrityError, ObjectExists, StoreError
from runwide.job.reference import parse, quoted
from runwide.log import Log
from runwide.spill import records
from runwide.spill.store import open_inside
from runwide.spill.verified import ABSENT, arrived_damaged
from runwide_components.configuration import StepConfiguration
from runwide_components.engines.registry import engine_recorded, run_recorded
from runwide_components.image import base_image
from runwide_components.resources import Resources
from runwide_components.steps import JobOptions

if TYPE_CHECKING:
    from runwide_components.engines.base import Engine

_log = Log("components")
_RECORD = re.compile(r"runs/(\d{3,9})\.json")


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


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of a run.

    Args:
        run: What the engine calls it.
        options: How the items were run.
        resources: What each shard asked for.
        about: All of the record.
        vouched: Whether the user's key has signed it.
        uri: Where it lies.
        unbelieved: Names of options of the steps that are left out, since it is not signed.
    """

    run: str
    options: JobOptions
    resources: Resources
    about: dict[str, Any]
    vouched: bool
    uri: str
    unbelieved: tuple[str, ...] = ()

    def engine(self) -> Engine:
        """The engine that runs it, as far as the record may be believed.

        Raises:
            EngineError: Somebody has to say more.
        """
        return engine_recorded(self.about["engine"], vouched=self.vouched, uri=self.uri)

    def place(self, engine: Engine, image: str | None = None) -> Place:
        """Where its shards are run again.

        Args:
            engine: What runs them.
            image: Their image, where the caller says.
        """
        theirs = str(self.about["image"]) if self.vouched else None
        return Place(engine, image or theirs or base_image(), self.about["parallelism"], self.resources)


def record(job: str, about: dict[str, Any]) -> None:
    """Leave a record of a run beside its job; without one the job cannot be attached to, but its run is as good."""
    reference = parse(job)
    number = 0
    with open_inside(reference.folder) as store:
        while True:
            name = f"runs/{number:03d}.json"
            try:
                store.create(
                    name,
                    records.written(
                        "run", {**about, "time": time.time()}, owner=reference.digest, place=name
                    ),
                )
            except ObjectExists:
                number += 1
                continue
            except (StoreError, IntegrityError) as error:
                _log.warning("record.lost", uri=reference.folder, cause=str(error))
            return


def last_record(job: str) -> Recorded:
    """What is recorded of the last run of a job.

    Raises:
        EngineError: Nothing is, or nothing that may be believed.
    """
    reference = parse(job)
    with open_inside(reference.folder) as store:
        names = [info.name for info in store.list("runs/") if _RECORD.fullmatch(info.name)]
        for name in sorted(names, key=lambda name: (len(name), name), reverse=True):
            uri = store.child_uri(name)
            try:
                found = records.read(store, name, "run", owner=reference.digest)
                recorded = _recorded(found, uri)
            except (
                IntegrityError,
                *ABSENT,
                LookupError,
                TypeError,
                ValueError,
                AttributeError,
            ) as error:
                if isinstance(error, IntegrityError) and arrived_damaged(error):
                    raise
                _log.warning("record.ignored", uri=uri, cause=str(error))
                continue
            return recorded
    raise EngineError(
        "there is no record of where this job runs" + (" that may be believed" if names else ""),
        uri=reference.folder,
        hint=f"run its shards, the first with: runwide shard {quoted(job)} 0; then gather"
        + (
            "; or set the signing key with which the record was written"
            if names
            else "; it was made by scatter, or by a map on the machine that called it"
        ),
    )


def _recorded(found: records.Record, uri: str) -> Recorded:
    about = found.about
    if about["parallelism"] is not None and not (
        isinstance(about["parallelism"], int) and about["parallelism"] > 0
    ):
        raise ValueError("its parallelism is no number")
    if not isinstance(about["engine"], dict):
        raise TypeError("its engine is not described")
    str(about["image"])
    return Recorded(
        run=run_recorded(about["run"]),
        options=JobOptions.of_record(about["options"], vouched=found.vouched),
        resources=Resources.of(about["resources"]),
        about=about,
        vouched=found.vouched,
        uri=uri,
        unbelieved=() if found.vouched else _configured(about["options"]),
    )


def _configured(options: dict[str, Any]) -> tuple[str, ...]:
    given = StepConfiguration.of_record(options.get("configuration", {})).given
    return (*given, "requirements") if options.get("requirements") else given
