"""What the workers' memory says: who is to be replaced, and who is to go before the kernel takes everybody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runwide import settings
from runwide.pool import policy
from runwide.pool.policy import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runwide.host.memory import Memory
    from runwide.pool.slot import Slot

GUARDED_SHARE = 0.03
"""The guard acts when less than this share of the limit is left."""

GUARDED_BYTES = 32 << 20
"""The guard acts when less than this is left, whatever the limit."""


ENDING_SECONDS = 0.03
"""From a look to the end of the worker; what fills meanwhile is kept free as well."""

FASTEST = 4 << 30
"""Bytes a second that are taken to fill at most; one core touched new memory at 2.2 GB/s where this was measured."""

IDLE_SHARE = 0.1
"""Idle workers are ended when less than this share of the limit is left: others need it."""

BETWEEN_SECONDS = 1.0
"""Between looks while nothing runs: a short map is over before one is."""

SHORTEST = 0.005
"""Seconds between looks near the limit; one costs half a millisecond."""


def reserve(size: int) -> int:
    """Bytes that the guard keeps free.

    Example:
        >>> reserve(512 << 20) >> 20, reserve(64 << 30) >> 20
        (32, 1966)
    """
    return max(GUARDED_BYTES, int(size * GUARDED_SHARE))


def too_little(available: int, size: int, growth: float = 0.0) -> bool:
    """Whether so little memory is left that the largest worker must go.

    Args:
        available: Bytes that are left.
        size: Bytes that there are.
        growth: Bytes a second by which the use has been growing.

    Example:
        >>> too_little(20 << 20, 512 << 20), too_little(70 << 20, 512 << 20), too_little(70 << 20, 512 << 20, 2e9)
        (True, False, True)
    """
    return available < reserve(size) + growth * ENDING_SECONDS


def next_look(available: int, size: int, most: float) -> float:
    """Seconds until memory could have filled, within bounds.

    Args:
        available: Bytes that are left.
        size: Bytes that there are.
        most: Seconds at most.

    Example:
        >>> next_look(8 << 30, 16 << 30, 0.1), next_look(0, 16 << 30, 0.1)
        (0.1, 0.005)
    """
    return min(most, max(SHORTEST, (available - reserve(size)) / FASTEST))


class MemoryWatch:
    """Samples the memory of busy workers, and counts the kernel's OOM kills.

    Where one OOM kill takes the whole container (``memory.oom.group``, as Kubernetes sets it since 1.28), the watch acts
    first: near the limit it names the largest worker. ``RUNWIDE_MEMORY_GUARD`` may say ``always`` or ``never`` instead.

    Args:
        seconds: Interval of the samples; the guard shortens it near the limit, since memory fills at gigabytes a second.
        max_memory: Resident bytes above which a worker is replaced once it is free.
    """

    def __init__(self, seconds: float, max_memory: int | None) -> None:
        self.seconds = seconds
        self._longest = seconds
        self._last: tuple[float, int] | None = None  # when the guard looked, and what was left
        self._max_memory = max_memory
        self._next = 0.0
        self._kills_seen = 0
        self._next_count = self._next_idle = 0.0
        self._size: int | None = None
        self._guards = False
        self.begun = False
        """Whether it knows what there was."""

    def begin(self, found: Memory | None = None) -> None:
        """Note what there is, when the first worker has just been started: it loads what it needs meanwhile.

        Args:
            found: What there is, where that is known.
        """
        if found is None:
            from runwide.host import memory  # which no start waits for

            found = memory.read()
        self.begun = True
        self._size, self._kills_seen = found.size, found.oom_kills or 0
        wanted = settings.read().memory_guard
        self._guards = wanted == "always" or (wanted == "auto" and found.kills_all)
        if self._guards and found.available is not None and found.size is not None:
            self.seconds = next_look(found.available, found.size, self._longest)
        now = time.monotonic()
        self._next = now + self.seconds  # what looks is not loaded before the first task
        self._next_count = now + BETWEEN_SECONDS

    def go_on(self) -> None:
        """A call begins after all others have ended: who was killed in between was none of its workers.

        Of a call right after another one that is not asked again.
        """
        now = time.monotonic()
        self._next_idle = now + BETWEEN_SECONDS
        if self.begun and now >= self._next_count:
            from runwide.host import memory  # as above

            self._next_count = now + BETWEEN_SECONDS
            self._kills_seen = memory.oom_kills() or 0

    def cause_of_death(self, slot: Slot, exitcode: int) -> Cause:
        """Why a worker died; of two deaths in one turn, each uses up an OOM kill of its own."""
        if slot.too_large:
            return Cause.OUT_OF_MEMORY
        if slot.line_lost_at is not None and slot.killed:
            return Cause.LINE_LOST
        from runwide.host import memory  # which no start waits for

        kills = (memory.oom_kills() or 0) - self._kills_seen if self.begun else 0
        cause = policy.cause_of_death(exitcode, timed_out=slot.timed_out, oom_credits=kills)
        if cause is Cause.OUT_OF_MEMORY:
            self._kills_seen += 1
        return cause

    def look(self, slots: Iterable[Slot]) -> Slot | None:
        """Sample if it is time; returns the worker that must go now, if one must."""
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
        """Whether so little memory is left that idle workers had better end."""
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
