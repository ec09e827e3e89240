"""Keep track of the classes and functions that this process has sent or received.

Definitions that another process cannot import (from ``__main__``, notebooks or function bodies) are pickled by value.
Loading such a pickle follows three rules:

- If the loading program has the class itself, that class is used and not changed, whether the pickle comes from a worker,
  from a store or from an earlier run of the same program.
- In a worker, the module ``__main__`` has the names that were received. A name is set again only if the program has changed
  it, so values that the initializer or a task has set, such as a loaded model, are kept.
- In other processes a definition is built once, without running the hooks that built the original class.
"""

from __future__ import annotations

import builtins
import gc
import os
import sys
import threading
import types
import weakref
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from runwide.pickling.identity import Identity, is_named, is_same, named, names, program, shape
from runwide.pickling.namespaces import Namespace, Variables, is_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_KEPT = 4096
"""Most classes that are kept alive for results that refer to them; a program makes few."""


class _Marks(Generic[T]):
    """Values by the identity of an object, while the object exists."""

    def __init__(self) -> None:
        self._values: dict[int, tuple[weakref.ref[Any], T]] = {}

    def get(self, thing: object) -> T | None:
        found = self._values.get(id(thing))
        return None if found is None else found[1]

    def put(self, thing: object, value: T) -> None:
        place = id(thing)
        self._values[place] = weakref.ref(thing, lambda _: self._values.pop(place, None)), value

    def drop(self, thing: object) -> None:
        self._values.pop(id(thing), None)


class Registry:
    """Definitions of this process, and definitions that it has received."""

    def __init__(self) -> None:
        self.origin = os.urandom(8).hex()  # the name of this process
        self.worker = False
        self.has_classes = False
        self.main: types.ModuleType | None = None  # the original module, whose code still runs
        self.own: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.identities: _Marks[Identity] = _Marks()
        self.keys: _Marks[str] = _Marks()  # of functions
        self.arrived: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self.unfinished: _Marks[bool] = _Marks()
        self.versions: _Marks[Any] = _Marks()  # of received definitions
        self.returnable: _Marks[bool] = _Marks()  # classes that the parent process can find by their key
        self.kept: dict[int, type] = {}
        self.shared: dict[str, Namespace] = {}
        self.learned: dict[str, Any] = {}
        self.variables = Variables()
        self.initializers: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.filled: set[tuple[str, str]] = set()
        """Module and name of objects that have the content that was pickled."""
        self.lock = threading.RLock()


registry = Registry()


def _renew_origin() -> None:
    registry.origin = os.urandom(8).hex()
    registry.lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # nothing forks on Windows
    os.register_at_fork(after_in_child=_renew_origin)


def origin() -> str:
    """Return the name of this process, which no other process has."""
    return registry.origin


def become_worker() -> None:
    """Give this process a new ``__main__`` module, which receives the names of the program."""
    registry.worker = True
    registry.main = sys.modules["__main__"]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    sys.modules["__mp_main__"] = main  # its name in processes of multiprocessing, and in pickles from them
    main.__dict__["__builtins__"] = builtins
    registry.shared["__main__"] = Namespace(vars(main))  # before any code of the program puts names there


def identity(kind: type, content: Callable[[type], str]) -> Identity:
    """Return the identity of a class, which is the same in every process that has the same source.

    A notebook cell that runs twice makes two classes with the same identity; results have the class that was sent last.
    Local classes with the same content get numbers in the order in which they are sent.

    Example:
        >>> class Point: ...
        >>> identity(Point, repr) == identity(Point, repr), identity(Point, repr) == identity(int, repr)
        (True, False)
    """
    with registry.lock:
        found = registry.identities.get(kind)
        if found is None:
            found = _identified(kind, content)
            registry.identities.put(kind, found)
        if registry.arrived.get(found) is not kind:
            registry.own[found.key] = kind
        return found


def _identified(kind: type, content: Callable[[type], str]) -> Identity:
    module, qualname = str(kind.__module__), str(kind.__qualname__)
    if registry.worker:
        qualname, key = "", f"{module}:#{os.urandom(8).hex()}"  # the program cannot have this class
    elif is_named(kind):
        key = _key_of_named(f"{module}:{qualname}", kind, content)
    else:
        qualname = ""  # another run of the program could not find it by its name
        key = _numbered(f"{module}:#{content(kind)}")
    # Interned texts make pickles of several identities the same in every process.
    return Identity(*map(sys.intern, (key, module, qualname, shape(kind), names(kind), program())))


def _key_of_named(key: str, kind: type, content: Callable[[type], str]) -> str:
    if registry.own.get(key) is None or content(registry.own[key]) == content(kind) or _is_gone(key):
        return key
    return _numbered(f"{key}#{content(kind)}")


