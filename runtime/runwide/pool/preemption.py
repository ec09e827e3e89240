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
    from runwide.pool.scheduler import Scheduler

GRACE = 20.0
"""Seconds for running tasks after SIGTERM; Kubernetes and Vertex AI give 30 before SIGKILL."""


@contextmanager
def drains_on_sigterm(scheduler: Scheduler | InPlaceScheduler, grace: float) -> Iterator[None]:
    """Have SIGTERM drain a scheduler while the block runs.

    A handler of the program's own is left alone, and only the main thread can have one.

    Args:
        scheduler: Ends its calls with `runwide.errors.Preempted` when it has drained.
        grace: Seconds that running tasks may take.
    """
    with _handled(lambda *_: scheduler.drain(grace)):
        yield


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
