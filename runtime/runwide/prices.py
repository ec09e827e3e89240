"""Estimates of the cost of machine time, from list prices with a date and a source."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import settings
from runwide.errors import InputError
from runwide.json_text import json_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_TYPE = re.compile(r"([a-z]\d+[a-z]?)-(standard|highmem|highcpu)-(\d+)")
_CUSTOM = re.compile(r"([a-z]\d+[a-z]?)-custom-(\d+)-(\d+)(?:-ext)?")
_GIB = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}  # GiB for each vCPU
_GIB_OF_N1 = {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}
# Families with 2 GiB for each vCPU of a highcpu machine.
_TWO_GIB = ("c2d", "c3", "c3d", "c4", "c4a", "c4d", "n4")
# vCPUs and GiB that are billed.
_SHARED = {"e2-micro": (0.25, 1.0), "e2-small": (0.5, 2.0), "e2-medium": (1.0, 4.0)}
_L4 = {12: 1, 24: 2, 48: 4, 96: 8}  # accelerators of a g2 machine by its vCPUs; 1 for other numbers
_UNKNOWN_GIB = 4.0  # for each vCPU, if the memory is unknown
_HOUR = 3600.0
_MOST = 1e9  # dollars an hour


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of a machine family, in US dollars an hour.

    Args:
        vcpu: Price of one vCPU.
        gib: Price of one GiB of memory.
        spot_vcpu: Price of one vCPU as Spot capacity; None if unknown.
        spot_gib: Price of one GiB as Spot capacity; None if unknown.
    """

    vcpu: float
    gib: float
    spot_vcpu: float | None = None
    spot_gib: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices.

    Args:
        date: Date at which the prices were read.
        source: Source of the prices.
        families: Rates by machine family.
        accelerators: Dollars an hour by type of accelerator, with the names of Vertex AI.
        vertex: Ratio of Vertex AI's price of a machine to that of Compute Engine.
        run: Dollars for each pipeline run on Vertex AI.
        family: The family whose rates are used if that of a machine is unknown.
    """

    date: str
    source: str
    families: Mapping[str, Rate]
    accelerators: Mapping[str, float]
    vertex: float
    run: float
    family: str


# Rates on demand and of accelerators: Cloud Billing Catalog, service 6F81-5844-456A, SKUs "running in Americas", which apply
# to us-central1, published with their SKU ids on 2026-09-23; t2d as published for us-west1 in 2026.
# Spot: the same catalog for us-central1 on 2026-10-10. It changes up to daily; no dated price was found for other families.
# Vertex AI: its page of prices lists n1-standard-4 at 0.21849885 and e2-standard-4 at 0.154126276 an hour for custom
# training in September 2026, which is 1.15 times the same machine on Compute Engine, and 0.03 for a pipeline run.
LISTED = Prices(
    date="2026-09-23",
    source="Cloud Billing Catalog of Compute Engine, us-central1; Spot of 2026-10-10",
    families={
        "c3": Rate(0.03465, 0.003938),
        "e2": Rate(0.02181159, 0.00292353, 0.01309, 0.001754),
        "g2": Rate(0.024988212, 0.002927448),
        "n1": Rate(0.031611, 0.004237),
        "n2": Rate(0.031611, 0.004237),
        "n2d": Rate(0.027502, 0.003686, 0.01401, 0.001876),
        "t2d": Rate(0.027502, 0.003686),
    },
    accelerators={
        "NVIDIA_L4": 0.560040239,
        "NVIDIA_TESLA_P100": 1.46,
        "NVIDIA_TESLA_P4": 0.60,
        "NVIDIA_TESLA_T4": 0.35,
        "NVIDIA_TESLA_V100": 2.48,
    },
    vertex=1.15,
    run=0.03,
    family="e2",
)
"""The prices of this release, which a file of ``RUNWIDE_PRICES`` may replace."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts of a machine that determine its price.

    Args:
        gib: Memory in GiB; None if unknown.
        family: Machine family; None if unknown.
    """

    vcpus: float
    gib: float | None = None
    family: str | None = None
    accelerator: str | None = None
    accelerators: int = 0
    spot: bool = False
    vertex: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated price in US dollars, the date of the prices, and the assumptions."""

    dollars: float
    date: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{money(self.dollars)} (an estimate: {self.basis})"

    @property
    def basis(self) -> str:
        """The date of the prices and the assumptions, in words."""
        return "; ".join([f"list prices of {self.date}", *self.notes])


def machine_of(name: str) -> Machine | None:
    """Return the machine of a machine type; None if its name does not give its size.

    Args:
        name: Name of the type, such as ``n2-highmem-16``.

    Example:
        >>> machine_of("n2-highmem-16").gib, machine_of("g2-standard-24").accelerators, machine_of("a2-megagpu-16g")
        (128.0, 2, None)
    """
    if name in _SHARED:
        vcpus, gib = _SHARED[name]
        return Machine(vcpus, gib, "e2")
    if custom := _CUSTOM.fullmatch(name):
        return Machine(int(custom[2]), int(custom[3]) / 1024, custom[1])
    found = _TYPE.fullmatch(name)
    if not found:
        return None
    family, kind, count = found[1], found[2], int(found[3])
    each = (_GIB_OF_N1 if family == "n1" else _GIB)[kind]
    each = 2.0 if kind == "highcpu" and family in _TWO_GIB else each
    made = Machine(count, count * each, family)
    if family == "g2":  # always with accelerators
        return replace(made, accelerator="NVIDIA_L4", accelerators=_L4.get(count, 1))
    return made


