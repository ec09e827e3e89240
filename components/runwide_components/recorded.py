"""The record of a run next to its job, trusted as far as it is signed."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError, IntegrityError, ObjectExists, StoreError
from runwide.job.reference import parse, quoted
from runwide.log import Log
from runwide.store import records
from runwide.store.base import open_inside
from runwide.store.records import ABSENT, arrived_damaged
from runwide_components.configuration import StepConfiguration
from runwide_components.engines.registry import engine_recorded, run_recorded
from runwide_components.image import base_image
from runwide_components.resources import Resources
from runwide_components.steps import JobOptions

if TYPE_CHECKING:
    from runwide_components.engines.base import ShardRunner

_log = Log("components")
_RECORD = re.compile(r"runs/(\d{3,9})\.json")


@dataclass(frozen=True, slots=True)
class Place:
    """Engine, image and resources of shards.

    Args:
        parallelism: The largest number of shards at the same time; None for all.
    """

    engine: ShardRunner
    image: str
    parallelism: int | None
    resources: Resources

    def about(self) -> dict[str, Any]:
        """Return a description, as JSON, with which the same kind of shards can be started again."""
        return {
            "engine": self.engine.about(), "image": self.image, "parallelism": self.parallelism,
            "resources": self.resources.about(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of a run.

    Args:
        run: Id of the run on its engine.
        vouched: True if the user's key signed it.
        unbelieved: Names of options of the steps that are left out, since the record is not signed.
    """

    run: str
    options: JobOptions
    resources: Resources
    about: dict[str, Any]
    vouched: bool
    uri: str
    unbelieved: tuple[str, ...] = ()

    def engine(self) -> ShardRunner:
        """Return the engine of the run, as far as the record can be trusted."""
        return engine_recorded(self.about["engine"], vouched=self.vouched, uri=self.uri)

    def place(self, engine: ShardRunner, image: str | None = None) -> Place:
        """Return engine, image and resources with which its shards run again.

        Args:
            image: Their image; None for the image of a signed record, or else the default.
        """
        theirs = str(self.about["image"]) if self.vouched else None
        return Place(engine, image or theirs or base_image(), self.about["parallelism"], self.resources)


def record(job: str, about: dict[str, Any]) -> None:
    """Write a record of a run next to its job. If that fails, the run continues, but no client can attach to it."""
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
    """Return the record of the last run of a job.

    Raises:
        EngineError: There is no record, or none that can be trusted.
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
        "there is no record of where this job runs" + (" that can be trusted" if names else ""),
        uri=reference.folder,
        hint=f"run its shards, the first with: runwide shard {quoted(job)} 0; then gather"
        + (
            "; or set the signing key of the client that wrote the record"
            if names
            else "; scatter or a map on one machine made this job"
        ),
    )


def _recorded(found: records.Record, uri: str) -> Recorded:
    about = found.about
    if about["parallelism"] is not None and not (
        isinstance(about["parallelism"], int) and about["parallelism"] > 0
    ):
        raise ValueError("invalid parallelism: expected a positive number or null")
    if not isinstance(about["engine"], dict):
        raise TypeError("invalid engine: expected an object")
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
