"""The functions that a pickle of a definition calls when it is loaded."""

from __future__ import annotations

import builtins
import pickle
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from functools import cached_property, lru_cache, singledispatch, update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.pickling.definitions import (
    find_class,
    find_function,
    function_at,
    has_arrived,
    register_function,
    registry,
)
from runwide.pickling.namespaces import Namespace, changes, fill
from runwide.pickling.places import UNPACKED, placeless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.pickling.identity import Identity


def namespace(module: str | None, origin: str | None, about: dict[str, Any]) -> Namespace:
    """Return the globals for functions of a module.

    Args:
        module: The name of the module, or a key of globals that belong to none; if None, each pickle has new globals.
        origin: The process that pickled them for its workers; None for a store.
        about: Module attributes that relative imports need, such as ``__package__``.
    """
    if origin == registry.origin and module in sys.modules:
        return Namespace(vars(sys.modules[module]), live=True)
    if module is None or not registry.worker:
        return Namespace({**about, "__builtins__": builtins})
    shared = registry.shared.get("__main__" if module == "__mp_main__" else module)
    if shared is None:
        shared = registry.shared[module] = Namespace({"__builtins__": builtins})
    shared.values.update(about)
    return shared


def own_namespace(module: str) -> Namespace:
    """Return the globals of a module that was sent with the pickle, for functions of the module that have no name."""
    return Namespace(vars(import_module(module)), live=True)


SHARED = frozenset({dict, list, set, defaultdict, OrderedDict, Counter, deque})
"""Types of objects that functions share with the module that has them, also in a component."""


def own_object(module: str, name: str, state: Any) -> Any:
    """Return an object of a module that was sent with the pickle, with the ``state`` that it had when it was pickled."""
    home = import_module(module)
    found: Any = vars(home).get(name)
    if state is None:
        return found
    if type(found) is not type(state):
        return state
    if UNPACKED in (getattr(home, "__file__", None) or "") and (module, name) not in registry.filled:
        registry.filled.add((module, name))
        found.clear()
        (found.update if isinstance(found, (dict, set)) else found.extend)(state)
    return found


def learn(key: str, data: bytes) -> None:
    """Load a definition to which later pickles refer by its key; if loading fails, each of these raises the error."""
    definition = registry.learned[key] = Learned(data)
    definition.load()


def learned(key: str) -> Any:
    """Return the definition of a key; the names that it uses get the values that they had when it was last sent."""
    definition: Learned = registry.learned[key]
    if (
        definition.changes != changes.known
    ):  # other definitions have set names since, perhaps names of this one
        before, changes.again = changes.again, True
        try:
            definition.load()
        finally:
            changes.again = before
    if definition.error is not None:
        raise definition.error
    return definition.value


class Learned:
    """A definition that was received."""

    __slots__ = ("changes", "data", "error", "value")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.value: Any = None
        self.error: BaseException | None = None
        self.changes = -1

    def load(self) -> None:
        """Load the definition, or keep the error."""
        self.changes = changes.known  # set first, since it may refer to itself
        try:
            self.value, self.error = pickle.loads(self.data), None  # noqa: TID251 - from the process that started this one
        except BaseException as error:  # the code of the user's classes runs here
            self.error = error
        self.changes = changes.known


def make_function(  # noqa: PLR0917 - a pickle passes arguments by position
    key: str | None,
    version: Any,
    globals_: Namespace,
    code: types.CodeType,
    home: tuple[str, str] | None,
    cells: Sequence[str | None],
) -> Any:
    """Return the function that was pickled if this process has it, or a new one that `set_function` completes.

    Args:
        key: The key by which a program and its workers refer to it; None in a store.
        version: A value that differs if the program has changed the function.
        code: Its code.
        home: Its module and name; if the program has the same function there, that is returned.
        cells: Key of each closure variable that it shares with the initializer; None for variables of its own.
    """

    def make() -> types.FunctionType:
        closure = tuple(map(registry.variables.cell, cells)) or None
        return types.FunctionType(code, globals_.values, code.co_name, None, closure)

    theirs = function_at(*home) if home is not None and not registry.worker else None
    if find_function(key, version) is None and is_code_of(theirs, code):
        return theirs
    return _found_or_made(key, version, make)


def is_code_of(function: Any, code: types.CodeType) -> bool:
    """Return whether a function has this code, perhaps on other lines."""
    theirs = getattr(function, "__code__", None)
    return theirs == code or (
        isinstance(theirs, types.CodeType)
        and theirs.co_code == code.co_code
        and placeless(theirs) == placeless(code)
    )


def _found_or_made(key: str | None, version: Any, make: Callable[[], Any]) -> Any:
    mine = find_function(key, version)
    if mine is None:
        mine = make()
        register_function(mine, key, version)
    return mine