def _numbered(key: str) -> str:
    keys = chain((key,), (f"{key}.{number}" for number in count(2)))
    return next(one for one in keys if registry.own.get(one) is None or _is_gone(one))


def _is_gone(key: str) -> bool:
    """Return whether the class of a key is unreachable, as after its function has returned; needs a garbage collection."""
    kept = registry.kept.pop(id(registry.own.get(key)), None) is not None
    gc.collect()
    used = registry.own.get(key)
    if used is not None and kept:
        registry.kept[id(used)] = used
    return used is None


def key_of(function: Any) -> str:
    """Return the key by which this process and its workers refer to a function."""
    with registry.lock:
        found = registry.keys.get(function)
        if found is None:
            found = f"{registry.origin}:{os.urandom(8).hex()}"
            registry.keys.put(function, found)
            registry.own[found] = function
        return found


def note_initializer(initializer: Any) -> None:
    """Let functions share closure variables, and globals that belong to no module, with an initializer."""
    for function in _functions_of(initializer, set()):
        registry.initializers.setdefault(key_of(function), function)


def _functions_of(value: Any, seen: set[int]) -> Iterator[types.FunctionType]:
    """Yield the functions that a callable consists of."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, partial):
        yield from _functions_of(value.func, seen)
    elif isinstance(value, types.MethodType):
        yield from _functions_of(value.__func__, seen)
    elif isinstance(value, types.FunctionType):
        yield value
        for cell in value.__closure__ or ():
            if not is_empty(cell):
                yield from _functions_of(cell.cell_contents, seen)


def key_of_cell(cell: types.CellType) -> str | None:
    """Return the key of a closure variable that an initializer in use has; None for other variables."""
    for key, function in list(registry.initializers.items()):
        for number, theirs in enumerate(function.__closure__ or ()):
            if theirs is cell:
                return f"{key}:{number}"
    return None


def key_of_globals(values: dict[str, Any]) -> str | None:
    """Return the key of globals that belong to no module, as with `exec`; None if no initializer in use has them."""
    for key, function in list(registry.initializers.items()):
        if function.__globals__ is values:
            return f"{key}:globals"
    return None


def function_at(module: str, qualname: str) -> Any:
    """Return the function of a loaded module by its qualified name; for a static or class method, the function in it."""
    theirs = named(module, qualname)
    return getattr(theirs, "__func__", theirs)


def keep(kind: type) -> None:
    """Keep a class alive that is sent to workers, since results refer to it by its key."""
    with registry.lock:
        registry.kept.setdefault(id(kind), kind)
        if len(registry.kept) > _KEPT:
            del registry.kept[next(iter(registry.kept))]


def has_classes() -> bool:
    """Return whether any class was received by value, so that a class cannot be identified by its name alone."""
    return registry.has_classes


def is_returnable(kind: type) -> bool:
    """Return whether the process that started this one can find a class by its key."""
    return registry.returnable.get(kind) is not None


def own(key: str) -> Any:
    """Return the class of this program with this key; `LookupError` if it does not exist any more."""
    found = registry.own.get(key)
    if found is None:
        raise LookupError(
            f"the class {key} is gone from this program; keep a reference to it while tasks run"
        )
    return found


def find_class(wanted: Identity) -> type | None:
    """Return the class with this identity, or None if this process does not have it."""
    mine: type | None = registry.own.get(wanted.key)
    if mine is not None and (registry.identities.get(mine) == wanted or is_same(mine, wanted)):
        return mine
    known: type | None = registry.arrived.get(wanted)
    if known is None and wanted.qualname and not registry.worker:
        _load(wanted.module)
        theirs: type = named(wanted.module, wanted.qualname)
        if is_same(theirs, wanted):
            return theirs
    return known


def _load(module: str) -> None:
    """Import a module of the program if it exists here: functions that are pickled by name must use the same classes."""
    if module not in sys.modules and module != "__main__":
        with suppress(Exception):  # the module is not here, and its classes came by value
            import_module(module)


def has_arrived(kind: Any) -> bool:
    """Return whether a class was built here from a pickle."""
    found = registry.identities.get(kind)
    return found is not None and registry.arrived.get(found) is kind


def find_function(key: str | None, version: Any) -> Any:
    """Return the function of a key: this program's own, or a received one if it has this version."""
    if key is None:
        return None
    mine = registry.own.get(key)
    if mine is not None:
        return mine
    arrived = registry.arrived.get(key)
    if arrived is None or version is None or registry.versions.get(arrived) != version:
        return None
    return arrived


def register_function(function: Any, key: str | None, version: Any) -> None:
    """Register a function that is being built from a pickle."""
    registry.unfinished.put(function, True)
    if key is not None:
        registry.arrived[key] = function
        registry.keys.put(function, key)
        registry.versions.put(function, version)
