"""How much memory this container may use, what it uses, and whom the kernel has killed for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.host import cgroup, elsewhere
from runwide.host.tree import Tree

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_UNLIMITED = 1 << 60  # v1 writes "no limit" as the largest multiple of a page that fits a signed word


@dataclass(frozen=True, slots=True)
class Level:
    """The memory of one cgroup on the way to the root.

    Args:
        directory: Where it is.
        limit: Bytes above which the kernel kills; None for no limit.
        high: Bytes above which the kernel slows its processes down and reclaims; None for no such limit.
        used: Bytes in use that cannot simply be dropped: without the inactive part of the file cache.
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
        total: Bytes that the machine has.
        available: Bytes that can still be used before a limit or the machine's end is met.
        oom_kills: Processes of this container killed by the kernel for want of memory; None if not counted.
        kills_all: Whether one such kill takes every process of the container (``memory.oom.group``).
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
        """What there is to use, in bytes: the limit, or the machine's memory where that is less."""
        known = [value for value in (self.limit, self.total) if value is not None]
        return min(known, default=None)


def read(root: Tree | str | os.PathLike[str] = "/") -> Memory:
    """Read the limits and the use of this container's memory.

    Example:
        >>> read().available > 0
        True
    """
    tree = Tree.at(root)
    levels = list(_levels(tree))
    limited = [
        (level.limit, level) for level in levels if level.limit is not None and level.limit < _UNLIMITED
    ]
    limit, tightest = min(limited, key=lambda one: one[0], default=(None, None))  # of equal ones the nearest
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


def limit(root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """The tightest memory limit of this cgroup and its visible ancestors, in bytes; None for no limit.

    Example:
        >>> found = limit()
        >>> found is None or found > 0
        True
    """
    limits = [level.limit for level in _levels(Tree.at(root)) if level.limit is not None]
    return min(limits, default=None)


def available(root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """Bytes that can still be used before the nearest limit, or the machine's end; None where nothing says.

    Example:
        >>> available() > 0
        True
    """
    tree = Tree.at(root)
    return _available(list(_levels(tree)), _meminfo(tree).get("MemAvailable"))


def oom_kills(root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """How many processes of this container the kernel has killed for want of memory; None where not counted.

    The machine's own counter stands in where the process is in no cgroup that counts.

    Example:
        >>> oom_kills() is None or oom_kills() >= 0
        True
    """
    return _oom_kills(Tree.at(root))


def rss(pid: int, root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """Resident memory of a process in bytes, shared pages included; None once it is gone.

    Example:
        >>> import os
        >>> rss(os.getpid()) > 1_000_000
        True
    """
    tree = Tree.at(root)
    found = _kilobytes(tree, f"/proc/{pid}/status", "VmRSS")
    return elsewhere.rss(pid) if found is None and _is_elsewhere(tree) else found


def peak_rss(pid: int, root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """The highest resident memory that a process has had, in bytes; None once it is gone.

    Example:
        >>> import os
        >>> rss(os.getpid()) <= peak_rss(os.getpid())
        True
    """
    return _kilobytes(Tree.at(root), f"/proc/{pid}/status", "VmHWM")


def pss(pid: int, root: Tree | str | os.PathLike[str] = "/") -> int | None:
    """A process's fair share of the resident memory in bytes: shared pages divided by their users.

    The kernel walks the page tables for it, which takes milliseconds for a large process.

    Example:
        >>> import os
        >>> pss(os.getpid()) <= rss(os.getpid()) * 1.1
        True
    """
    return _kilobytes(Tree.at(root), f"/proc/{pid}/smaps_rollup", "Pss")


def _levels(tree: Tree) -> Iterator[Level]:
    for directory in cgroup.directories(tree, "memory"):
        v1 = _level_v1(tree, directory)
        yield v1 if v1.limit is not None or v1.used is not None else _level_v2(tree, directory)


def _level_v1(tree: Tree, directory: str) -> Level:
    stat = tree.pairs(f"{directory}/memory.stat")
    # The second counts ancestors too, even those that this container cannot see.
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
        found = dict(zip(names, elsewhere.memory(), strict=True))
    return {name: value for name, value in found.items() if value is not None}


def _is_elsewhere(tree: Tree) -> bool:
    """Whether this machine has no /proc, as a Mac."""
    return tree.live and not tree.names("/proc/self")


def _kilobytes(tree: Tree, path: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB$", tree.text(path) or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None
