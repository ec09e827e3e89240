"""Classes and functions of a program in other processes: they arrive once, and come back as themselves.

What another process cannot import (``__main__``, notebooks, local classes) is pickled with its definition. Three rules hold
where such a pickle is loaded:

- A class of the program that loads it is that very class, and its state is left alone, whether the pickle comes from a
  worker, from a store or from an earlier run of the same program.
- In a worker the module ``__main__`` has the names that have arrived. A name is set again only when the program has changed
  it: what a task has put there, such as a model that is loaded once, stays.
- Elsewhere a definition is built once, without running the hooks that made the first class of it.
"""

from __future__ import annotations

import builtins
import os
import pickle
import sys
import threading
import types
import weakref
from collections import deque
from contextlib import suppress
from functools import cached_property, lru_cache, singledispatch, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from runwide.identity import Identity, is_same, named, names, program, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


class _State:
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
        self.kept: deque[type] = deque(maxlen=_KEPT)
        self.shared: dict[str, Namespace] = {}
        self.learned: dict[str, Any] = {}
        self.unlearned: dict[str, BaseException] = {}
        self.lock = threading.RLock()


class Namespace:
    """The globals of functions that came by value.

    Args:
        values: The dict itself.
        live: Whether it is a module of this process, which keeps what it has.
    """

    def __init__(self, values: dict[str, Any], *, live: bool = False) -> None:
        self.values = values
        self.live = live
        self._versions: dict[str, Any] = {}

    def receive(self, values: Mapping[str, Any], versions: Mapping[str, Any] | None) -> None:
        """Take the program's values of some names.

        Args:
            values: By name.
            versions: What tells whether the program has changed them: those of before are not set again, None is always
                set. Without any, names that are there already are left alone.
        """
        if self.live:
            return
        for name, value in values.items():
            if versions is None:
                self.values.setdefault(name, value)
                continue
            version = versions.get(name)
            if version is None or self._versions.get(name) != version:
                self.values[name] = value
                self._versions[name] = version


_state = _State()


def _renew_origin() -> None:
    _state.origin = os.urandom(8).hex()
    _state.lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_origin)


def origin() -> str:
    """Return the name of this process, other in each."""
    return _state.origin


def become_worker() -> None:
    """Give this process a ``__main__`` of its own, which gets the names of the program as they arrive."""
    _state.worker = True
    _state.main = sys.modules["__main__"]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    sys.modules["__mp_main__"] = (
        main  # so called in what multiprocessing spawns, and in what comes back from there
    )
    main.__dict__["__builtins__"] = builtins


# Names


def identity(kind: type) -> Identity:
    """Return how a class is recognized elsewhere; always the same for one class.

    Example:
        >>> class Point: ...
        >>> identity(Point) == identity(Point), identity(Point) == identity(int)
        (True, False)
    """
    with _state.lock:
        found = _state.identities.get(kind)
        if found is None:
            found = _identified(kind)
            _state.identities.put(kind, found)
            _state.own[found.key] = kind
        return found


def _identified(kind: type) -> Identity:
    module, qualname = str(kind.__module__), str(kind.__qualname__)
    if _state.worker or named(module, qualname) is not kind:
        qualname = ""  # another run of the program would not find it by that
    key = f"{module}:{qualname}"
    if not qualname or _state.own.get(key) is not None:
        key = f"{key}#{os.urandom(8).hex()}"
    return Identity(key, module, qualname, shape(kind), names(kind), program())


def key_of(function: Any) -> str:
    """Return what names a function between this process and its workers."""
    with _state.lock:
        found = _state.keys.get(function)
        if found is None:
            found = f"{_state.origin}:{os.urandom(8).hex()}"
            _state.keys.put(function, found)
            _state.own[found] = function
        return found


def keep(kind: type) -> None:
    """Keep a class that is sent to workers, whose results name it by its key."""
    if not _state.kept or _state.kept[-1] is not kind:
        _state.kept.append(kind)


def has_classes() -> bool:
    """Whether any class has arrived by value, so that names alone do not tell which is meant."""
    return _state.has_classes


def is_returnable(kind: type) -> bool:
    """Whether the process that started this one knows a class by its key."""
    return _state.returnable.get(kind) is not None


def own(key: str) -> Any:
    """Return the class of this program that has this key.

    Raises:
        LookupError: There is none any more.
    """
    found = _state.own.get(key)
    if found is None:
        raise LookupError(f"the class {key} is gone from this program; keep it while tasks run")
    return found


