"""Who has workers of a scheduler, and whether it goes on when nobody does."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.pool.lease import Lease

LOOK_SECONDS = 1.0
"""Interval at which a scheduler without work looks whether it is to end."""

_UNCLAIMED_SECONDS = 5.0
"""After which nobody will come: Ctrl-C has ended who wanted it."""


class Leases:
    """The open leases of one scheduler.

    Args:
        idle_seconds: How long the scheduler stays when there is none; None to end with the last one.
        gone: Called when one is gone that nobody has closed.
    """

    def __init__(self, idle_seconds: float | None, gone: Callable[[], None]) -> None:
        # Ctrl-C may lose one before anybody has it.
        self._open: weakref.WeakKeyDictionary[Lease, weakref.finalize[..., Lease]] = (
            weakref.WeakKeyDictionary()
        )
        self._idle_seconds = idle_seconds
        self._idle_since = time.monotonic()
        self._began = False
        self._gone = gone
        self._last = False  # there are to be no more

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._open))

    def may_have(self, *, apart: bool) -> bool:
        """Whether there may be one more.

        Args:
            apart: Whether that one is to have the workers for itself.
        """
        return not self._last and not any(apart or other.apart for other in self)

    def add(self, lease: Lease) -> None:
        """One more."""
        self._open[lease] = gone = weakref.finalize(lease, self._gone)
        gone.atexit = False
        self._began = True

    def end(self, lease: Lease) -> None:
        """One less."""
        lease.ended.set()
        gone = self._open.pop(lease, None)
        if gone is not None:
            gone.detach()
        self._idle_since = time.monotonic()

    @property
    def is_kept(self) -> bool:
        """Whether the scheduler stays when there is none."""
        return self._idle_seconds is not None

    def keep_no_longer(self) -> None:
        """Have the scheduler end with those that there are; from any thread."""
        self._idle_seconds, self._began, self._last = None, True, True

    def patience(self) -> float | None:
        """Seconds until it is to be looked whether the scheduler has been idle for too long; None for never."""
        idle_seconds = self._idle_seconds  # once: another thread may change it
        if idle_seconds is None:
            return None if self._began else LOOK_SECONDS
        return min(LOOK_SECONDS, idle_seconds)

    def are_over(self) -> bool:
        """Whether there is none, and has been none for so long that nobody is waited for."""
        if self._open:
            return False
        patience = (self._idle_seconds or 0.0) if self._began else _UNCLAIMED_SECONDS
        return time.monotonic() - self._idle_since >= patience
