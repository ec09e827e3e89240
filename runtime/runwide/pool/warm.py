"""Workers that stay for the next call of the program, and end when they have been idle for a while."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import ending, progress, settings
from runwide.log import Configuration, configuration
from runwide.pool import transfer
from runwide.pool.scheduler import Scheduler, running
from runwide.pool.scratch import Scratch, roots
from runwide.pool.shares import allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runwide.events.model import TaskEvent
    from runwide.pool.lease import Lease
    from runwide.pool.shares import Shares


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
        shares: The number of workers, and the part of the container for each.
        wants: The requirements on the workers.
        on_event: Called with each `TaskEvent`.
        fresh: Start new workers, which end with the lease.
        apart: Whether no other pool may use these workers meanwhile. Maps share the cores; tasks of an executor may wait
            for tasks of another executor.
    """
    # Loaded here, and not on the thread that starts the first worker: at the end of a program, modules can no longer be
    # loaded; and in the image, the first import sets a variable.
    ending.load("runwide.pool.loky_process")
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
