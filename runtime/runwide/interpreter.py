"""Detect that the interpreter is shutting down."""

from __future__ import annotations

import sys
import threading
from importlib import import_module

from runwide.errors import PoolClosed

_REGISTER = "_register_atexit"  # of `threading`, since Python 3.9


def is_over(*, with_main: bool) -> bool:
    """Return whether the interpreter is shutting down.

    Args:
        with_main: If True, shutdown begins when the main thread ends, as for the standard executors; other threads may
            continue, and functions of `atexit` are called after that. If False, it begins when threads stop running.
    """
    return sys.is_finalizing() or (with_main and not threading.main_thread().is_alive())


def check_interpreter(*, with_main: bool = False) -> None:
    """Raise `PoolClosed` when threads do not run any more: waiting for a pool would never end."""
    if is_over(with_main=with_main):
        raise PoolClosed("cannot run tasks after interpreter shutdown")


def load(module: str) -> None:
    """Import a module that imports `concurrent.futures.process`, even in a thread after the main thread has ended.

    `concurrent.futures.process` registers a function that ends its executors. Python refuses that after the main thread has
    ended. A module that was not loaded has no executors, so there is nothing to register.
    """
    register = getattr(threading, _REGISTER, None)
    if register is None or not is_over(with_main=True):
        import_module(module)
        return
    setattr(threading, _REGISTER, lambda *_args, **_options: None)
    try:
        import_module(module)
    finally:
        setattr(threading, _REGISTER, register)
