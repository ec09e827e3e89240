"""SIGTERM, as a preempted machine or a stopped container sends it: finish what runs, start nothing more."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runwide.errors import Preempted

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
            _leave()

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
    with _handled(draining):
        yield draining


@contextmanager
def leaves_on_sigterm() -> Iterator[None]:
    """Have SIGTERM raise `runwide.errors.Preempted` while the block runs, so that it is left in order.

    A pool that runs inside of the block is drained first.
    """
    with _handled(_leave):
        yield


def _leave(*_: Any) -> None:
    raise Preempted("stopped by SIGTERM; what had finished is kept", hint="run it again to go on")


@contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[None]:
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if not in_main or before not in (signal.SIG_DFL, _leave):
        yield
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        # elsewhere it is the garbage collector that closes an iterator
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
