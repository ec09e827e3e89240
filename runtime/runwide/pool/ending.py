"""Tells whether the program is ending."""

from __future__ import annotations

import sys
import threading

from runwide.errors import PoolClosed


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