def estimate(machine: Machine, seconds: float, prices: Prices | None = None) -> Estimate:
    """Estimate the cost of a machine for some time.

    Args:
        prices: The prices; None for `current`.

    Example:
        >>> print(estimate(machine_of("n2-standard-8"), 3600, LISTED))
        $0.39 (an estimate: list prices of 2026-09-23)
        >>> print(estimate(Machine(4, 16.0), 7200, LISTED))
        $0.27 (an estimate: list prices of 2026-09-23; unknown machines are priced as e2)
    """
    prices = prices or current()
    notes = []
    family = machine.family or ""
    if family not in prices.families:
        what = f"there is no price of {family}, it is" if family else "unknown machines are"
        notes.append(f"{what} priced as {prices.family}")
        family = prices.family
    rate = prices.families[family]
    vcpu, gib = rate.vcpu, rate.gib
    if machine.spot:
        if rate.spot_vcpu is None or rate.spot_gib is None:
            notes.append(f"there is no Spot price of {family}, so the higher price on demand is used")
        else:
            vcpu, gib = rate.spot_vcpu, rate.spot_gib
    memory = machine.vcpus * _UNKNOWN_GIB if machine.gib is None else machine.gib
    hour = machine.vcpus * vcpu + memory * gib
    if machine.accelerator and machine.accelerators:
        each = prices.accelerators.get(machine.accelerator)
        if each is None:
            notes.append(f"without {machine.accelerator}, which has no listed price")
        hour += machine.accelerators * (each or 0.0)
    hour *= prices.vertex if machine.vertex else 1.0
    return Estimate(hour * seconds / _HOUR, prices.date, tuple(notes))


def total(estimates: Iterable[Estimate]) -> Estimate | None:
    """Return the sum of estimates, with all assumptions; None for no estimates.

    Example:
        >>> hour = estimate(machine_of("e2-standard-4"), 3600, LISTED)
        >>> round(total([hour, hour]).dollars, 3), total([])
        (0.268, None)
    """
    found = list(estimates)
    if not found:
        return None
    notes = dict.fromkeys(note for one in found for note in one.notes)
    return Estimate(math.fsum(one.dollars for one in found), found[0].date, tuple(notes))


def money(dollars: float) -> str:
    """Return dollars as text for people.

    Example:
        >>> money(1234.5), money(0.27), money(0.0012), money(0)
        ('$1,234.50', '$0.27', 'under $0.01', '$0.00')
    """
    return "under $0.01" if 0 < dollars < 0.005 else f"${dollars:,.2f}"  # noqa: PLR2004 - half a cent


def current() -> Prices:
    """Return the prices of this release, with those that the file of ``RUNWIDE_PRICES`` replaces.

    Example:
        >>> current().date
        '2026-09-23'
    """
    path = settings.prices()
    return LISTED if path is None else _read(path)


class _File(NamedTuple):
    path: str

    def error(self, what: str) -> InputError:
        return InputError(
            f"RUNWIDE_PRICES: {what}",
            uri=self.path,
            hint='give {"date": "2026-11-30", "families": {"n2": {"vcpu": 0.03, "gib": 0.004}}}, in dollars an hour',
        )

    def number(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST:
            raise self.error(f"{where} is {str(value)[:100]!r}, not a price: expected a number from 0 to 1e9")
        return float(value)

    def text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value:
            raise self.error(f"{where} is not a text")
        return value

    def object(self, value: Any, where: str, known: tuple[str, ...] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(f"{where} is not an object of JSON")
        if known and (strange := [name for name in value if name not in known]):
            raise self.error(f"{where} has {strange[0][:100]!r}; expected only {', '.join(known)}")
        return value

    def rate(self, value: Any, where: str) -> Rate:
        about = self.object(value, where, ("vcpu", "gib", "spot_vcpu", "spot_gib"))
        if missing := [name for name in ("vcpu", "gib") if name not in about]:
            raise self.error(f"{where} has no {missing[0]}")
        return Rate(**{name: self.number(one, f"{where}.{name}") for name, one in about.items()})

    def each(self, about: dict[str, Any], where: str, read: Callable[[Any, str], Any]) -> dict[str, Any]:
        values = self.object(about.get(where, {}), where)
        return {name: read(value, f"{where}.{name}") for name, value in values.items()}


def _read(path: str) -> Prices:
    file = _File(path)
    try:
        about = json_of(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise file.error(f"the file cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise file.error(f"it is not JSON ({error})") from error
    about = file.object(about, "the file", tuple(one.name for one in fields(Prices)))
    found = replace(
        LISTED,
        date=file.text(about.get("date"), "date"),
        source=file.text(about.get("source", path), "source"),
        families={**LISTED.families, **file.each(about, "families", file.rate)},
        accelerators={**LISTED.accelerators, **file.each(about, "accelerators", file.number)},
        vertex=file.number(about.get("vertex", LISTED.vertex), "vertex"),
        run=file.number(about.get("run", LISTED.run), "run"),
        family=file.text(about.get("family", LISTED.family), "family"),
    )
    if found.family not in found.families:
        raise file.error(f"family is {found.family!r}, which has no price in families")
    return found
