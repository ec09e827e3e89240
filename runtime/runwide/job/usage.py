"""What a run of a shard used of its machine, told by the name of its last part of events.

So one listing of a job tells its core time, however many shards it has, and nothing else is read or written for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runwide.job.events import Run

_NUMBER = r"(\d{1,9}(?:\.\d{1,3})?)"
_NAME = re.compile(rf"shards/\d{{1,9}}/events(?:-\d+)?\.used-{_NUMBER}s-{_NUMBER}c-{_NUMBER}g\.jsonl")


@dataclass(frozen=True, slots=True)
class Used:
    """What a run used.

    Args:
        seconds: How long it took.
        cpus: CPUs that it could use: those of its machine, or its quota where that is less.
        gib: Memory of its machine or container in GiB; 0 where it is not known.
    """

    seconds: float
    cpus: float
    gib: float

    @classmethod
    def of(cls, run: Run, ended: float) -> Used:
        """What a run used by what it says of its machine.

        Args:
            run: The run.
            ended: When it ended, as Unix time.
        """
        return cls(max(0.0, ended - run.started), cpus_of(run.host), memory_of(run.host))

    def mark(self) -> str:
        """The part of a name that tells it.

        Example:
            >>> Used(12.5, 4.0, 15.62).mark()
            '.used-12.5s-4c-15.62g'
        """
        numbers = (f"{value:.3f}".rstrip("0").rstrip(".") for value in (self.seconds, self.cpus, self.gib))
        return ".used-{}s-{}c-{}g".format(*numbers)


def of_name(name: str) -> Used | None:
    """What an object's name tells; None where it tells nothing.

    Example:
        >>> of_name("shards/0007/events-0001.used-12.5s-4c-15.62g.jsonl")
        Used(seconds=12.5, cpus=4.0, gib=15.62)
    """
    found = _NAME.fullmatch(name)
    return Used(*map(float, found.groups())) if found else None


def cpus_of(host: Mapping[str, Any]) -> float:
    """CPUs that a run could use; 1 where it does not say.

    Args:
        host: What it says of its machine.
    """
    cpus = float(host.get("logical") or host.get("workers") or 1)
    return min(cpus, float(host.get("quota") or cpus))


def memory_of(host: Mapping[str, Any]) -> float:
    """Memory that a run could use in GiB; 0 where it does not say.

    Args:
        host: As for `cpus_of`.
    """
    return float(host.get("memory") or 0) / 2**30
