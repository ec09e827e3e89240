"""Drain a pool at SIGTERM, which a preempted machine or a stopped container sends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runwide.errors import Preempted
from runwide.sigterm import handled, leave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Draining:
    """A handler of SIGTERM that drains a pool and ends the wait for items.

    Args:
        drain: Lets running tasks finish, and then ends all calls with `runwide.errors.Preempted`.
        grace: Seconds that running tasks may take.
    """

    def __init__(self, drain: Callable[[float], None], grace: float) -> None:
        self._drain = drain
        self._grace = grace
        self._came = False
        self._leaves = False

    def __call__(self, *_: Any) -> None:
        """Handle SIGTERM."""
        self._came = True
        self._drain(self._grace)
        if self._leaves:
            leave()

    def interrupt(self, action: Callable[[], None]) -> None:
        """Call a function that may wait in the user's code, and let SIGTERM end it there."""
        try:
            try:
                self._leaves = True
                if not self._came:
                    action()
            finally:
                self._leaves = False
        except Preempted:
            if not self._came:
                raise


@contextmanager
def drains_on_sigterm(drain: Callable[[float], None], grace: float) -> Iterator[Draining]:
    """Make SIGTERM drain a pool while the block runs.

    A handler of the program's own stays in place. Only the main thread can have a handler.

    Args:
        drain: As for `Draining`.
        grace: As for `Draining`; Kubernetes and Vertex AI send SIGKILL 30 seconds after SIGTERM.
    """
    draining = Draining(drain, grace)
    with handled(draining):
        yield draining
