"""The CPU time that this machine has lost to other machines on the same host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.host.tree import Tree

if TYPE_CHECKING:
    import os

_STEAL = 7  # the eighth of the ten numbers of the ``cpu`` line (``man 5 proc``)
_GUEST = 8  # user time includes guest time already


@dataclass(frozen=True, slots=True)
class Steal:
    """CPU time since boot, in clock ticks.

    Args:
        stolen: Time in which a CPU had work here, but the hypervisor ran another machine.
        total: All time of all CPUs.
    """

    stolen: int
    total: int

    @property
    def share(self) -> float:
        """Share of the time that was stolen, 0 to 1.

        Example:
            >>> Steal(5, 100).share
            0.05
        """
        return self.stolen / self.total if self.total else 0.0

    def since(self, earlier: Steal) -> Steal:
        """Return the time since an earlier reading.

        Example:
            >>> Steal(30, 200).since(Steal(5, 100)).share
            0.25
        """
        return Steal(self.stolen - earlier.stolen, self.total - earlier.total)


def steal(root: Tree | str | os.PathLike[str] = "/") -> Steal | None:
    """Read the machine's stolen time; None if it is not counted.

    Example:
        >>> found = steal()
        >>> found is None or 0 <= found.share <= 1
        True
    """
    line = (Tree.at(root).text("/proc/stat") or "").partition("\n")[0]
    name, *numbers = line.split()[:11] or [""]
    if name != "cpu" or len(numbers) <= _STEAL or not all(number.isdigit() for number in numbers):
        return None
    ticks = [int(number) for number in numbers]
    return Steal(ticks[_STEAL], sum(ticks[:_GUEST]))