def _found(wanted: Identity) -> type | None:
    """Return the class that is meant, if this process has it."""
    mine = _state.own.get(wanted.key)
    if mine is not None and (_state.identities.get(mine) == wanted or is_same(mine, wanted)):
        return mine  # type: ignore[no-any-return]
    known: type | None = _state.arrived.get(wanted)
    if known is None and wanted.qualname and not _state.worker:
        theirs = named(wanted.module, wanted.qualname)
        return theirs if is_same(theirs, wanted) else None
    return known


# Called by pickles


def namespace(module: str | None, origin: str | None, about: dict[str, Any]) -> Namespace:
    """Return the globals for functions of a module.

    Args:
        module: Its name; None for globals that are no module's.
        origin: The process that pickled them for its workers; None for a store.
        about: What relative imports need, such as ``__package__``.
    """
    if module is not None and origin == _state.origin:
        return Namespace(vars(sys.modules[module]), live=True)
    if module is None or not _state.worker:
        return Namespace({**about, "__builtins__": builtins})
    if module not in _state.shared:
        values = vars(sys.modules["__main__"]) if module == "__main__" else {"__builtins__": builtins}
        _state.shared[module] = Namespace(values)
    shared = _state.shared[module]
    shared.values.update(about)
    return shared


def learn(key: str, data: bytes) -> None:
    """Load the definition to which later pickles refer by its key; where it fails, each of those does."""
    try:
        _state.learned[key] = pickle.loads(data)
        _state.unlearned.pop(key, None)
    except BaseException as error:  # the code of the user's classes runs here
        _state.unlearned[key] = error


def learned(key: str) -> Any:
    """Return the definition of that key.

    Raises:
        Exception: What loading it has raised.
    """
    if key in _state.unlearned:
        raise _state.unlearned[key]
    return _state.learned[key]


def make_function(
    key: str | None, version: Any, globals_: Namespace, code: types.CodeType, home: tuple[str, str] | None
) -> types.FunctionType:
    """Return the function that is meant, or one to be completed by `set_function`.

    Args:
        key: What names it between a program and its workers; None in a store.
        version: What is different when the program has changed it.
        globals_: Its globals.
        code: Its code.
        home: Module and name that it has; a program that has the same function there gets its own.
    """
    known = _known(key, version)
    if known is None and home is not None and not _state.worker:
        theirs = named(*home)
        known = theirs if getattr(theirs, "__code__", None) == code else None
    if known is not None:
        return known  # type: ignore[no-any-return]
    cells = tuple(types.CellType() for _ in code.co_freevars) or None
    function = types.FunctionType(code, globals_.values, code.co_name, None, cells)
    _arrive(function, key, version)
    return function


def set_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    """Complete a function, and bring the globals that it uses up to date."""
    globals_: Namespace = state["namespace"]
    globals_.receive(state["globals"], state["versions"])
    _go_home(function, state["home"])
    if not _state.unfinished.get(function):
        return
    for cell, theirs in zip(function.__closure__ or (), state["closure"] or (), strict=True):
        with suppress(ValueError):  # it is empty yet
            cell.cell_contents = theirs.cell_contents
    for name, value in state["attributes"].items():
        setattr(function, name, value)
    function.__dict__.update(state["dict"])
    _state.unfinished.drop(function)


def make_cached(
    key: str | None, version: Any, function: Callable[..., Any], parameters: dict[str, Any]
) -> Any:
    """Return a function under ``functools.lru_cache``, which keeps what it has in a worker."""
    known = _known(key, version)
    if known is not None:
        return known
    cached = lru_cache(**parameters)(function)
    _arrive(cached, key, version)
    return cached


def make_single_dispatch(key: str | None, version: Any) -> Any:
    """Return a function of ``functools.singledispatch``, to be completed by `set_single_dispatch`."""
    known = _known(key, version)
    if known is not None:
        return known
    made = singledispatch(lambda *_: None)
    _arrive(made, key, version)
    return made


def set_single_dispatch(function: Any, state: tuple[dict[Any, Any], dict[str, Any], Any]) -> None:
    """Register the implementations of a function of ``functools.singledispatch``."""
    registry, attributes, home = state
    _go_home(function, home)
    if not _state.unfinished.get(function):
        return
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    update_wrapper(function, registry[object])
    for name, value in attributes.items():
        setattr(function, name, value)
    _state.unfinished.drop(function)


