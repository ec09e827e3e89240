"""Judgements of a machine: fit for a job, fit with a warning, or unfit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from runwide.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.host.cgroup import Room, Throttling
    from runwide.host.cores import Cores
    from runwide.host.gpu import Gpu
    from runwide.host.hypervisor import Steal
    from runwide.host.memory import Memory
    from runwide.host.space import Space


_MEASURE = "`runwide cores --measure` shows what each worker gains"


def advise(found: Cores, *, known: bool) -> str:
    """Return the advice about a count.

    Args:
        found: The record; its own ``advice`` is not used.
        known: Whether the machine says which CPUs share a core.
    """
    if found.decided_by in {"workers=", "RUNWIDE_WORKERS"}:
        return f"{count(found.count, 'worker')}, because {found.decided_by} says so{_excess(found)}."
    return f"{count(found.count, 'worker')}{_reason(found, known=known)}."


def _excess(found: Cores) -> str:
    if found.count <= found.usable:
        return ""
    return f", on {count(found.usable, 'usable core')}: expect little from the rest"


def _reason(found: Cores, *, known: bool) -> str:
    physical = count(found.physical, "physical core")
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


_MIB = 1 << 20
_GIB = 1 << 30
_WORKER = 64 * _MIB  # bytes of a worker with the interpreter and little else
_COMFORT = 512 * _MIB  # bytes of a worker with pandas and some data
_PIDS = 8  # processes and threads for a worker: its own, its watchers', its transport's
_THROTTLED = 0.25  # of all periods
_STOLEN = 0.05  # of all CPU time


class State(str, Enum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked.

    Args:
        says: The facts, in one line.
        hint: The remedy; empty if none is needed.
    """

    name: str
    state: State
    says: str
    hint: str = ""


def size(number: int | None) -> str:
    """Return a number of bytes as text for people.

    Example:
        >>> size(1536 * 1024 * 1024), size(3 << 20), size(None)
        ('1.5 GiB', '3 MiB', 'unknown')
    """
    if number is None:
        return "unknown"
    return f"{number / _GIB:.1f} GiB" if number >= _GIB else f"{number // _MIB} MiB"


def judge_cores(found: Cores) -> Check:
    """Judge the count of cores and the notes about it."""
    if found.problems:
        says = f"{found.advice} ({len(found.problems)} notes)"
        return Check("cores", State.WARNING, says, "`runwide cores` shows what could not be read")
    return Check("cores", State.OK, found.advice)


def judge_pressure(throttled: Throttling | None, stolen: Steal | None) -> Check:
    """Judge whether the CPU limit or other machines on the host slow this container down."""
    share = throttled.throttled / throttled.periods if throttled and throttled.periods else 0.0
    taken = stolen.share if stolen else 0.0
    says = f"held back by the CPU limit in {share:.0%} of its periods, {taken:.1%} of CPU time stolen"
    if share > _THROTTLED:
        return Check("cpu pressure", State.WARNING, says, "raise the CPU limit, or use fewer threads")
    if taken > _STOLEN:
        return Check("cpu pressure", State.WARNING, says, "the machine is shared: expect uneven times")
    return Check("cpu pressure", State.OK, says)


def judge_memory(found: Memory, workers: int) -> Check:
    """Judge whether there is memory for that many workers."""
    limit = f"limit {size(found.limit)}" if found.limit is not None else "no limit"
    says = f"{limit}, {size(found.used)} in use, {size(found.available)} available for {workers} workers"
    if found.available is None:
        return Check("memory", State.WARNING, "nothing says how much there is")
    if found.available < workers * _WORKER:
        return Check("memory", State.FAILURE, says, "raise the memory limit, or use fewer workers")
    if found.available < workers * _COMFORT:
        return Check("memory", State.WARNING, says, "raise the memory limit, or use fewer workers")
    return Check("memory", State.OK, says)


def judge_oom_kills(found: Memory) -> Check:
    """Judge the kernel's OOM kills so far, and the effect of another one."""
    if found.oom_kills is None:
        return Check("OOM kills", State.WARNING, "not counted here: such a death is reported as SIGKILL")
    says = f"{found.oom_kills} so far"
    if found.kills_all:
        says += "; one takes the whole container (memory.oom.group)"
        return Check("OOM kills", State.WARNING, says, "leave a margin in the memory limit")
    return Check("OOM kills", State.WARNING if found.oom_kills else State.OK, says)


def judge_processes(room: Room | None, workers: int) -> Check:
    """Judge whether that many workers may be started."""
    if room is None:
        return Check("processes", State.OK, "no limit")
    left = room.limit - room.used
    says = f"{left} more processes and threads allowed ({room.source})"
    state = State.FAILURE if left < workers * _PIDS else State.OK
    return Check("processes", state, says, "raise the limit of processes" if state is State.FAILURE else "")


def judge_shared_memory(found: Space) -> Check:
    """Judge the kernel's shared memory, which the scratch directory can replace."""
    if not found.writable:
        return Check(
            "shared memory", State.WARNING, f"{found.path}: {found.reason}", "large values go by disk"
        )
    says = f"{found.path}: {size(found.free)} of {size(found.total)} free"
    return Check("shared memory", State.OK, says, "" if found.free >= _GIB else "larger values go by disk")


def judge_scratch(found: Space) -> Check:
    """Judge the directory for large values between processes."""
    if not found.writable:
        return Check("scratch", State.FAILURE, f"{found.path}: {found.reason}", "set RUNWIDE_SCRATCH")
    state = State.WARNING if found.free < _GIB else State.OK
    says = f"{found.path}: {size(found.free)} of {size(found.total)} free"
    return Check("scratch", state, says, "set RUNWIDE_SCRATCH" if state is State.WARNING else "")


def judge_gpus(found: Sequence[Gpu]) -> Check:
    """List the devices, if any."""
    names = ", ".join(f"{device.name or 'GPU'} ({device.device})" for device in found)
    return Check("GPUs", State.OK, names or "none")
