"""Delay the end of a call until the lines that its tasks printed are written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.output import Output

_SECONDS = 30.0
"""The longest delay: writing may be slow, and a log processor of the user's may wait for the end of this call."""


class Endings:
    """The ends of calls that wait for their printed lines, while the scheduler goes on.

    Args:
        output: Writes the lines.
        ring: Wakes the scheduler. Any thread may call it.
    """

    def __init__(self, output: Output, ring: Callable[[], None]) -> None:
        self._output = output
        self._ring = ring
        self._waiting: list[_Ending] = []

    def __bool__(self) -> bool:
        """Return whether any end waits."""
        return bool(self._waiting)

    def finish(self, *steps: Callable[[], None], at_once: bool = False) -> None:
        """End a call: now if no line waits to be written, otherwise when the lines are written.

        Args:
            steps: The functions that end it, called on the scheduler's thread.
            at_once: Whether to end it now in any case.
        """
        ending = _Ending(steps, self._ring)
        if not at_once and self._output.after(ending.set_due):
            self._waiting.append(ending)
        else:
            ending.run()

    def look(self, *, last: bool = False) -> None:
        """Run the ends that need not wait any more; all of them with ``last``."""
        now = time.monotonic()
        for one in [one for one in self._waiting if last or one.is_due or now >= one.deadline]:
            self._waiting.remove(one)
            one.run()

    def patience(self) -> float | None:
        """Return the seconds until an end has waited for long enough."""
        deadlines = [one.deadline for one in self._waiting]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None


class _Ending:
    def __init__(self, steps: Sequence[Callable[[], None]], ring: Callable[[], None]) -> None:
        self._steps = steps
        self.deadline = time.monotonic() + _SECONDS
        self.is_due = False
        self._ring = ring

    def run(self) -> None:
        for step in self._steps:
            step()

    def set_due(self) -> None:
        """Note that all earlier lines are written."""
        self.is_due = True
        self._ring()