def make_cached_property(function: Callable[[Any], Any], name: str | None, doc: str | None) -> Any:
    """Return a ``functools.cached_property``, whose lock of Pythons before 3.12 stays where it is."""
    made: Any = cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


def set_home(thing: Any, home: Any) -> None:
    """Put something that has arrived under its name in its module."""
    _go_home(thing, home)


def make_class(
    wanted: Identity, origin: str | None, make: Callable[..., type], arguments: tuple[Any, ...]
) -> type:
    """Return the class that is meant, or one to be completed by `set_class`.

    Args:
        wanted: How it is recognized.
        origin: The process that pickled it for its workers; None for a store.
        make: Builds it where this process does not have it, as `runwide.building.build_class` does.
        arguments: Of that.
    """
    with _state.lock:
        kind = _found(wanted)
        if kind is None:
            kind = make(*arguments)
            _state.arrived[wanted] = kind
            _state.identities.put(kind, wanted)
            _state.unfinished.put(kind, True)
        _state.has_classes = True
        if origin is not None and _state.worker:
            _state.returnable.put(kind, True)
        return kind


def prepare_class(kind: Any, attributes: dict[str, Any], empty: dict[str, Callable[[], Any]]) -> None:
    """Set what instances may need that are loaded with their class, as where a class keeps all its instances.

    Args:
        kind: A class, perhaps to be completed by `set_class`.
        attributes: Its functions.
        empty: Makes the containers among its attributes, by name; they are filled later.
    """
    if has_arrived(kind) and _state.unfinished.get(kind):
        for name, value in (*attributes.items(), *((name, made()) for name, made in empty.items())):
            _set(kind, name, value)


def _set(kind: Any, name: str, value: Any) -> None:
    """Set an attribute, not by the metaclass where that can be: its own ``__setattr__`` may refuse it."""
    try:
        type.__setattr__(kind, name, value)
    except TypeError:  # the metaclass is one of C
        setattr(kind, name, value)


def set_class(kind: Any, state: dict[str, Any]) -> None:
    """Complete a class that was built here; in a worker, take over what the program has changed since."""
    if not has_arrived(kind):
        return  # it is this program's own
    attributes, versions = state["attributes"], state["versions"]
    before = _state.versions.get(kind) or {}
    if not _state.unfinished.get(kind):
        if versions is None or not _state.worker:
            return
        attributes = {name: value for name, value in attributes.items() if _is_new(name, versions, before)}
    for name, value in attributes.items():
        if name != "_abc_impl":
            _set(kind, name, value)
    for registered in attributes.get("_abc_impl", ()):
        kind.register(registered)
    if "__firstlineno__" in attributes:  # which setting another attribute removes
        _set(kind, "__firstlineno__", attributes["__firstlineno__"])
    for name, own in state["members"].items():
        member = kind._member_map_[name]
        vars(member).update(own)
        with suppress(TypeError):  # the value has no hash
            kind._value2member_map_[member._value_] = member
    _state.versions.put(kind, versions)
    for globals_, values, theirs in state["related"]:
        globals_.receive(values, theirs)
    _go_home(kind, state["home"])
    _state.unfinished.drop(kind)


def has_arrived(kind: Any) -> bool:
    """Whether a class was built here from a pickle."""
    found = _state.identities.get(kind)
    return found is not None and _state.arrived.get(found) is kind


def _known(key: str | None, version: Any) -> Any:
    """Return the function of a key: this program's own, or one that has arrived in this version."""
    if key is None:
        return None
    mine = _state.own.get(key)
    if mine is not None:
        return mine
    arrived = _state.arrived.get(key)
    return (
        arrived
        if arrived is not None and version is not None and _state.versions.get(arrived) == version
        else None
    )


def _arrive(function: Any, key: str | None, version: Any) -> None:
    _state.unfinished.put(function, True)
    if key is not None:
        _state.arrived[key] = function
        _state.keys.put(function, key)
        _state.versions.put(function, version)


def _go_home(thing: Any, home: tuple[Namespace, str, Any] | None) -> None:
    if home is not None and _state.worker:
        globals_, name, version = home
        globals_.receive({name: thing}, None if version is None else {name: version})


def _is_new(name: str, versions: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return versions.get(name) is None or versions.get(name) != before.get(name)
