"""Share this container among workers: threads for each, and a device for each if there are devices."""

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
"""Time for which a count of the cores is used: counting takes longer than a short map, and limits seldom change."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The workers of one pool.

    Args:
        workers: Number of workers.
        variables: Variables that limit the threads of libraries in each.
        at_once: Number of workers that start at a time. A start needs a whole core: on two cores, the first task would wait
            for eight workers if they all started at once.
        devices: Variables that give each worker its own device, by number of the worker; none without devices.
    """

    workers: int
    variables: Mapping[str, str]
    at_once: int
    devices: tuple[Mapping[str, str], ...] = ()


def shares(workers: int | str | None, *, each: int | None = None) -> Shares:
    """Share this container among workers.

    Args:
        workers: Number of workers; None for one per core; ``"per-gpu"`` for one per visible NVIDIA device.
        each: Threads of the libraries in each worker, in spite of the user's variables; None for its share of the cores.

    Raises:
        InputError: ``workers`` is none of these, or ``RUNWIDE_WORKERS`` is not a number.

    Example:
        >>> shares(3).workers
        3
    """
    devices: tuple[dict[str, str], ...] = ()
    if isinstance(workers, str):
        if workers != "per-gpu":
            raise InputError(f"workers={workers!r} is neither a number nor 'per-gpu'")
        from runwide.host import gpu  # loaded here, since few machines have one

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
    """Return the cores, counted again after some time, and after the program has changed its CPU affinity."""
    global _last  # noqa: PLW0603 - one container
    now, cpus = time.monotonic(), allowed()
    if _last is None or now - _last[0] > _KEPT_SECONDS or _last[1] != cpus:
        _last = now, cpus, host.cores()
    return _last[2]


def allowed() -> frozenset[int]:
    """Return the CPUs that this thread may use; none if the system does not report them."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ())
