"""The plan of a map over components that ``runwide submit --dry-run`` prints."""

from __future__ import annotations

import re
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from runwide import prices

if TYPE_CHECKING:
    from runwide_components.components import Components
    from runwide_components.recorded import Place

# "General-purpose machine family" of Compute Engine: the default machine of a step
_DEFAULT = "e2-standard-4"
_DEFAULT_MACHINE = f"{_DEFAULT}, Vertex's default: 4 vCPUs, 2 cores"
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|[KMGTPE]i?)?")
_UNITS = {"": 1.0, "m": 1e-3} | {
    f"{letter}{i}": (1024.0 if i else 1000.0) ** (power + 1)
    for power, letter in enumerate("KMGTPE")
    for i in ("", "i")
}


def planned(what: str, items: int, wanted: Components) -> list[str]:
    """Return the plan of a map as lines of text."""
    place, count = wanted.place, min(wanted.components, items)
    at_once = min(place.parallelism or count, count)
    return [
        f"function     {what}",
        f"items        {items:,}, up to {ceil(items / count):,} in each component",
        f"components   {count}{_image(place)}, {at_once} at the same time",
        f"engine       {place.engine!r}, one pipeline run of {count} tasks",
        f"CPUs         {_cpus(place)}",
        f"steps        {wanted.configuration.travelling()}",
        f"cost         {_cost(place, at_once)}",
        f"store        {wanted.store}",
        f"requests     about {estimated_requests(count):,} of the store, 1 submission",
    ]


def estimated_requests(components: int) -> int:
    """Return the number of requests to the store of a first run without failures whose components end within a minute.

    Each shard makes seven; one more writes its pack, and two read it. A component that runs longer writes at most two more a
    minute. A test compares this with the requests to an emulator.
    """
    return 4 + 10 * components


def _image(place: Place) -> str:
    """Return the image of the components in words; empty for subprocesses."""
    return "" if place.engine.about().get("runner") == "subprocess" else f" of {place.image}"


def _cpus(place: Place) -> str:
    about, asked = place.engine.about(), place.resources.machine or place.resources.cpu
    if about["engine"] == "local" and (about.get("runner") == "subprocess" or not asked):
        return "the CPUs of this machine, for all components"
    return f"{asked or _DEFAULT_MACHINE} in each component"


def _cost(place: Place, at_once: int) -> str:
    """Return the price of an hour, in words. The duration is not known in advance."""
    if place.engine.about()["engine"] == "local":
        return "none: it runs on this machine"
    machine = machine_asked(place)
    hour = prices.total([prices.estimate(machine, 3600.0)] * at_once)
    table = prices.current()
    run = f", and {prices.money(table.run)} for the run" if machine.vertex else ""
    return f"about {prices.money(hour.dollars)} an hour{run} (an estimate: {hour.basis})" if hour else "none"


def machine_asked(place: Place) -> prices.Machine:
    """Return the machine on which a component would run, as far as its resources determine it."""
    asked = place.resources
    named = prices.machine_of(asked.machine_type or _DEFAULT)
    machine = named or prices.Machine(4, None, str(asked.machine_type).partition("-")[0])
    if asked.machine_type is None and (asked.cpu or asked.memory):
        vcpus = quantity(asked.cpu) if asked.cpu else machine.vcpus
        machine = prices.Machine(vcpus, quantity(asked.memory) / 2**30 if asked.memory else None)
    if asked.accelerator:
        machine = replace(machine, accelerator=asked.accelerator[0], accelerators=asked.accelerator[1])
    return replace(machine, spot=asked.spot, vertex=place.engine.about()["engine"] == "vertex")


def quantity(text: object) -> float:
    """Return a quantity in the form of Kubernetes as a number; 0 for an invalid one.

    Example:
        >>> quantity("8"), quantity("500m"), quantity("32G") / 1e9, quantity("512Mi") / 2**20
        (8.0, 0.5, 32.0, 512.0)
    """
    found = _QUANTITY.fullmatch(str(text))
    return float(found[1]) * _UNITS[found[2] or ""] if found else 0.0
