"""Tells whether the program is ending."""

from __future__ import annotations

import sys
import threading
from importlib import import_module

from runwide.errors import PoolClosed

_REGISTER = "_register_atexit"  # of `threading`, since Python 3.9


def is_over(*, with_main: bool) -> bool:
    """Whether the interpreter is shutting down.

    Args:
        with_main: Whether that begins where the main thread ends, as for the standard executors; other threads may go on,
            and functions of `atexit` are called after that. Otherwise it begins when threads do not run any more.

    Example:
        >>> is_over(with_main=True)
        False
    """
    return sys.is_finalizing() or (with_main and not threading.main_thread().is_alive())


def check_interpreter(*, with_main: bool = False) -> None:
    """Make sure that threads still run: without them, a pool would be waited for without end.

    Args:
        with_main: As of `is_over`.

    Raises:
        PoolClosed: They do not.

    Example:
        >>> check_interpreter()
    """
    if is_over(with_main=with_main):
        raise PoolClosed("cannot run tasks after interpreter shutdown")


def load(module: str) -> None:
    """Import what imports `concurrent.futures.process`, also in a thread that goes on when the main thread has ended.

    That module registers what ends its own executors then, which Python refuses when the time for it has passed. Nobody
    can have an executor of a module that was not loaded, so there is nothing to register.

    Example:
        >>> load("concurrent.futures.process")
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
