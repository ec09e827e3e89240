"""SIGTERM, as a preempted machine or a stopped container sends it: finish what runs, start nothing more."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: scheduler.drain(grace))
    try:
        yield
    finally:
        if (
            threading.current_thread() is threading.main_thread()
        ):  # else the garbage collector closes an iterator
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
