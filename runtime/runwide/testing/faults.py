"""The fault table of a pool: one faulty task among good tasks, and the error that each fault must lead to.

Every fault is an importable function, so that any pool can be tested with the same table;
`tests/benchmarks/pool_faults.py` tests the pools that runwide can replace.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    ExceptionNotPortable,
    ItemNotLoadable,
    ResultNotLoadable,
    ResultNotPicklable,
    TaskTimeout,
    WorkerDied,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GUILTY = 5
"""Index of the faulty item."""

SECONDS = 0.15
"""Seconds that a good task takes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    Args:
        name: The fault in words.
        commit: The function of the faulty task; it gets the item.
        error: Type of the error that names the faulty item.
        message: A part of its text.
        item: Makes the faulty item, if that is not its index.
        timeout: Seconds for each task, if the pool supports a timeout.
    """

    name: str
    commit: Callable[[Any], Any]
    error: type[BaseException]
    message: str
    item: Callable[[], Any] | None = None
    timeout: float | None = None

    def task(self, item: Any) -> Any:
        """Run the mapped function: a good task for all items except the faulty one.

        Example:
            >>> table()["os._exit"].task(0)
            0
        """
        if isinstance(item, int) and item != GUILTY:
            time.sleep(SECONDS)
            return item
        return self.commit(item)

    def items(self, number: int = 12) -> list[Any]:
        """Return the items, with the faulty one."""
        return [self.item() if index == GUILTY and self.item else index for index in range(number)]


def table() -> dict[str, Fault]:
    """Return all faults by name.

    Example:
        >>> table()["SIGSEGV"].error.__name__
        'WorkerDied'
    """
    return {fault.name: fault for fault in _FAULTS}


def leave(_item: Any) -> None:
    """End the process without cleaning up."""
    os._exit(7)


def leave_politely(_item: Any) -> None:
    """Call ``sys.exit``, like a script."""
    sys.exit(3)


def segfault(_item: Any) -> None:
    """Read address 0."""
    ctypes.string_at(0)


def abort(_item: Any) -> None:
    """End like a failed C assertion."""
    os.abort()


def be_killed(_item: Any) -> None:
    """Be killed, like by an operator or the OOM killer."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def loop(_item: Any) -> None:
    """Never end."""
    while True:
        pass


def hold_the_gil(_item: Any) -> None:
    """Make a native call that does not end, blocks all threads, and ignores signals that Python handles."""
    ctypes.PyDLL(None).sleep(3600)


def be_stopped(_item: Any) -> None:
    """Be stopped like by a debugger: no thread of the worker answers any more."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def close_descriptors(_item: Any) -> None:
    """Close every file of the process like a daemon, also its connection to the pool."""
    os.closerange(3, 1000)
    time.sleep(60)


class NeedsArguments(Exception):
    """An exception that cannot be unpickled: pickle calls its class with one argument, and two are required."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


def raise_unloadable(_item: Any) -> None:
    """Raise an exception that pickles but does not unpickle."""
    raise NeedsArguments(42, "out of cheese")


class HoldsLock(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def raise_unpicklable(_item: Any) -> None:
    """Raise an exception that does not pickle."""
    raise HoldsLock("mine")


def return_unpicklable(_item: Any) -> Any:
    """Return an object that does not pickle."""
    return threading.Lock()


def _explode(*_args: Any) -> None:
    raise ValueError("it does not load")


class Explosive:
    """An object that pickles, and raises an exception when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def return_unloadable(_item: Any) -> Explosive:
    """Return an object that does not unpickle."""
    return Explosive()


class Deadly:
    """An object that pickles, and ends the process when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


class DeadlyToPickle:
    """An object that ends the process when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        os._exit(9)


def return_deadly_to_pickle(_item: Any) -> DeadlyToPickle:
    """Return an object that ends the process when it is pickled."""
    return DeadlyToPickle()


LARGE = 700 << 20


class Fuse:
    """An object that kills the process shortly after it was pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return int, ()


def die_in_mid_write(_item: Any) -> Any:
    """Be killed with a result of 700 MB that is pickled and not written yet."""
    return [bytearray(LARGE), Fuse()]


def pass_through(item: Any) -> Any:
    """Return the item, for faults of the item itself."""
    return item


_FAULTS = (
    Fault("os._exit", leave, WorkerDied, "exited with status 7"),
    Fault("sys.exit", leave_politely, WorkerDied, "sys.exit(3)"),
    Fault("SIGSEGV", segfault, WorkerDied, "SIGSEGV"),
    Fault("SIGABRT", abort, WorkerDied, "SIGABRT"),
    Fault("SIGKILL", be_killed, WorkerDied, "SIGKILL"),
    Fault("endless loop", loop, TaskTimeout, "1.5 s", timeout=1.5),
    Fault("native call that holds the GIL", hold_the_gil, TaskTimeout, "1.5 s", timeout=1.5),
    Fault("SIGSTOP", be_stopped, TaskTimeout, "1.5 s", timeout=1.5),
    Fault("descriptors closed", close_descriptors, WorkerDied, "closed its connection"),
    Fault("exception that fails to load", raise_unloadable, ExceptionNotPortable, "out of cheese"),
    Fault("exception that fails to pickle", raise_unpicklable, ExceptionNotPortable, "mine"),
    Fault("result that fails to pickle", return_unpicklable, ResultNotPicklable, "lock"),
    Fault("result that fails to load", return_unloadable, ResultNotLoadable, "it does not load"),
    Fault("result that kills where it is pickled", return_deadly_to_pickle, WorkerDied, "status 9"),
    Fault("item that fails to load", pass_through, ItemNotLoadable, "it does not load", item=Explosive),
    Fault("item that kills where it is loaded", pass_through, WorkerDied, "status 9", item=Deadly),
    Fault("SIGKILL in the middle of writing 700 MB", die_in_mid_write, WorkerDied, "SIGKILL"),
)
