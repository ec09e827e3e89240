"""Classes and functions of a program in other processes: they arrive once, and come back as themselves.

What another process cannot import (``__main__``, notebooks, local classes) is pickled with its definition. Three rules hold
where such a pickle is loaded:

- A class of the program that loads it is that very class, and its state is left alone, whether the pickle comes from a
  worker, from a store or from an earlier run of the same program.
- In a worker the module ``__main__`` has the names that have arrived. A name is set again only when the program has changed
  it: what the initializer or a task has put there, such as a model that is loaded once, stays.
- Elsewhere a definition is built once, without running the hooks that made the first class of it.
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

from runwide.identity import Identity, is_named, is_same, named, names, program, shape
from runwide.namespaces import Namespace, Variables, is_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_KEPT = 4096
"""Classes that are kept alive for results that name them; a program makes a few."""


class _Marks(Generic[T]):
    """Values by object, looked up by identity, for as long as the object lives."""

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
    """What this process knows of its own definitions and of those that have arrived."""

    def __init__(self) -> None:
        self.origin = os.urandom(8).hex()  # names this process
        self.worker = False
        self.has_classes = False
        self.main: types.ModuleType | None = None  # the replaced one, whose code still runs
        self.own: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.identities: _Marks[Identity] = _Marks()
        self.keys: _Marks[str] = _Marks()  # of functions
        self.arrived: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self.unfinished: _Marks[bool] = _Marks()
        self.versions: _Marks[Any] = _Marks()  # of what has arrived, as the program has it
        self.returnable: _Marks[bool] = _Marks()  # classes that the parent knows by their key
        self.kept: dict[int, type] = {}
        self.shared: dict[str, Namespace] = {}
        self.learned: dict[str, Any] = {}
        self.variables = Variables()
        self.initializers: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.met: set[tuple[str, str]] = set()
        """Objects of modules that have what was in them where they were pickled: module and name."""
        self.lock = threading.RLock()


registry = Registry()


def _renew_origin() -> None:
    registry.origin = os.urandom(8).hex()
    registry.lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # nothing forks on Windows
    os.register_at_fork(after_in_child=_renew_origin)


def origin() -> str:
    """Return the name of this process, other in each."""
    return registry.origin


def become_worker() -> None:
    """Give this process a ``__main__`` of its own, which gets the names of the program as they arrive."""
    registry.worker = True
    registry.main = sys.modules["__main__"]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    sys.modules["__mp_main__"] = (
        main  # so called in what multiprocessing spawns, and in what comes back from there
    )
    main.__dict__["__builtins__"] = builtins
    registry.shared["__main__"] = Namespace(vars(main))  # before any code of the program puts names there


def identity(kind: type, content: Callable[[type], str]) -> Identity:
    """Return how a class is recognized elsewhere: the same in each process that has the same source.

    A cell that is run twice makes a class twice: both are recognized as one, and results have the class that was sent last.
    Local classes that are made of the same are numbered as they come.

    Args:
        kind: The class.
        content: Return a digest of what a class is made of.

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
        qualname, key = "", f"{module}:#{os.urandom(8).hex()}"  # named for the program, which cannot have it
    elif is_named(kind):
        key = _key_of_named(f"{module}:{qualname}", kind, content)
    else:
        qualname = ""  # another run of the program would not find it by that
        key = _numbered(f"{module}:#{content(kind)}")
    # equal texts are one object, so that a pickle of several identities is the same in each process
    return Identity(*map(sys.intern, (key, module, qualname, shape(kind), names(kind), program())))


def _key_of_named(key: str, kind: type, content: Callable[[type], str]) -> str:
    if registry.own.get(key) is None or content(registry.own[key]) == content(kind) or _is_gone(key):
        return key
    return _numbered(f"{key}#{content(kind)}")


def _numbered(key: str) -> str:
    keys = chain((key,), (f"{key}.{number}" for number in count(2)))
    return next(one for one in keys if registry.own.get(one) is None or _is_gone(one))


def _is_gone(key: str) -> bool:
    """Whether the class of a key is of no more use, as that of a function that has returned: only a collection tells."""
    kept = registry.kept.pop(id(registry.own.get(key)), None) is not None
    gc.collect()
    used = registry.own.get(key)
    if used is not None and kept:
        registry.kept[id(used)] = used
    return used is None


def key_of(function: Any) -> str:
    """Return what names a function between this process and its workers."""
    with registry.lock:
        found = registry.keys.get(function)
        if found is None:
            found = f"{registry.origin}:{os.urandom(8).hex()}"
            registry.keys.put(function, found)
            registry.own[found] = function
        return found


def note_initializer(initializer: Any) -> None:
    """Have functions share with an initializer what no module has: variables of enclosing functions, and other globals."""
    for function in _functions_of(initializer, set()):
        registry.initializers.setdefault(key_of(function), function)


def _functions_of(value: Any, seen: set[int]) -> Iterator[types.FunctionType]:
    """Yield the functions to which a callable leads."""
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
    """Return what names a variable of an initializer that is in use; None for any other variable."""
    for key, function in list(registry.initializers.items()):
        for number, theirs in enumerate(function.__closure__ or ()):
            if theirs is cell:
                return f"{key}:{number}"
    return None


def key_of_globals(values: dict[str, Any]) -> str | None:
    """Return what names globals that are no module's, as those of `exec`; None if no initializer in use has them."""
    for key, function in list(registry.initializers.items()):
        if function.__globals__ is values:
            return f"{key}:globals"
    return None


def function_at(module: str, qualname: str) -> Any:
    """Return the function that a loaded module has under a qualified name, also as a static or class method."""
    theirs = named(module, qualname)
    return getattr(theirs, "__func__", theirs)


def keep(kind: type) -> None:
    """Keep a class that is sent to workers, whose results name it by its key."""
    with registry.lock:
        registry.kept.setdefault(id(kind), kind)
        if len(registry.kept) > _KEPT:
            del registry.kept[next(iter(registry.kept))]


def has_classes() -> bool:
    """Whether any class has arrived by value, so that names alone do not tell which is meant."""
    return registry.has_classes


def is_returnable(kind: type) -> bool:
    """Whether the process that started this one knows a class by its key."""
    return registry.returnable.get(kind) is not None


def own(key: str) -> Any:
    """Return the class of this program that has this key.

    Raises:
        LookupError: There is none any more.
    """
    found = registry.own.get(key)
    if found is None:
        raise LookupError(f"the class {key} is gone from this program; keep it while tasks run")
    return found


def found(wanted: Identity) -> type | None:
    """Return the class that is meant, if this process has it."""
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
    """Load a module of the program if it is here too: its functions, which go by name, must meet its own classes."""
    if module not in sys.modules and module != "__main__":
        with suppress(Exception):  # it is not here, and its classes came by value
            import_module(module)


def has_arrived(kind: Any) -> bool:
    """Whether a class was built here from a pickle."""
    found = registry.identities.get(kind)
    return found is not None and registry.arrived.get(found) is kind


def known(key: str | None, version: Any) -> Any:
    """Return the function of a key: this program's own, or one that has arrived in this version."""
    if key is None:
        return None
    mine = registry.own.get(key)
    if mine is not None:
        return mine
    arrived = registry.arrived.get(key)
    return (
        arrived
        if arrived is not None and version is not None and registry.versions.get(arrived) == version
        else None
    )


def arrive(function: Any, key: str | None, version: Any) -> None:
    """Note that a function is being built from a pickle."""
    registry.unfinished.put(function, True)
    if key is not None:
        registry.arrived[key] = function
        registry.keys.put(function, key)
        registry.versions.put(function, version)
