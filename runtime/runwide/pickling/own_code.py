"""Refer from a pickle to the program's own modules, or send their definitions by value."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle

from runwide.pickling import Reduced
from runwide.pickling.loading import SHARED, own_namespace, own_object
from runwide.pickling.places import own_file, own_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


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
    from runwide.code import finding  # slow to load, and workers do not need it

    return name not in _current.by_name and finding.goes_by_value(name)


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


_PATH = 4096  # characters of a path
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that was made at run time


def travels(module: str) -> bool:
    """Return whether a component imports a module by name, from the code that is sent with the job."""
    from runwide.code import finding  # slow to load, and workers do not need it

    return module != "__main__" and finding.kind_of(module) == "own" and not goes_by_value(module)


class OwnModule(Reduced):
    """A reference to the globals of a module that travels."""

    def __init__(self, name: str) -> None:
        super().__init__(own_namespace, name)


class OwnObject(Reduced):
    """A reference to an object of a module that travels; its value is None if it has no state."""

    def __init__(self, module: str, name: str, value: Any = None) -> None:
        super().__init__(own_object, module, name, value)
        self.module = module


class Homes:
    """The module and name of each object that an archived module defines."""

    def __init__(self) -> None:
        self._homes: dict[int, tuple[str, str]] | None = None

    def of(self, value: Any) -> OwnObject | None:
        """Return a reference to an object that a module has and whose content can be sent, or that has none; else None."""
        if is_sentinel(value):
            return self._found(value, None)
        return self._found(value, value) if type(value) in SHARED else None

    def _found(self, value: Any, state: Any) -> OwnObject | None:
        if self._homes is None:
            from runwide.code import finding  # workers do not need it

            self._homes = {
                id(one): (module, name)
                for module in finding.loaded()
                if travels(module)
                for name, one in list(vars(sys.modules[module]).items())
                if type(one) in SHARED or is_sentinel(one)
            }
        home = self._homes.get(id(value))
        return None if home is None else OwnObject(*home, state)


def is_sentinel(value: Any) -> bool:
    """Return whether only the identity of an object matters: it is an `object`, or of a user's class without state."""
    kind: Any = type(value)
    return kind is object or (
        kind.__flags__ & _HEAP != 0
        and kind.__base__ is object
        and kind.__reduce_ex__ is object.__reduce_ex__
        and not issubclass(kind, (type, ModuleType))
        and getattr(value, "__dict__", None) == {}
        and not vars(kind).get("__slots__")
    )


class OwnPath(Reduced):
    """A reference to a path in the folder ``package`` of the archive, beside a function that travels by value."""

    def __init__(self, package: str, path: str, *, is_text: bool) -> None:
        super().__init__(own_file if is_text else own_path, f"{package}/{path}".strip("/"))
        self.path = path


def own_paths(function: Any, values: Mapping[str, Any]) -> dict[str, OwnPath]:
    """Find paths that a program has computed from the name of its file: the folder of the file, and paths below it."""
    file = function.__globals__.get("__file__")
    if not isinstance(file, str):
        return {}
    module = getattr(function.__globals__.get("__spec__"), "name", None)
    package = module.rpartition(".")[0].replace(".", "/") if isinstance(module, str) else ""
    folder = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 - links stay as they are
    from runwide.code.paths import derived_in  # workers do not need it

    found = {}
    for name in derived_in(file).intersection(values):
        value = values[name]
        if isinstance(value, Path) or type(value) is str:
            path = _below(str(value), folder)
            if path is not None:
                found[name] = OwnPath(package, path, is_text=type(value) is str)
    return found


def _below(path: str, folder: str) -> str | None:
    """Return an absolute path that exists below a folder relative to the folder; None for any other text."""
    place = os.path.normpath(path)
    if not os.path.isabs(path) or len(path) > _PATH or not f"{place}{os.sep}".startswith(f"{folder}{os.sep}"):  # noqa: PTH117 - a text
        return None
    return os.path.relpath(place, folder).replace(os.sep, "/") if os.path.exists(place) else None  # noqa: PTH110 - likewise
