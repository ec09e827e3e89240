"""One line of advice about a count of cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runwide.host.cores import Cores

_MEASURE = "`runwide cores --measure` shows what each worker gains"


def advise(found: Cores, *, known: bool) -> str:
    """Return the advice about a count.

    Args:
        found: The record; its own ``advice`` is not used.
        known: Whether the machine says which CPUs share a core.
    """
    if found.decided_by in {"workers=", "RUNWIDE_WORKERS"}:
        return f"{_count(found.count, 'worker')}, because {found.decided_by} says so{_excess(found)}."
    return f"{_count(found.count, 'worker')}{_reason(found, known=known)}."


def _excess(found: Cores) -> str:
    if found.count <= found.usable:
        return ""
    return f", on {_count(found.usable, 'usable core')}: expect little from the rest"


def _reason(found: Cores, *, known: bool) -> str:
    physical = _count(found.physical, "physical core")
    if found.decided_by == "quota":
        return f": the CPU limit of {found.quota:g} holds back {physical}; raise the limit to use more"
    if found.quota is not None and found.quota < found.physical:
        return f": they share a CPU limit of {found.quota:g}, so expect {found.quota:g} times one core"
    if found.logical > found.physical:
        return f": these {found.logical} CPUs are threads of {physical}; more workers than cores gain little"
    if not known:
        return f", but the machine does not say which CPUs share a core: {_MEASURE}"
    if found.hidden:
        return f", but the hypervisor may hide that CPUs share a core: {_MEASURE}"
    return ": each of these CPUs is a core of its own"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