def set_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    """Complete a function, and update the globals that it uses."""
    globals_: Namespace = state["namespace"]
    globals_.receive(state["globals"], state["versions"])
    assign_to_module(function, state["home"])
    if not registry.unfinished.get(function):
        return
    closure: tuple[types.CellType, ...] = state["closure"] or ()
    for cell, theirs, key in zip(function.__closure__ or (), closure, state["cells"], strict=True):
        if key is None:
            fill(cell, theirs)
    registry.variables.receive(dict(zip(state["cells"], closure, strict=True)), state["variables"])
    for name, value in state["attributes"].items():
        setattr(function, name, value)
    function.__dict__.update(state["dict"])
    registry.unfinished.drop(function)


def make_cached(
    key: str | None, version: Any, function: Callable[..., Any], parameters: dict[str, Any]
) -> Any:
    """Return a function under ``functools.lru_cache``; in a worker it keeps its cache."""
    return _found_or_made(key, version, lambda: lru_cache(**parameters)(function))


def make_single_dispatch(key: str | None, version: Any) -> Any:
    """Return a function of ``functools.singledispatch``, which `set_single_dispatch` completes."""
    return _found_or_made(key, version, lambda: singledispatch(lambda *_: None))


def set_single_dispatch(function: Any, state: tuple[dict[Any, Any], dict[str, Any], Any]) -> None:
    """Register the implementations of a function of ``functools.singledispatch``."""
    implementations, attributes, home = state
    assign_to_module(function, home)
    if not registry.unfinished.get(function):
        return
    for kind, implementation in implementations.items():
        function.register(kind, implementation)
    update_wrapper(function, implementations[object])
    for name, value in attributes.items():
        setattr(function, name, value)
    registry.unfinished.drop(function)


def make_cached_property(function: Callable[[Any], Any], name: str | None, doc: str | None) -> Any:
    """Return a ``functools.cached_property``; the lock that it has before Python 3.12 is a new one."""
    made: Any = cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


def make_class(
    wanted: Identity, origin: str | None, make: Callable[..., type], arguments: tuple[Any, ...]
) -> type:
    """Return the class that was pickled if this process has it, or a new one that `set_class` completes.

    Args:
        origin: The process that pickled it for its workers; None for a store.
    """
    with registry.lock:
        kind = find_class(wanted)
        if kind is None:
            kind = make(*arguments)
            registry.arrived[wanted] = kind
            registry.identities.put(kind, wanted)
            registry.unfinished.put(kind, True)
        registry.has_classes = True
        if origin is not None and registry.worker:
            registry.returnable.put(kind, True)
        return kind


def defined(wanted: Identity, data: bytes) -> type:
    """Return the class that was pickled; load it only if this process does not have it."""
    with registry.lock:
        kind = find_class(wanted)
        if kind is None or registry.unfinished.get(kind):
            kind = pickle.loads(data)  # noqa: TID251 - a part of a pickle, as trusted as the whole
        return kind


def prepare_class(kind: Any, attributes: dict[str, Any], empty: dict[str, Callable[[], Any]]) -> None:
    """Set the attributes that instances in the same pickle may need, as when a class keeps a list of its instances.

    Args:
        empty: Types of its attributes that are containers, by name; the containers are filled later.
    """
    if has_arrived(kind) and registry.unfinished.get(kind):
        for name, value in (*attributes.items(), *((name, made()) for name, made in empty.items())):
            _set(kind, name, value)


def _set(kind: Any, name: str, value: Any) -> None:
    """Set an attribute, if possible without the metaclass, whose ``__setattr__`` may refuse it."""
    try:
        type.__setattr__(kind, name, value)
    except TypeError:  # the metaclass is written in C
        setattr(kind, name, value)


def set_class(kind: Any, state: dict[str, Any]) -> None:
    """Complete a class that was built here; in a worker, update the attributes that the program has changed."""
    if not has_arrived(kind):
        return  # the class is this program's own
    attributes, versions = state["attributes"], state["versions"]
    before = registry.versions.get(kind) or {}
    if not registry.unfinished.get(kind):
        if versions is None or not registry.worker:
            return
        attributes = {name: value for name, value in attributes.items() if _is_new(name, versions, before)}
    for name, value in attributes.items():
        if name != "_abc_impl":
            _set(kind, name, value)
    for registered in attributes.get("_abc_impl", ()):
        kind.register(registered)
    if "__firstlineno__" in attributes:  # setting another attribute removes it
        _set(kind, "__firstlineno__", attributes["__firstlineno__"])
    for name, own in state["members"].items():
        member = kind._member_map_[name]
        vars(member).update(own)
        with suppress(TypeError):  # the value has no hash
            kind._value2member_map_[member._value_] = member
    registry.versions.put(kind, versions)
    for globals_, values, theirs in state["related"]:
        globals_.receive(values, theirs)
    assign_to_module(kind, state["home"])
    registry.unfinished.drop(kind)


def assign_to_module(thing: Any, home: tuple[Namespace, str, Any] | None) -> None:
    """Assign a definition that a worker has received to its name in its module."""
    if home is not None and registry.worker:
        globals_, name, version = home
        globals_.receive({name: thing}, None if version is None else {name: version})


def _is_new(name: str, versions: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return versions.get(name) is None or versions.get(name) != before.get(name)
