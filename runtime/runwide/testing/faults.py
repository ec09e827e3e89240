"""The fault table of a pool: one guilty task among innocent ones, and what must become of each.

Every fault is an importable function, so that any pool can be held against the same table;
`tests/benchmarks/pool_faults.py` does so with those that runwide would replace.
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
"""Index of the guilty item."""

SECONDS = 0.15
"""How long an innocent task takes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    Args:
        name: What happens.
        commit: What the guilty task does; it gets the item.
        error: Type of the error that names the guilty item.
        message: A part of its text.
        item: Makes the guilty item, where that is not its index.
        timeout: Seconds per task that the pool is given, where it can take any.
    """

    name: str
    commit: Callable[[Any], Any]
    error: type[BaseException]
    message: str
    item: Callable[[], Any] | None = None
    timeout: float | None = None

    def task(self, item: Any) -> Any:
        """The function to map: innocent for all but the guilty item.

        Example:
            >>> table()["os._exit"].task(0)
            0
        """
        if isinstance(item, int) and item != GUILTY:
            time.sleep(SECONDS)
            return item
        return self.commit(item)

    def items(self, number: int = 12) -> list[Any]:
        """The input, the guilty one among them."""
        return [self.item() if index == GUILTY and self.item else index for index in range(number)]


def table() -> dict[str, Fault]:
    """All faults by name.

    Example:
        >>> table()["SIGSEGV"].error.__name__
        'WorkerDied'
    """
    return {fault.name: fault for fault in _FAULTS}


def leave(_item: Any) -> None:
    """End the process without a word."""
    os._exit(7)


def leave_politely(_item: Any) -> None:
    """Call ``sys.exit``, as a script would."""
    sys.exit(3)


def segfault(_item: Any) -> None:
    """Read address 0."""
    ctypes.string_at(0)


def abort(_item: Any) -> None:
    """What a failed C assertion does."""
    os.abort()


def be_killed(_item: Any) -> None:
    """What anybody may do to a process."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def loop(_item: Any) -> None:
    """Never end."""
    while True:
        pass


def hold_the_gil(_item: Any) -> None:
    """A native call that does not end, lets no thread run, and ignores signals that Python handles."""
    ctypes.PyDLL(None).sleep(3600)


def be_stopped(_item: Any) -> None:
    """Be stopped as by a debugger: no thread of the worker answers any more."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def close_descriptors(_item: Any) -> None:
    """Close every file of the process, as a daemon would; its line to the pool is among them."""
    os.closerange(3, 1000)
    time.sleep(60)


class NeedsArguments(Exception):
    """Cannot be unpickled: what pickle calls has two required arguments and gets one."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


def raise_unloadable(_item: Any) -> None:
    """Raise what pickles but does not unpickle."""
    raise NeedsArguments(42, "out of cheese")


class HoldsLock(Exception):
    """Cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def raise_unpicklable(_item: Any) -> None:
    """Raise what does not pickle."""
    raise HoldsLock("mine")


def return_unpicklable(_item: Any) -> Any:
    """Return what does not pickle."""
    return threading.Lock()


def _explode(*_args: Any) -> None:
    raise ValueError("it does not load")


class Explosive:
    """Pickles, and raises where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def return_unloadable(_item: Any) -> Explosive:
    """Return what does not unpickle."""
    return Explosive()


class Deadly:
    """Pickles, and ends the process where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


class DeadlyToPickle:
    """Ends the process where it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        os._exit(9)


def return_deadly_to_pickle(_item: Any) -> DeadlyToPickle:
    """Return what ends the process while it is pickled."""
    return DeadlyToPickle()


LARGE = 700 << 20


class Fuse:
    """Kills the process a little after it was pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return int, ()


def die_in_mid_write(_item: Any) -> Any:
    """Be killed while a result of 700 MB is on its way: pickled, and not written yet."""
    return [bytearray(LARGE), Fuse()]


def pass_through(item: Any) -> Any:
    """Return the item; for faults that the item commits."""
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
    Fault("descriptors closed", close_descriptors, WorkerDied, "ended its line"),
    Fault("exception that fails to load", raise_unloadable, ExceptionNotPortable, "out of cheese"),
    Fault("exception that fails to pickle", raise_unpicklable, ExceptionNotPortable, "mine"),
    Fault("result that fails to pickle", return_unpicklable, ResultNotPicklable, "lock"),
    Fault("result that fails to load", return_unloadable, ResultNotLoadable, "it does not load"),
    Fault("result that kills where it is pickled", return_deadly_to_pickle, WorkerDied, "status 9"),
    Fault("item that fails to load", pass_through, ItemNotLoadable, "it does not load", item=Explosive),
    Fault("item that kills where it is loaded", pass_through, WorkerDied, "status 9", item=Deadly),
    Fault("SIGKILL in the middle of writing 700 MB", die_in_mid_write, WorkerDied, "SIGKILL"),
)
