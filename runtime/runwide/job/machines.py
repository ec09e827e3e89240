"""The machines on which a job's shards ran, and an estimate of what they cost."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runwide import prices
from runwide.errors import FormatTooNew, IntegrityError, StoreError
from runwide.job import fields
from runwide.store import records
from runwide.store.records import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runwide.events.parts import Used
    from runwide.job.model import Job
    from runwide.prices import Estimate, Prices
    from runwide.store.base import Store

_RECORD = re.compile(r"runs/(\d{3,9})\.json")
LOCAL, VERTEX = "local", "vertex"


@dataclass(frozen=True, slots=True)
class Ran:
    """The machines of a job. The record is not verified, so it is used only for display and estimates.

    Args:
        engine: ``local``, ``vertex`` or ``kubeflow``; empty if it is not known.
        accelerators: Number of accelerators in each machine.
        spot: Whether they were Spot capacity.
    """

    engine: str = ""
    machine: str = ""
    accelerator: str = ""
    accelerators: int = 0
    spot: bool = False
    runs: int = 0

    def on(self, used: Used) -> prices.Machine:
        """Return the machine of a shard's run."""
        named = prices.machine_of(self.machine) if self.machine else None
        family = self.machine.partition("-")[0] or None
        machine = named or prices.Machine(used.cpus, used.gib or None, family)
        if self.accelerator:
            machine = replace(machine, accelerator=self.accelerator, accelerators=self.accelerators)
        return replace(machine, spot=self.spot, vertex=self.engine == VERTEX)

    def cost(self, used: Iterable[Used], table: Prices | None = None) -> Estimate | None:
        """Estimate the cost of the machines; return None if nothing has run.

        Args:
            used: The resources that each run of a shard used.
            table: Prices; None for `runwide.prices.current`.
        """
        table = table or prices.current()
        found = prices.total(prices.estimate(self.on(one), one.seconds, table) for one in used)
        if found is None:
            return None
        notes = {
            VERTEX: "machines of Vertex AI, without their start",
            LOCAL: "it ran on a machine of yours, this is the price of the same time on Compute Engine",
        }
        note = notes.get(self.engine, "machines of Compute Engine, without their start")
        runs = self.runs * table.run if self.engine == VERTEX else 0.0
        return replace(found, dollars=found.dollars + runs, notes=(note, *found.notes))


def ran(store: Store, job: Job, names: Iterable[str]) -> Ran:
    """Read on which machines the shards of a job ran; all fields are empty if there is no valid record."""
    found = sorted((int(match[1]), name) for name in names if (match := _RECORD.fullmatch(name)))
    if not found:
        return Ran()
    try:
        about = records.read(store, found[-1][1], "run", owner=job.digest).about
        return _ran(about, len(found))
    except (
        IntegrityError, *ABSENT, FormatTooNew, StoreError, KeyError, TypeError, ValueError, AttributeError,
    ):  # fmt: skip
        return Ran()


def _ran(about: dict[str, Any], runs: int) -> Ran:
    asked = about["resources"]
    kind, number = asked.get("accelerator") or ("", 0)
    return Ran(
        engine=fields.text(about["engine"]["engine"])[:20],
        machine=fields.text(asked.get("machine_type") or "")[:63],
        accelerator=fields.text(kind)[:63],
        accelerators=fields.number(number),
        spot=asked.get("spot") is True,
        runs=runs,
    )
