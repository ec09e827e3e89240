"""The CPUs that are online, and the physical cores whose threads they are."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.host import without_proc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runwide.host.tree import Tree

_CPU = "/sys/devices/system/cpu"
_HIGHEST = 1 << 16  # no kernel supports more CPUs; a list with larger numbers is invalid

# Intel's hybrid parts register one performance counter unit per kind of core.
_INTEL_KINDS = {
    "performance": "/sys/devices/cpu_core/cpus",
    "efficiency": "/sys/devices/cpu_atom/cpus",
    "low-power": "/sys/devices/cpu_lowpower/cpus",
}


@dataclass(frozen=True, slots=True)
class Core:
    """One physical core.

    Args:
        cpus: Its threads that may be used, by CPU number, ascending.
        threads: The number of its threads that are online, used or not.
        package: Its socket; -1 if unknown.
        die: Its die in the socket; -1 if unknown.
        node: Its NUMA node; -1 if unknown.
        kind: ``performance``, ``efficiency`` or ``low-power`` on a hybrid machine, else empty.
    """

    cpus: tuple[int, ...]
    threads: int
    package: int = -1
    die: int = -1
    node: int = -1
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """The physical cores of some CPUs.

    Args:
        cores: The cores, by lowest CPU number.
        source: The file that lists them, or the assumption.
        known: False if each CPU is assumed to be a core, because the machine does not say.
    """

    cores: tuple[Core, ...]
    source: str
    known: bool = True


def parse_cpulist(text: str) -> frozenset[int]:
    """Return the CPU numbers in the kernel's list format (``man 7 cpuset``, "List format").

    Args:
        text: Such as ``0-3,8`` or, with a stride, ``0-8:2/4``; empty for none.

    Example:
        >>> sorted(parse_cpulist("0-2,8"))
        [0, 1, 2, 8]
    """
    cpus: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.strip().split(","))):
        found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+)/(\d+))?)?", part, re.ASCII)
        if not found:
            raise ValueError(f"{part[:40]!r} is not a range of CPUs")
        first, last, used, group = (int(number) if number else None for number in found.groups())
        cpus.update(_range(part, first or 0, last, used, group))
    return frozenset(cpus)


def _range(part: str, first: int, last: int | None, used: int | None, group: int | None) -> Iterable[int]:
    last = first if last is None else last
    if last < first or last >= _HIGHEST or group == 0:
        raise ValueError(f"{part[:40]!r} is not a range of CPUs")
    if used is None or group is None:
        return range(first, last + 1)
    return (cpu for cpu in range(first, last + 1) if (cpu - first) % group < used)


def format_cpulist(cpus: Iterable[int]) -> str:
    """Return CPU numbers in the kernel's list format.

    Example:
        >>> format_cpulist({0, 1, 2, 8})
        '0-2,8'
    """
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read_cpulist(tree: Tree, path: str) -> frozenset[int]:
    """Return the CPUs that a file lists; none if it is missing, or is not a list, which is noted."""
    text = tree.text(path)
    try:
        return parse_cpulist(text or "")
    except ValueError as error:
        tree.note(path, str(error))
        return frozenset()


def online(tree: Tree) -> tuple[frozenset[int], str]:
    """Return the CPUs that are online and the source, which is the best one available."""
    path = f"{_CPU}/online"
    cpus = read_cpulist(tree, path)
    if cpus:
        return cpus, path
    tree.note(path, "says nothing", "counted /proc/cpuinfo")
    cpus = frozenset(_cpuinfo(tree))
    if cpus:
        return cpus, "/proc/cpuinfo"
    tree.note("/proc/cpuinfo", "lists no CPU", "asked the interpreter")
    return frozenset(range(os.cpu_count() or 1)) if tree.live else frozenset(), "os.cpu_count()"


def affinity(tree: Tree) -> tuple[frozenset[int], str]:
    """Return the CPUs that the scheduler may use for this process, and the source; none if unknown."""
    if tree.live and hasattr(os, "sched_getaffinity"):
        try:
            cpus = frozenset(os.sched_getaffinity(0))
        except OSError as error:
            tree.note("sched_getaffinity", error.strerror or "failed")
        else:
            tree.seen["/proc/self/status"] = f"Cpus_allowed_list:\t{format_cpulist(cpus)}"
            return cpus, "sched_getaffinity"
    path = "/proc/self/status"
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)$", tree.text(path) or "", re.MULTILINE)
    if not found:
        tree.note(path, "names no CPUs", "took every CPU that is online")
    try:
        return (parse_cpulist(found[1]) if found else frozenset()), path
    except ValueError as error:
        tree.note(path, str(error))
        return frozenset(), path


def present(tree: Tree, cpu: int) -> bool:
    """Return whether the kernel has a directory for a CPU's topology, which only online CPUs have.

    lxcfs renumbers the list of online CPUs (``0-3`` for a container on CPUs 8, 9, 24 and 25), but not
    these directories.
    """
    return _siblings(tree, cpu) is not None


def group_cpus(tree: Tree, allowed: frozenset[int]) -> Topology:
    """Group CPUs into physical cores; each CPU is a core if the machine does not say which ones share a core."""
    groups: dict[int, frozenset[int]] = {}
    source = ""
    for cpu in sorted(allowed):
        if any(cpu in group for group in groups.values()):
            continue
        found = _siblings(tree, cpu)
        if found is None:
            return _from_cpuinfo(tree, allowed)
        source = source or found[1]
        groups[cpu] = found[0]
    return Topology(_cores(tree, allowed, groups), source.replace("cpu0/", "cpu*/"))


def _siblings(tree: Tree, cpu: int) -> tuple[frozenset[int], str] | None:
    """Return the threads of a CPU's core; ``core_cpus_list`` is the name since Linux 5.3, the other the old name."""
    for name in ("core_cpus_list", "thread_siblings_list"):
        path = f"{_CPU}/cpu{cpu}/topology/{name}"
        threads = read_cpulist(tree, path)
        if cpu in threads:
            return threads, path
        if threads:
            tree.note(path, "leaves out its own CPU")
    return None


