"""Leave in order when SIGTERM comes, as a preempted machine or a stopped container sends it."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runwide.errors import Preempted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def leaves_on_sigterm() -> Iterator[None]:
    """Have SIGTERM raise `runwide.errors.Preempted` while the block runs, so that it is left in order.

    A pool that runs inside of the block is drained first.
    """
    with handled(leave):
        yield


def leave(*_: Any) -> None:
    """Raise `runwide.errors.Preempted`, as a handler of SIGTERM."""
    raise Preempted("stopped by SIGTERM; what had finished is kept", hint="run it again to go on")


@contextmanager
def handled(handler: Callable[..., None]) -> Iterator[None]:
    """Have SIGTERM call a handler while the block runs, where the program has none and this is its main thread.

    Args:
        handler: Called as Python calls handlers of signals.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if not in_main or before not in (signal.SIG_DFL, leave):
        yield
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        # elsewhere it is the garbage collector that closes an iterator
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
