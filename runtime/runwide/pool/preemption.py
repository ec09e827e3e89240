"""SIGTERM, as a preempted machine or a stopped container sends it: finish what runs, start nothing more."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runwide.errors import Preempted
from runwide.sigterm import handled, leave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.pool.inplace import InPlaceScheduler
    from runwide.pool.lease import Lease

GRACE = 20.0
"""Seconds for running tasks after SIGTERM; Kubernetes and Vertex AI give 30 before SIGKILL."""


class Draining:
    """A handler of SIGTERM that drains a lease and ends the wait for items.

    Args:
        lease: Ends its calls with `runwide.errors.Preempted` when it has drained.
        grace: Seconds that running tasks may take.
    """

    def __init__(self, lease: Lease | InPlaceScheduler, grace: float) -> None:
        self._lease = lease
        self._grace = grace
        self._came = False
        self._leaves = False

    def __call__(self, *_: Any) -> None:
        """SIGTERM has come."""
        self._came = True
        self._lease.drain(self._grace)
        if self._leaves:
            leave()

    def ends(self, action: Callable[[], None]) -> None:
        """Call what may wait in the user's code, and have SIGTERM end it there."""
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
def drains_on_sigterm(lease: Lease | InPlaceScheduler, grace: float) -> Iterator[Draining]:
    """Have SIGTERM drain a lease while the block runs.

    A handler of the program's own is left alone, and only the main thread can have one.

    Args:
        lease: As for `Draining`.
        grace: As for `Draining`.
    """
    draining = Draining(lease, grace)
    with handled(draining):
        yield draining
