"""The open leases of a scheduler, and how long it stays without any."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.pool.lease import Lease

LOOK_SECONDS = 1.0
"""Interval at which a scheduler without work checks whether it should end."""

_UNCLAIMED_SECONDS = 5.0
"""Time after which a scheduler without a first lease ends: Ctrl-C may have ended the call that made it."""


class Leases:
    """The open leases of one scheduler.

    Args:
        idle_seconds: How long the scheduler stays without a lease; None to end with the last lease.
        gone: Called when a lease is garbage-collected that was not closed.
    """

    def __init__(self, idle_seconds: float | None, gone: Callable[[], None]) -> None:
        # Weak references, since Ctrl-C may lose a lease before the caller has it.
        self._open: weakref.WeakKeyDictionary[Lease, weakref.finalize[..., Lease]] = (
            weakref.WeakKeyDictionary()
        )
        self._idle_seconds = idle_seconds
        self._idle_since = time.monotonic()
        self._began = False
        self._gone = gone
        self._last = False  # whether no more leases are given

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._open))

    def may_have(self, *, apart: bool) -> bool:
        """Return whether one more lease may be given.

        Args:
            apart: Whether no other lease may use the workers of that one.
        """
        return not self._last and not any(apart or other.apart for other in self)

    def add(self, lease: Lease) -> None:
        """Add a lease."""
        self._open[lease] = gone = weakref.finalize(lease, self._gone)
        gone.atexit = False
        self._began = True

    def end(self, lease: Lease) -> None:
        """Remove a lease that has ended."""
        lease.ended.set()
        gone = self._open.pop(lease, None)
        if gone is not None:
            gone.detach()
        self._idle_since = time.monotonic()

    @property
    def is_kept(self) -> bool:
        """Return whether the scheduler stays without leases."""
        return self._idle_seconds is not None

    def keep_no_longer(self) -> None:
        """Let the scheduler end with its present leases. Any thread may call it."""
        self._idle_seconds, self._began, self._last = None, True, True

    def patience(self) -> float | None:
        """Return the seconds until the next check whether the scheduler is idle for too long; None for never."""
        idle_seconds = self._idle_seconds  # once: another thread may change it
        if idle_seconds is None:
            return None if self._began else LOOK_SECONDS
        return min(LOOK_SECONDS, idle_seconds)

    def are_over(self) -> bool:
        """Return whether there has been no lease for so long that the scheduler should end."""
        if self._open:
            return False
        patience = (self._idle_seconds or 0.0) if self._began else _UNCLAIMED_SECONDS
        return time.monotonic() - self._idle_since >= patience
