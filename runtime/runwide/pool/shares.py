"""What each worker has of this container: its share of the threads, and its device where there is one for each."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide import host
from runwide.errors import InputError
from runwide.host import threads
from runwide.host.cores import override_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.host import Cores

_KEPT_SECONDS = 10.0
"""How long a count of the cores is believed: it takes longer than a short map, and limits of a container seldom change."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The workers of one pool.

    Args:
        workers: How many.
        variables: What limits the threads of libraries in each.
        at_once: How many of them start at a time. A start is all computing: on two cores, eight at a time would have the
            first task wait for all eight.
        devices: What gives each its own device, by number of the worker; none where they have none.
    """

    workers: int
    variables: Mapping[str, str]
    at_once: int
    devices: tuple[Mapping[str, str], ...] = ()


def shares(workers: int | str | None, *, each: int | None = None) -> Shares:
    """Share this container among workers.

    Args:
        workers: How many; None for one per core, ``"per-gpu"`` for one per visible NVIDIA device.
        each: Threads of the libraries in each worker, whatever the user has set; None for its share of the cores.

    Raises:
        InputError: It is none of these, or ``RUNWIDE_WORKERS`` is no number.

    Example:
        >>> shares(3).workers
        3
    """
    devices: tuple[dict[str, str], ...] = ()
    if isinstance(workers, str):
        if workers != "per-gpu":
            raise InputError(f"workers={workers!r} is neither a number nor 'per-gpu'")
        from runwide.host import gpu  # for those who have some

        devices = tuple(gpu.per_gpu())
        if not devices:
            raise InputError("no NVIDIA device is visible here", hint="leave workers out for one per core")
        workers = len(devices)
    found = _counted()
    asked = override_of(workers)
    number = found.usable if asked is None else asked[0]
    variables = threads.environment(number, found, each)
    return Shares(number, variables, found.usable, devices)


_last: tuple[float, frozenset[int], Cores] | None = None


def _counted() -> Cores:
    """The cores, counted anew from time to time, and when the program has changed which it may use."""
    global _last  # noqa: PLW0603 - one container
    now, cpus = time.monotonic(), allowed()
    if _last is None or now - _last[0] > _KEPT_SECONDS or _last[1] != cpus:
        _last = now, cpus, host.cores()
    return _last[2]


def allowed() -> frozenset[int]:
    """The CPUs that this thread may use; none where that cannot be told."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ())
