"""The memory that this container may use, the memory in use, and the kernel's OOM kills."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.host import cgroup, without_proc
from runwide.host.tree import Tree

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_UNLIMITED = 1 << 60  # v1 writes "no limit" as the largest multiple of a page that fits a signed word


@dataclass(frozen=True, slots=True)
class Level:
    """The memory of this process's cgroup, or of one of its ancestors.

    Args:
        limit: Bytes above which the kernel kills processes; None for no limit.
        high: Bytes above which the kernel slows processes down and reclaims memory; None for no such limit.
        used: Bytes in use that cannot be freed at once: without the inactive part of the file cache.
    """

    directory: str
    limit: int | None
    high: int | None
    used: int | None


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of this container.

    Args:
        limit: The tightest limit of this cgroup and its ancestors in bytes; None for no limit.
        source: The file that sets it.
        high: The tightest soft limit in bytes; None for none.
        used: Bytes in use in the cgroup of the tightest limit, else in the machine.
        total: Bytes of the machine.
        available: Bytes that can still be used before a limit or the machine's total is reached.
        oom_kills: Processes of this container that the kernel has killed because memory ran out; None if not counted.
        kills_all: Whether one such kill ends every process of the container (``memory.oom.group``).
    """

    limit: int | None
    source: str
    high: int | None
    used: int | None
    total: int | None
    available: int | None
    oom_kills: int | None
    kills_all: bool

    @property
    def size(self) -> int | None:
        """Bytes that can be used at most: the limit, or the machine's memory if that is less."""
        known = [value for value in (self.limit, self.total) if value is not None]
        return min(known, default=None)


def read(root: Tree | str | os.PathLike[str] = "/") -> Memory:
    """Read the limits and the use of this container's memory."""
    tree = Tree.at(root)
    levels = list(_levels(tree))
    limited = [
        (level.limit, level) for level in levels if level.limit is not None and level.limit < _UNLIMITED
    ]
    # Of equal limits, min() returns the first, which is the nearest.
    limit, tightest = min(limited, key=lambda one: one[0], default=(None, None))
    machine = _meminfo(tree)
    return Memory(
        limit=limit,
        source=tightest.directory if tightest else "",
        high=min((level.high for level in levels if level.high is not None), default=None),
        used=tightest.used if tightest else _difference(machine.get("MemTotal"), machine.get("MemAvailable")),
        total=machine.get("MemTotal"),
        available=_available(levels, machine.get("MemAvailable")),
        oom_kills=_oom_kills(tree),
        kills_all=any(tree.number(f"{level.directory}/memory.oom.group") == 1 for level in levels[:1]),
    )


def available(root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """Return the bytes that can still be used before a limit or the machine's total is reached; None if unknown."""
    tree = Tree.at(root)
    return _available(list(_levels(tree)), _meminfo(tree).get("MemAvailable"))


def oom_kills(root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """Return the number of processes of this container that the kernel's OOM killer has killed; None if not counted.

    If no cgroup of the process counts them, this is the number of the whole machine.
    """
    return _oom_kills(Tree.at(root))


def rss(pid: int, root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """Return the resident memory of a process in bytes, with shared pages; None if it has ended."""
    tree = Tree.at(root)
    found = _kilobytes(tree, f"/proc/{pid}/status", "VmRSS")
    return without_proc.resident(pid) if found is None and _is_elsewhere(tree) else found


def _levels(tree: Tree) -> Iterator[Level]:
    for directory in cgroup.directories(tree, "memory"):
        v1 = _level_v1(tree, directory)
        yield v1 if v1.limit is not None or v1.used is not None else _level_v2(tree, directory)


def _level_v1(tree: Tree, directory: str) -> Level:
    stat = tree.pairs(f"{directory}/memory.stat")
    # The second includes ancestors, even those that this container cannot see.
    limits = (tree.number(f"{directory}/memory.limit_in_bytes"), stat.get("hierarchical_memory_limit"))
    used = tree.number(f"{directory}/memory.usage_in_bytes")
    known = [limit for limit in limits if limit is not None and limit < _UNLIMITED]
    return Level(
        directory, min(known, default=None), None, _difference(used, stat.get("total_inactive_file", 0))
    )


def _level_v2(tree: Tree, directory: str) -> Level:
    stat = tree.pairs(f"{directory}/memory.stat")
    used = _difference(tree.number(f"{directory}/memory.current"), stat.get("inactive_file", 0))
    return Level(
        directory, _max(tree, f"{directory}/memory.max"), _max(tree, f"{directory}/memory.high"), used
    )


def _max(tree: Tree, path: str) -> int | None:
    return None if tree.text(path) == "max" else tree.number(path)


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else max(0, whole - part)


def _available(levels: list[Level], machine: int | None) -> int | None:
    left = [_difference(level.limit, level.used) for level in levels]
    return min((value for value in (*left, machine) if value is not None), default=None)


def _oom_kills(tree: Tree) -> int | None:
    for directory in cgroup.directories(tree, "memory"):
        for name in ("memory.oom_control", "memory.events"):
            counted = tree.pairs(f"{directory}/{name}").get("oom_kill")
            if counted is not None:
                return counted
    return tree.pairs("/proc/vmstat").get("oom_kill")


def _meminfo(tree: Tree) -> dict[str, int]:
    names = ("MemTotal", "MemAvailable")
    found = {name: _kilobytes(tree, "/proc/meminfo", name) for name in names}
    if not any(found.values()) and _is_elsewhere(tree):
        found = dict(zip(names, without_proc.total_and_available(), strict=True))
    return {name: value for name, value in found.items() if value is not None}


def _is_elsewhere(tree: Tree) -> bool:
    """Return whether this machine has no /proc, like a Mac."""
    return tree.live and not tree.names("/proc/self")


def _kilobytes(tree: Tree, path: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB$", tree.text(path) or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None