def _cores(tree: Tree, allowed: frozenset[int], groups: Mapping[int, frozenset[int]]) -> tuple[Core, ...]:
    kinds = _kinds(tree, groups)
    nodes = _nodes(tree)
    return tuple(
        Core(
            cpus=tuple(sorted(group & allowed)),
            threads=len(group),
            package=_place(tree, cpu, "physical_package_id"),
            die=_place(tree, cpu, "die_id"),
            node=nodes.get(cpu, -1),
            kind=kinds.get(cpu, ""),
        )
        for cpu, group in groups.items()
    )


def _place(tree: Tree, cpu: int, name: str) -> int:
    number = tree.number(f"{_CPU}/cpu{cpu}/topology/{name}")
    return -1 if number is None else number


def _nodes(tree: Tree) -> dict[int, int]:
    base = "/sys/devices/system/node"
    numbers = sorted(read_cpulist(tree, f"{base}/online"))
    return {cpu: node for node in numbers for cpu in read_cpulist(tree, f"{base}/node{node}/cpulist")}


def _kinds(tree: Tree, cpus: Iterable[int]) -> dict[int, str]:
    """Return the kind of each CPU's core, on machines with more than one kind."""
    kinds = {cpu: kind for kind, path in _INTEL_KINDS.items() for cpu in read_cpulist(tree, path)}
    if kinds:
        return kinds
    # Arm: the device tree gives each CPU its capacity, 1024 for the largest of the machine.
    paths = {cpu: f"{_CPU}/cpu{cpu}/cpu_capacity" for cpu in cpus}
    capacities = {cpu: value for cpu, path in paths.items() if (value := tree.number(path)) is not None}
    if len(set(capacities.values())) < 2:  # noqa: PLR2004 - one kind is no difference
        return {}
    largest = max(capacities.values())
    return {cpu: "performance" if value == largest else "efficiency" for cpu, value in capacities.items()}


def _cpuinfo(tree: Tree) -> dict[int, tuple[int, int] | None]:
    """Return package and core of each CPU; None if /proc/cpuinfo does not say, as on Arm."""
    found: dict[int, tuple[int, int] | None] = {}
    for block in re.split(r"\n\s*\n", tree.text("/proc/cpuinfo") or ""):
        fields = dict(re.findall(r"^(processor|physical id|core id)\s*:\s*(\d+)\s*$", block, re.MULTILINE))
        if "processor" in fields:
            known = "physical id" in fields and "core id" in fields
            place = (int(fields["physical id"]), int(fields["core id"])) if known else None
            found[int(fields["processor"])] = place
    return found


def _from_cpuinfo(tree: Tree, allowed: frozenset[int]) -> Topology:
    places = _cpuinfo(tree)
    if tree.live and not places and (number := without_proc.physical_cores()) is not None:
        return _by_number(tree, allowed, number)
    known = {cpu: place for cpu in allowed if (place := places.get(cpu)) is not None}
    if len(known) < len(allowed):
        tree.note(f"{_CPU}/cpu*/topology", "says nothing", "took each CPU for a core")
        return Topology(tuple(Core((cpu,), 1) for cpu in sorted(allowed)), "one CPU, one core", known=False)
    tree.note(f"{_CPU}/cpu*/topology", "says nothing", "used /proc/cpuinfo")
    threads: dict[tuple[int, int], list[int]] = {}
    for cpu in sorted(places):
        if (place := places[cpu]) is not None:
            threads.setdefault(place, []).append(cpu)
    cores = (
        Core(tuple(cpu for cpu in cpus if cpu in allowed), len(cpus), package=package)
        for (package, _), cpus in threads.items()
        if allowed & set(cpus)
    )
    return Topology(tuple(sorted(cores, key=lambda core: core.cpus)), "/proc/cpuinfo")


def _by_number(tree: Tree, allowed: frozenset[int], number: int) -> Topology:
    """Return cores of which only the number is known: CPUs are assigned to them in turn."""
    tree.note(f"{_CPU}/cpu*/topology", "says nothing", "used psutil")
    cpus, count = sorted(allowed), min(number, len(allowed))
    groups = (tuple(cpus[first::count]) for first in range(count))
    return Topology(tuple(Core(group, len(group)) for group in groups), "psutil.cpu_count(logical=False)")
