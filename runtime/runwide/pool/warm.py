"""Workers that stay for the next call of the program."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import host, interpreter, progress, settings
from runwide.errors import InputError
from runwide.host import threads
from runwide.host.cores import override_of
from runwide.log import Configuration, configuration
from runwide.pool import transfer
from runwide.pool.scheduler import Scheduler, running
from runwide.pool.scratch import Scratch, roots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide.events.model import TaskEvent
    from runwide.host import Cores
    from runwide.pool.leases import Lease


_KEPT_SECONDS = 10.0
"""Time for which a count of the cores is used: counting takes longer than a short map, and limits seldom change."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The workers of one pool.

    Args:
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

    Example:
        >>> shares(3).workers
        3
    """
    devices: tuple[dict[str, str], ...] = ()
    if isinstance(workers, str):
        if workers != "per-gpu":
            raise InputError(f"invalid workers={workers!r}: expected a number or 'per-gpu'")
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


@dataclass(frozen=True, slots=True)
class Wants:
    """The requirements of a pool on its workers, beside their number.

    Args:
        initializer: A pickled callable that each worker calls before its first task.
        max_tasks: Tasks after which a worker is replaced.
        max_memory: Resident bytes above which a worker is replaced once it is free.
    """

    initializer: transfer.Dumped | None = None
    max_tasks: int | None = None
    max_memory: int | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """The properties that all workers of a scheduler share. A call that needs others gets another scheduler."""

    initializer: str | None
    limits: tuple[Any, ...]
    devices: tuple[Mapping[str, str], ...]
    environment: Mapping[bytes, bytes]
    directory: str | None
    path: tuple[str, ...]
    arguments: tuple[str, ...]
    cores: frozenset[int]
    start_method: str
    log: Configuration
    called_from: int | None
    """The scheduler thread that makes this call: the work that it waits for must run on another scheduler."""


_IGNORED = frozenset({b"KMP_INIT_AT_FORK", b"PYTEST_CURRENT_TEST"})
"""Variables that change while a program runs, and do not matter to workers. An import of joblib sets the first one."""

_DEFAULT_METHOD = multiprocessing.get_all_start_methods()[0]

_lock = threading.RLock()
_kept: list[tuple[_Kind, Scheduler]] = []


def lease(
    shares: Shares,
    wants: Wants,
    on_event: Callable[[TaskEvent], None] | None = None,
    *,
    fresh: bool = False,
    apart: bool = False,
) -> Lease:
    """Return a lease on workers: kept ones if they meet the requirements and are free, otherwise new ones.

    Args:
        fresh: Start new workers, which end with the lease.
        apart: Whether no other pool may use these workers meanwhile. Maps share the cores; tasks of an executor may wait
            for tasks of another executor.
    """
    # Loaded here, and not on the thread that starts the first worker: at the end of a program, modules can no longer be
    # loaded; and in the image, the first import sets a variable.
    interpreter.load("runwide.pool.loky_process")
    seconds = settings.idle_seconds()
    if fresh or not seconds:
        return _leased(_started(shares, wants, None), shares, on_event)
    kind = _kind(shares, wants)
    with _lock:
        for known, scheduler in _kept:
            found = scheduler.lease(shares, on_event, apart=apart) if known == kind else None
            if found is not None:
                return found
        _kept[:] = [(known, scheduler) for known, scheduler in _kept if not scheduler.close_idle()]
        scheduler = _started(shares, wants, seconds, partial(_is_alike, kind, shares, wants))
        _kept.append((kind, scheduler))
        return _leased(scheduler, shares, on_event, apart=apart)


def shutdown() -> None:
    """End the workers that are kept for the next call, and wait until they have ended.

    Workers that run tasks end when their call has ended.

    Example:
        >>> runwide.map(abs, [-1, -2])
        [1, 2]
        >>> runwide.shutdown()
    """
    progress.rest()
    with _lock:
        _kept.clear()
    for scheduler in [scheduler for scheduler in running if scheduler.stays]:
        if scheduler.end_with_leases():
            scheduler.join()


def _leased(
    scheduler: Scheduler,
    shares: Shares,
    on_event: Callable[[TaskEvent], None] | None,
    *,
    apart: bool = False,
) -> Lease:
    found = scheduler.lease(shares, on_event, apart=apart)
    if found is None:  # an error inside the pool has ended it already
        scheduler.check_open()
    assert found is not None  # noqa: S101 - else that has raised
    return found


def _started(
    shares: Shares,
    wants: Wants,
    idle_seconds: float | None,
    is_alike: Callable[[], bool] | None = None,
) -> Scheduler:
    scratch = Scratch.create(*roots())
    try:
        return Scheduler(shares.devices, wants, scratch=scratch, idle_seconds=idle_seconds, is_alike=is_alike)
    except BaseException:
        scratch.remove()
        raise


def _kind(shares: Shares, wants: Wants) -> _Kind:
    directory = None
    with suppress(OSError):  # the directory is gone
        directory = os.getcwd()  # noqa: PTH109 - this runs for each call, and Path is slower
    return _Kind(
        initializer=None if wants.initializer is None else transfer.digest(wants.initializer),
        limits=(wants.max_tasks, wants.max_memory),
        devices=shares.devices,
        environment=_environment(),
        directory=directory,
        path=tuple(sys.path),
        arguments=tuple(sys.argv),
        cores=allowed(),
        start_method=multiprocessing.get_start_method(allow_none=True) or _DEFAULT_METHOD,
        log=configuration(),
        called_from=_scheduler_here(),
    )


def _is_alike(kind: _Kind, shares: Shares, wants: Wants) -> bool:
    """Return whether workers that their scheduler starts now are of this kind."""
    now = _kind(shares, wants)
    return replace(now, cores=kind.cores, called_from=kind.called_from) == kind


def _scheduler_here() -> int | None:
    """Return the id of this thread if it is a scheduler's: callbacks run there, and may call anything."""
    here = threading.current_thread()
    return here.ident if any(scheduler.thread is here for scheduler in list(running)) else None


def _environment() -> dict[bytes, bytes]:
    found = os.environb.copy()  # twice as fast as os.environ
    for name in _IGNORED:
        found.pop(name, None)
    return found


def _forget() -> None:
    """Forget all workers in a fork: they belong to the parent."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.RLock()
    _kept.clear()
    for scheduler in list(running):
        scheduler.abandon()
    running.clear()


os.register_at_fork(after_in_child=_forget)
