"""Limit the time that payloads wait for room in scratch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runwide.pool.call import Call
    from runwide.pool.slot import Slot

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
