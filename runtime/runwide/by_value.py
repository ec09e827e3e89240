"""Pickle functions and classes of some modules by value, as those of a script."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import ModuleType

_lock = threading.RLock()  # cloudpickle has one registry for the whole process
_added: list[ModuleType] = []
_depth = 0


class _Current(threading.local):
    """The modules of the pickle that this thread writes: those to pickle by name, and those pickled by value so far."""

    def __init__(self) -> None:
        self.by_name: Collection[str] = ()
        self.sent: set[str] = set()


_current = _Current()


@contextmanager
def sent_by_value(by_name: Collection[str] = ()) -> Iterator[set[str]]:
    """Pickle the definitions that `register` is called with by value, until the end of the block.

    Args:
        by_name: Modules to pickle by name, since modules that travel import them and must share their classes.

    Returns:
        The names of the modules of which a definition was pickled by value; the set grows while pickling.

    Example:
        >>> with sent_by_value() as sent:
        ...     register(sent_by_value)
        >>> sent
        set()
    """
    global _depth  # noqa: PLW0603 - one per process, like the registry
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
    """Return whether functions and classes of a module travel by value in the pickle that this thread writes."""
    from runwide import own  # slow to load, and workers do not need it

    return name not in _current.by_name and own.goes_by_value(name)


def register(thing: Any) -> None:
    """Pickle a function or class by value if `goes_by_value` says so for its module."""
    name = thing.__module__
    if not isinstance(name, str) or not goes_by_value(name):
        return
    _current.sent.add(name)
    with _lock:
        if name not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(sys.modules[name])
            _added.append(sys.modules[name])
