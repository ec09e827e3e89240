"""Ends of calls that are told once what their tasks have printed is written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.output import Output

_SECONDS = 30.0
"""How long an end waits: what writes entries may be slow, and a processor of the user's may wait for that very end."""


class Endings:
    """Ends of calls that wait until the prints are written, while the scheduler goes on.

    Args:
        output: What writes them.
        ring: Makes the scheduler look, from any thread.
    """

    def __init__(self, output: Output, ring: Callable[[], None]) -> None:
        self._output = output
        self._ring = ring
        self._waiting: list[_Ending] = []

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._waiting)

    def tell(self, *steps: Callable[[], None], at_once: bool = False) -> None:
        """Tell an end: now where nothing waits to be written, else when it is.

        Args:
            steps: What tells it, on the scheduler's thread.
            at_once: Do not wait: there is no time to lose.
        """
        ending = _Ending(steps, self._ring)
        if not at_once and self._output.after(ending.come):
            self._waiting.append(ending)
        else:
            ending.tell()

    def look(self, *, last: bool = False) -> None:
        """Tell those that need not wait any more; all of them with ``last``."""
        now = time.monotonic()
        for one in [one for one in self._waiting if last or one.is_due or now >= one.deadline]:
            self._waiting.remove(one)
            one.tell()

    def patience(self) -> float | None:
        """Seconds until one has waited for long enough."""
        deadlines = [one.deadline for one in self._waiting]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None


class _Ending:
    def __init__(self, steps: Sequence[Callable[[], None]], ring: Callable[[], None]) -> None:
        self._steps = steps
        self.deadline = time.monotonic() + _SECONDS
        self.is_due = False
        self._ring = ring

    def tell(self) -> None:
        for step in self._steps:
            step()

    def come(self) -> None:
        """What was printed before is written."""
        self.is_due = True
        self._ring()
