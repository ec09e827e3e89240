"""Watch the resources of a pool: memory, room for payloads, and descriptors."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from runwide import settings
from runwide.causes import Cause
from runwide.pool import policy
from runwide.streams import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runwide.host.memory import Memory
    from runwide.pool.call import Call
    from runwide.pool.workers import Slot


GUARDED_SHARE = 0.03
"""The guard acts when less than this share of the limit is left."""

GUARDED_BYTES = 32 << 20
"""The guard acts when less than this is left, whatever the limit."""


ENDING_SECONDS = 0.03
"""Seconds from a measurement to the end of the worker; the memory that fills meanwhile is kept free as well."""

FASTEST = 4 << 30
"""The fastest growth of memory, in bytes a second; in a measurement, one core touched new memory at 2.2 GB/s."""

IDLE_SHARE = 0.1
"""Idle workers end when less than this share of the limit is left."""

BETWEEN_SECONDS = 1.0
"""Seconds between measurements while nothing runs; a short map ends before the first."""

SHORTEST = 0.005
"""Seconds between measurements near the limit; one costs half a millisecond."""


def reserve(size: int) -> int:
    """Return the number of bytes that the guard keeps free.

    Example:
        >>> reserve(512 << 20) >> 20, reserve(64 << 30) >> 20
        (32, 1966)
    """
    return max(GUARDED_BYTES, int(size * GUARDED_SHARE))


def too_little(available: int, size: int, growth: float = 0.0) -> bool:
    """Return whether so little memory is left that the largest worker must be stopped.

    Args:
        size: The limit, in bytes.
        growth: Growth of the use, in bytes a second.

    Example:
        >>> too_little(20 << 20, 512 << 20), too_little(70 << 20, 512 << 20), too_little(70 << 20, 512 << 20, 2e9)
        (True, False, True)
    """
    return available < reserve(size) + growth * ENDING_SECONDS


def next_look(available: int, size: int, most: float) -> float:
    """Return the seconds until the memory could be full, within bounds.

    Args:
        available: Bytes that are left.
        size: The limit, in bytes.
        most: The largest result, in seconds.

    Example:
        >>> next_look(8 << 30, 16 << 30, 0.1), next_look(0, 16 << 30, 0.1)
        (0.1, 0.005)
    """
    return min(most, max(SHORTEST, (available - reserve(size)) / FASTEST))


class MemoryWatch:
    """The watch over the memory of busy workers and the kernel's OOM kills.

    If one OOM kill would end the whole container (``memory.oom.group``, which Kubernetes sets since 1.28), the watch acts
    first: near the limit, it chooses the largest worker. ``RUNWIDE_MEMORY_GUARD=always`` or ``=never`` changes that.

    Args:
        seconds: Interval of the measurements. The guard shortens it near the limit: memory fills at gigabytes a second.
        max_memory: Resident bytes above which a worker is replaced once it is free.
    """

    def __init__(self, seconds: float, max_memory: int | None) -> None:
        self.seconds = seconds
        self._longest = seconds
        # Time of the guard's last measurement, and the bytes that were left.
        self._last: tuple[float, int] | None = None
        self._max_memory = max_memory
        self._next = 0.0
        self._kills_seen = 0
        self._next_count = self._next_idle = 0.0
        self._size: int | None = None
        self._guards = False
        self.begun = False
        """Whether the first measurement was made."""

    def begin(self, found: Memory | None = None) -> None:
        """Measure the memory for the first time, just after the first worker was started, while it loads its modules."""
        if found is None:
            from runwide.host import memory  # loaded here, so that no start waits for it

            found = memory.read()
        self.begun = True
        self._size, self._kills_seen = found.size, found.oom_kills or 0
        wanted = settings.read().memory_guard
        self._guards = wanted == "always" or (wanted == "auto" and found.kills_all)
        if self._guards and found.available is not None and found.size is not None:
            self.seconds = next_look(found.available, found.size, self._longest)
        now = time.monotonic()
        self._next = now + self.seconds  # the modules for measuring are not loaded before the first task
        self._next_count = now + BETWEEN_SECONDS

    def go_on(self) -> None:
        """Count OOM kills at the start of a call after all others have ended: they killed none of its workers.

        Shortly after the last count, this does nothing.
        """
        now = time.monotonic()
        self._next_idle = now + BETWEEN_SECONDS
        if self.begun and now >= self._next_count:
            from runwide.host import memory  # as above

            self._next_count = now + BETWEEN_SECONDS
            self._kills_seen = memory.oom_kills() or 0

    def cause_of_death(self, slot: Slot, exitcode: int) -> Cause:
        """Return the cause of a worker's death. Each OOM kill explains one death."""
        if slot.too_large:
            return Cause.OUT_OF_MEMORY
        if slot.line_lost_at is not None and slot.killed:
            return Cause.LINE_LOST
        from runwide.host import memory  # loaded here, so that no start waits for it

        kills = (memory.oom_kills() or 0) - self._kills_seen if self.begun else 0
        cause = policy.cause_of_death(exitcode, timed_out=slot.timed_out, oom_credits=kills)
        if cause is Cause.OUT_OF_MEMORY:
            self._kills_seen += 1
        return cause

    def look(self, slots: Iterable[Slot]) -> Slot | None:
        """Measure if it is time; return the worker that must be stopped now, if there is one."""
        now = time.monotonic()
        if now < self._next or not self.begun:
            return None
        from runwide.host import memory  # as above

        self._next = now + self.seconds
        busy = [slot for slot in slots if slot.chunks]
        for slot in busy:
            slot.rss = memory.rss(slot.process.pid) or slot.rss
            slot.peak_rss = max(slot.peak_rss, slot.rss)
            slot.worn = slot.worn or (self._max_memory is not None and slot.rss > self._max_memory)
        if self._guards and busy and self._must_act(now, memory.available()):
            return max(busy, key=lambda slot: slot.rss)
        return None

    def is_short(self) -> bool:
        """Return whether so little memory is left that idle workers should end."""
        now = time.monotonic()
        if not self.begun or self._size is None or now < self._next_idle:
            return False
        from runwide.host import memory  # as above

        self._next_idle = now + BETWEEN_SECONDS
        available = memory.available()
        return available is not None and available < IDLE_SHARE * self._size

    def _must_act(self, now: float, available: int | None) -> bool:
        if available is None or self._size is None:
            return False
        before, self._last = self._last, (now, available)
        growth = 0.0 if before is None else (before[1] - available) / (now - before[0])
        self.seconds = next_look(available, self._size, self._longest)
        self._next = now + self.seconds
        return too_little(available, self._size, max(0.0, growth))


