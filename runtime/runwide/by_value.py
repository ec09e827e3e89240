"""Send functions and classes of some modules by value while something is pickled, as those of a script."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import ModuleType

_lock = threading.RLock()  # cloudpickle's registry is the whole process's
_added: list[ModuleType] = []
_depth = 0


class _Current(threading.local):
    """What this thread pickles.

    Args:
        by_name: Modules that go by name.
        sent: Modules of which something was sent by value.
    """

    def __init__(self) -> None:
        self.by_name: Collection[str] = ()
        self.sent: set[str] = set()


_current = _Current()


@contextmanager
def sent_by_value(by_name: Collection[str] = ()) -> Iterator[set[str]]:
    """Send what `registered` is called with by value, and forget that at the end.

    Args:
        by_name: Modules that go by name, since others import them that travel: their classes must be those of these.

    Returns:
        The names of the modules of which something was sent by value, as it is pickled.

    Example:
        >>> with sent_by_value() as sent:
        ...     registered(sent_by_value)
        >>> sent
        set()
    """
    global _depth  # noqa: PLW0603 - of the process, as the registry is
    before = _current.by_name, _current.sent
    _current.by_name, _current.sent = by_name, set()
    with _lock:
        _depth += 1
    try:
        yield _current.sent
    finally:
        _current.by_name, _current.sent = before
        with _lock:
            _depth -= 1
            while _added and not _depth:
                cloudpickle.unregister_pickle_by_value(_added.pop())


def goes_by_value(name: str) -> bool:
    """Return whether functions and classes of a module travel by value in what this thread pickles.

    Args:
        name: Its name.
    """
    from runwide import own  # slow to load, and not for workers

    return name not in _current.by_name and own.goes_by_value(name)


def registered(thing: Any) -> None:
    """Have a function or class travel by value, if its module is one of those; see `runwide.own.goes_by_value`."""
    name = thing.__module__
    if not isinstance(name, str) or not goes_by_value(name):
        return
    _current.sent.add(name)
    with _lock:
        if name not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(sys.modules[name])
            _added.append(sys.modules[name])
