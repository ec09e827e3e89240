"""The number of workers that this machine can keep busy, and every step that leads to it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import InputError
from runwide.host import cgroup, checks, hypervisor, topology
from runwide.host.topology import Core, format_cpulist
from runwide.host.tree import Problem, Tree

if TYPE_CHECKING:
    import os

    from runwide.host.hypervisor import Hypervisor

FORMAT = 1  # of the JSON form; it changes when a reader of the old form would be misled

# A quota of 7.0 that is written as 700001/100000 is no reason for an eighth worker.
_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the count.

    Args:
        name: ``online``, ``affinity``, ``cpuset``, ``topology``, ``quota`` or ``override``.
        source: The file or call that was used.
        value: Its answer, shortened.
        left: The number after the step.
        unit: The unit of the number: ``CPUs``, ``cores`` or ``workers``.
        cut: The number that the step took away; negative if an override adds some.
    """

    name: str
    source: str
    value: str
    left: int
    unit: str
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores that this machine gives to CPU-bound work, and the reasons.

    Args:
        count: Workers to use: ``usable``, unless the caller or ``RUNWIDE_WORKERS`` says otherwise.
        usable: Cores that can be kept busy: ``physical``, or fewer if a quota allows no more.
        physical: Physical cores that this process may run on.
        logical: CPUs (hardware threads, vCPUs) that this process may run on.
        quota: The tightest CPU limit of this cgroup and its ancestors, in CPUs; None for no limit.
        decided_by: ``cores``, ``quota``, ``RUNWIDE_WORKERS`` or ``workers=``.
        hidden: Whether the hypervisor may hide that CPUs share a core.
        hypervisor: The hypervisor of this virtual machine.
        cores: Each physical core.
        steps: Each step of the count, in order.
        problems: Sources that could not be read, and those that were used instead.
        advice: One line for the reader.
    """

    count: int
    usable: int
    physical: int
    logical: int
    quota: float | None
    decided_by: str
    hidden: bool
    hypervisor: Hypervisor
    cores: tuple[Core, ...]
    steps: tuple[Step, ...]
    problems: tuple[Problem, ...]
    advice: str

    @property
    def kinds(self) -> dict[str, int]:
        """The number of cores of each kind on a hybrid machine; empty on others."""
        names = [core.kind for core in self.cores if core.kind]
        return {kind: names.count(kind) for kind in dict.fromkeys(names)}

    def __str__(self) -> str:
        return self.explain()

    def explain(self) -> str:
        """Return every step as a line of text, then the advice.

        Example:
            >>> print(cores(workers=1).explain().splitlines()[-1])
            1 worker, because workers= says so.
        """
        lines = [
            f"{step.left:>4} {step.unit:<8}{step.name:<10}{step.value}  ({step.source})"
            for step in self.steps
        ]
        lines += [f"     note: {problem}" for problem in self.problems]
        return "\n".join([*lines, self.advice])

    def as_dict(self) -> dict[str, Any]:
        """Return the record for programs: plain values only, with the ``format`` number of this form.

        Example:
            >>> cores(workers=3).as_dict()["count"]
            3
        """
        return {"format": FORMAT, **asdict(self), "kinds": self.kinds}


def cores(*, workers: int | None = None, root: str | os.PathLike[str] = "/") -> Cores:
    """Count the physical cores that this process may use, capped by its CPU quota.

    online CPUs ∩ affinity ∩ cpuset, grouped into cores by the kernel's lists of each CPU's siblings;
    workers = min(cores, max(1, ceil(tightest quota - 0.1))). The quota is rounded up, because independent tasks can use
    all of a quota of 1.5 CPUs only with two workers.

    Args:
        workers: A number of workers that overrides the count; if it is None, ``RUNWIDE_WORKERS`` does.
        root: ``/`` for this machine, or the directory of a recorded tree (see `runwide.host.measuring.recording`).

    Raises:
        InputError: ``workers`` or ``RUNWIDE_WORKERS`` is not a positive whole number. Sources that cannot be read
            are no errors: they are in ``problems``, with those that were used instead.

    Example:
        >>> machine = cores()
        >>> 1 <= machine.count <= machine.physical <= machine.logical or machine.decided_by != "cores"
        True
    """
    override = override_of(workers)
    return count(Tree(root), override)


def count(tree: Tree, override: tuple[int, str] | None = None) -> Cores:
    """Count the cores of a tree; ``override`` is a number of workers and its source."""
    steps: list[Step] = []
    allowed = _allowed(tree, steps)
    grouped = topology.group_cpus(tree, allowed)
    physical = len(grouped.cores)
    shape = _shape(grouped)
    steps.append(Step("topology", grouped.source, shape, physical, "cores", len(allowed) - physical))
    quotas = cgroup.quotas(tree)
    usable = capped(physical, quotas[0].cpus if quotas else None)
    steps.append(_quota_step(quotas, physical, usable))
    workers = override[0] if override else usable
    if override:
        steps.append(Step("override", override[1], str(workers), workers, "workers", usable - workers))
    host = hypervisor.recognize(tree)
    threaded = any(core.threads > 1 for core in grouped.cores)
    found = Cores(
        count=workers,
        usable=usable,
        physical=physical,
        logical=len(allowed),
        quota=quotas[0].cpus if quotas else None,
        decided_by=override[1] if override else "quota" if usable < physical else "cores",
        hidden=host.may_hide_siblings and not threaded,
        hypervisor=host,
        cores=grouped.cores,
        steps=tuple(steps),
        problems=tuple(tree.problems),
        advice="",
    )
    return replace(found, advice=checks.advise(found, known=grouped.known))


def capped(physical: int, quota: float | None) -> int:
    """Return the number of workers that a quota can keep busy, at most the number of cores.

    Example:
        >>> [capped(4, quota) for quota in (None, 7.5, 2.5, 2.0, 1.05, 0.2)]
        [4, 4, 3, 2, 1, 1]
    """
    return physical if quota is None else min(physical, max(1, math.ceil(quota - _TOLERANCE)))


def override_of(workers: int | None) -> tuple[int, str] | None:
    """Return the requested number of workers and its source; None for one worker per core.

    Example:
        >>> override_of(3)
        (3, 'workers=')
    """
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise InputError(
                f"invalid workers={workers!r}: expected a whole number of 1 or more",
                hint="leave it out for the real cores",
            )
        return workers, "workers="
    wanted = settings.read().workers
    return (wanted, "RUNWIDE_WORKERS") if wanted is not None else None


def _allowed(tree: Tree, steps: list[Step]) -> frozenset[int]:
    """Return the CPUs that this process may use, and note each step."""
    cpus, source = topology.online(tree)
    steps.append(Step("online", source, format_cpulist(cpus), len(cpus), "CPUs"))
    affinity = topology.affinity(tree)
    cpus = _with_renumbered(tree, source, cpus, affinity[0])
    cpus = _narrowed(tree, steps, cpus, name="affinity", said=affinity)
    cpus = _narrowed(tree, steps, cpus, name="cpuset", said=cgroup.cpuset(tree))
    if not cpus:
        tree.note("every source", "says nothing", "assumed one CPU")
    return cpus or frozenset({0})


def _with_renumbered(
    tree: Tree, source: str, online: frozenset[int], affinity: frozenset[int]
) -> frozenset[int]:
    """Add CPUs that this process runs on and the list leaves out: lxcfs renumbers the list."""
    if not online:
        return affinity
    unlisted = {cpu for cpu in affinity - online if topology.present(tree, cpu)}
    if unlisted:
        tree.note(source, "leaves out CPUs that this process runs on", "used the affinity")
    return online | unlisted


def _narrowed(
    tree: Tree, steps: list[Step], cpus: frozenset[int], *, name: str, said: tuple[frozenset[int], str]
) -> frozenset[int]:
    """Return the CPUs that a source leaves; a source that would leave none is noted and ignored."""
    found, source = said
    left = cpus & found
    if found and not left:
        tree.note(source, f"{format_cpulist(found)} leaves no CPU of {format_cpulist(cpus)}", "left it out")
    if not left:
        return cpus
    cut = max(0, steps[-1].left - len(left))
    steps.append(Step(name, source, format_cpulist(found), len(left), "CPUs", cut))
    return left


def _shape(grouped: topology.Topology) -> str:
    threads = max((core.threads for core in grouped.cores), default=1)
    packages = len({core.package for core in grouped.cores})
    kinds = [core.kind for core in grouped.cores if core.kind]
    mixed = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    parts = [
        " + ".join(mixed),
        f"{'up to ' if mixed else ''}{threads} threads a core" if threads > 1 else "one thread a core",
        f"{packages} sockets" if packages > 1 else "",
    ]
    return (
        ", ".join(filter(None, parts))
        if grouped.known
        else "the machine does not say which CPUs share a core"
    )


def _quota_step(quotas: tuple[cgroup.Quota, ...], physical: int, usable: int) -> Step:
    if not quotas:
        return Step("quota", "cgroup", "no limit", usable, "workers")
    others = f", tightest of {len(quotas)}" if len(quotas) > 1 else ""
    return Step(
        "quota", quotas[0].source, f"{quotas[0].cpus:g} CPUs{others}", usable, "workers", physical - usable
    )