PATIENCE = 1.0
"""Seconds after which a payload is given up, if nothing could make room."""

LOOK_SECONDS = 0.1
"""Interval at which the pool checks, while a payload waits."""


def is_hopeless(since: float | None, now: float, *, others_run: bool, may_drop: bool) -> bool:
    """Return whether a payload waits in vain.

    Args:
        since: Time since which nothing could make room; None if something could until now.
        now: The present time, in seconds, as ``since``.
        others_run: Whether tasks run, whose items free their room when they end.
        may_drop: Whether the consumer may yet drop results that it has.

    Example:
        >>> is_hopeless(5.0, 7.0, others_run=False, may_drop=False), is_hopeless(5.0, 7.0, others_run=True, may_drop=False)
        (True, False)
    """
    return since is not None and not others_run and not may_drop and now - since >= PATIENCE


def may_drop(call: Call) -> bool:
    """Return whether the consumer of a call may yet drop results, and so make room for others.

    If the pool is closed, it may not: the consumer may be waiting for the end of the pool.
    """
    return call.sink.may_drop() and not call.lease.closed


class ScratchWatch:
    """The watch over results that wait for room in their workers: if nothing could make room, one is given up."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._waited: list[int] = []

    def look(self, slots: Iterable[Slot]) -> None:
        """Give up one result, if it has waited long enough."""
        busy = [slot for slot in slots if slot.chunks]
        waiting = [slot for slot in busy if slot.waits_for_room]
        others_run = len(waiting) < len(busy)
        drop = any(may_drop(slot.chunks[0].call) for slot in waiting)
        now, before = time.monotonic(), self._waited
        self._waited = [slot.number for slot in waiting]
        if not waiting or others_run or drop:
            self._since = None
        elif self._since is None or self._waited != before:  # one found room, and its consumer may free it
            self._since = now
        if any(slot.status.writing for slot in waiting):
            return
        if waiting and is_hopeless(self._since, now, others_run=others_run, may_drop=drop):
            waiting[0].waits_for_room = False
            waiting[0].status.give_up()
            self._since = None


def any_waits(slots: Iterable[Slot]) -> bool:
    """Return whether a result waits for room."""
    return any(slot.waits_for_room for slot in slots)


_NUMBER = 3  # an import opens a module or a directory at a time

_lock = threading.RLock()
_held: list[int] = []
_pools: WeakSet[Any] = WeakSet()


def hold_spare(pool: object) -> None:
    """Open spare descriptors for a pool, if any are free."""
    with _lock:
        _pools.add(pool)
        _fill()


def release_spare(pool: object) -> None:
    """Close the spare descriptors with the last pool."""
    with _lock:
        _pools.discard(pool)
        if not _pools:
            _empty()


@contextmanager
def spare_released() -> Iterator[None]:
    """Make the spare descriptors free while the block runs."""
    with _lock:
        _empty()
        try:
            yield
        finally:
            if _pools:
                _fill()


def import_modules(*modules: str) -> None:
    """Import modules, also if no descriptor is free."""
    if not all(module in sys.modules for module in modules):
        with spare_released():
            for module in modules:
                import_module(module)


def _fill() -> None:
    with suppress(OSError):
        keep_standard_descriptors()  # the numbers 0 to 2 must not be used
        while len(_held) < _NUMBER:
            _held.append(os.open(os.devnull, os.O_RDONLY))


def _empty() -> None:
    while _held:
        os.close(_held.pop())
