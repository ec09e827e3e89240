"""The cgroups of this process, v1 and v2, and their CPU limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runwide.host.topology import read_cpulist

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runwide.host.tree import Tree

_UNIFIED = ""  # the name of the v2 hierarchy in /proc/self/cgroup

# The usual mount points of the hierarchies, if /proc/self/mountinfo cannot be read.
_USUAL = {
    "cpu": ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuacct,cpu"),
    "cpuset": ("/sys/fs/cgroup/cpuset",),
    "memory": ("/sys/fs/cgroup/memory",),
    "pids": ("/sys/fs/cgroup/pids",),
}


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted cgroup hierarchy.

    Args:
        root: The cgroup that is mounted there.
        controllers: Its controllers; only the empty name for v2.
    """

    point: str
    root: str
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Quota:
    """One CPU limit, in CPUs and not rounded, and the file that sets it."""

    cpus: float
    source: str


@dataclass(frozen=True, slots=True)
class Throttling:
    """The effect of a cgroup's CPU limit since the cgroup was made.

    Args:
        periods: Scheduling periods in which it had processes to run.
        throttled: The periods in which the limit stopped them.
        seconds: Time for which they were stopped, summed over CPUs.
    """

    periods: int
    throttled: int
    seconds: float
    source: str


@dataclass(frozen=True, slots=True)
class Room:
    """A limit on a number of things, the current number, and the file that sets the limit."""

    limit: int
    used: int
    source: str


def directories(tree: Tree, controller: str) -> list[str]:
    """Return the directories of this process's cgroup and its visible ancestors, nearest first.

    Both hierarchies that may have the controller are listed, v1 before v2; their files may be missing. In a private cgroup
    namespace, or a container that mounts only its own cgroup, the list ends at the mount.

    Args:
        controller: ``cpu``, ``cpuset``, ``memory`` or ``pids``.
    """
    places = _places(tree)
    found: list[str] = []
    for mount in _mounts(tree, controller):
        place = places.get(controller if controller in mount.controllers else _UNIFIED, "/")
        found += [path for path in _way_up(tree, mount, place) if path not in found]
    return found


def quotas(tree: Tree) -> tuple[Quota, ...]:
    """Return all CPU limits of this process's cgroup and its visible ancestors, tightest first."""
    found: list[Quota] = []
    for directory in directories(tree, "cpu"):
        found.extend(filter(None, (_quota_v2(tree, directory), _quota_v1(tree, directory))))
    return tuple(sorted(found, key=lambda quota: quota.cpus))


def cpuset(tree: Tree) -> tuple[frozenset[int], str]:
    """Return the CPUs of the nearest cpuset in effect, and its file; no CPUs if there is no cpuset."""
    for directory in directories(tree, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            cpus = read_cpulist(tree, f"{directory}/{name}")
            if cpus:
                return cpus, f"{directory}/{name}"
    return frozenset(), ""


def throttling(tree: Tree) -> Throttling | None:
    """Return the largest throttling of this process's cgroup and its ancestors; None if it is not counted.

    An ancestor's limit may stop this process, and only the ancestor counts those periods.
    """
    found = []
    for directory in directories(tree, "cpu"):
        path = f"{directory}/cpu.stat"
        stat = tree.pairs(path)
        if "nr_periods" in stat:
            micro = stat.get("throttled_usec", stat.get("throttled_time", 0) // 1000)  # v2 in µs, v1 in ns
            found.append(Throttling(stat["nr_periods"], stat.get("nr_throttled", 0), micro / 1e6, path))
    return max(found, key=lambda level: level.throttled, default=None)


def pids(tree: Tree) -> Room | None:
    """Return the tightest limit on processes and threads of this cgroup and its ancestors; None for no limit."""
    found = []
    for directory in directories(tree, "pids"):
        path = f"{directory}/pids.max"
        limit = None if tree.text(path) == "max" else tree.number(path)
        if limit is not None:
            found.append(Room(limit, tree.number(f"{directory}/pids.current") or 0, path))
    return min(found, key=lambda room: room.limit - room.used, default=None)


def _quota_v2(tree: Tree, directory: str) -> Quota | None:
    path = f"{directory}/cpu.max"
    text = tree.text(path)
    if text is None or text.split()[0] == "max":
        return None
    found = re.fullmatch(r"(\d+)(?:\s+(\d+))?", text, re.ASCII)
    if not found:
        _note_garbage(tree, path, text)
        return None
    return _quota(tree, path, int(found[1]), int(found[2] or 100_000))


def _quota_v1(tree: Tree, directory: str) -> Quota | None:
    path = f"{directory}/cpu.cfs_quota_us"
    quota = tree.number(path)
    if quota is None or quota == -1:
        return None
    period = tree.number(f"{directory}/cpu.cfs_period_us")
    return _quota(tree, path, quota, 100_000 if period is None else period)


def _quota(tree: Tree, path: str, quota: int, period: int) -> Quota | None:
    if quota <= 0 or period <= 0:
        _note_garbage(tree, path, f"{quota} {period}")
        return None
    return Quota(quota / period, path)


def _note_garbage(tree: Tree, path: str, text: str) -> None:
    tree.note(path, f"{text[:40]!r} is not a CPU limit", "took it for no limit")


def _mounts(tree: Tree, controller: str) -> list[Mount]:
    mounts = _parse_mounts(tree.text("/proc/self/mountinfo") or "")
    if not mounts and tree.text("/proc/self/cgroup") is not None:
        tree.note("/proc/self/mountinfo", "shows no cgroup mount", "looked where they usually are")
    if not mounts:
        usual = (Mount(point, "/", frozenset({controller})) for point in _USUAL.get(controller, ()))
        mounts = (*usual, Mount("/sys/fs/cgroup", "/", frozenset({_UNIFIED})))
    v1 = [mount for mount in mounts if controller in mount.controllers]
    return v1 + [mount for mount in mounts if _UNIFIED in mount.controllers]


@lru_cache(maxsize=1)  # it is called for each controller
def _parse_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """Return the cgroup mounts of /proc/self/mountinfo (``man 5 proc``): fields 4 and 5, and those after a dash."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind or kind[0] not in {"cgroup", "cgroup2"}:  # noqa: PLR2004 - see above
            continue
        names = frozenset({_UNIFIED}) if kind[0] == "cgroup2" else frozenset(kind[-1].split(","))
        found.append(Mount(_unescaped(fields[4]), _unescaped(fields[3]), names))
    return tuple(found)


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def _places(tree: Tree) -> dict[str, str]:
    """Return this process's cgroup for each controller, from /proc/self/cgroup (``man 7 cgroups``)."""
    places: dict[str, str] = {}
    for line in (tree.text("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            places.update(dict.fromkeys(controllers.split(","), path or "/"))
    return places


def _way_up(tree: Tree, mount: Mount, place: str) -> Iterable[str]:
    inside = _relative(place, mount.root)
    if inside is None:
        if place.strip("/") or ".." in mount.root:
            tree.note(
                mount.point,
                f"shows {mount.root}, not {place}",
                "took the mount for this process's own cgroup",
            )
        return (mount.point,)
    path = PurePosixPath(mount.point, inside)
    ups = [path, *path.parents]
    return [str(up) for up in ups if up.is_relative_to(mount.point)]


def _relative(place: str, root: str) -> str | None:
    """Return the path from a mount's root to a cgroup; None if the cgroup is not below the root."""
    if ".." in PurePosixPath(place).parts or ".." in PurePosixPath(root).parts:
        return None
    try:
        return str(PurePosixPath(place).relative_to(root))
    except ValueError:
        return None
