"""What pickles of definitions call when they are loaded: each is found, or built and completed once."""

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

from runwide.definitions import arrive, found, function_at, has_arrived, known, registry
from runwide.namespaces import Namespace, changes, fill
from runwide.places import UNPACKED, placeless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runwide.identity import Identity


def namespace(module: str | None, origin: str | None, about: dict[str, Any]) -> Namespace:
    """Return the globals for functions of a module.

    Args:
        module: Its name, or what names globals that are no module's; None for those of each pickle.
        origin: The process that pickled them for its workers; None for a store.
        about: What relative imports need, such as ``__package__``.
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
    """Return the globals of a module of the author's own that came along, for functions in it that have no name.

    Args:
        module: Its name.
    """
    return Namespace(vars(import_module(module)), live=True)


MET = frozenset({dict, list, set, defaultdict, OrderedDict, Counter, deque})
"""Types of objects of modules that functions share with their module in a component."""


def own_object(module: str, name: str, state: Any) -> Any:
    """Return an object of a module of the author's own that came along, with what was in it where it was pickled.

    Args:
        module: The module.
        name: The name of the object in it.
        state: A copy of the object; None for one that has no state.
    """
    home = import_module(module)
    found: Any = vars(home).get(name)
    if state is None:
        return found
    if type(found) is not type(state):
        return state
    if UNPACKED in (getattr(home, "__file__", None) or "") and (module, name) not in registry.met:
        registry.met.add((module, name))
        found.clear()
        (found.update if isinstance(found, (dict, set)) else found.extend)(state)
    return found


def learn(key: str, data: bytes) -> None:
    """Load the definition to which later pickles refer by its key; where it fails, each of those does."""
    definition = registry.learned[key] = Learned(data)
    definition.load()


def learned(key: str) -> Any:
    """Return the definition of that key; names that it uses have the values that they had when it was sent last.

    Raises:
        Exception: What loading it has raised.
    """
    definition: Learned = registry.learned[key]
    if definition.changes != changes.known:  # another one has set names since, perhaps of this one
        before, changes.again = changes.again, True
        try:
            definition.load()
        finally:
            changes.again = before
    if definition.error is not None:
        raise definition.error
    return definition.value


class Learned:
    """A definition that has arrived.

    Args:
        data: Its pickle.
    """

    __slots__ = ("changes", "data", "error", "value")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.value: Any = None
        self.error: BaseException | None = None
        self.changes = -1

    def load(self) -> None:
        """Load it, or note what that raises."""
        self.changes = changes.known  # first: it may refer to itself
        try:
            self.value, self.error = pickle.loads(self.data), None  # noqa: TID251 - of this pool's other end
        except BaseException as error:  # the code of the user's classes runs here
            self.error = error
        self.changes = changes.known


def make_function(  # noqa: PLR0917 - a pickle gives all by position
    key: str | None,
    version: Any,
    globals_: Namespace,
    code: types.CodeType,
    home: tuple[str, str] | None,
    cells: Sequence[str | None],
) -> Any:
    """Return the function that is meant, or one to be completed by `set_function`.

    Args:
        key: What names it between a program and its workers; None in a store.
        version: What is different when the program has changed it.
        globals_: Its globals.
        code: Its code.
        home: Module and name that it has; a program that has the same function there gets its own.
        cells: Key of each variable of enclosing functions that it shares with the initializer; None for its own.
    """

    def make() -> types.FunctionType:
        closure = tuple(map(registry.variables.cell, cells)) or None
        return types.FunctionType(code, globals_.values, code.co_name, None, closure)

    theirs = function_at(*home) if home is not None and not registry.worker else None
    if known(key, version) is None and is_code_of(theirs, code):
        return theirs
    return _found_or_made(key, version, make)


def is_code_of(function: Any, code: types.CodeType) -> bool:
    """Whether a function has this code, perhaps on other lines."""
    theirs = getattr(function, "__code__", None)
    return theirs == code or (
        isinstance(theirs, types.CodeType)
        and theirs.co_code == code.co_code
        and placeless(theirs) == placeless(code)
    )


def _found_or_made(key: str | None, version: Any, make: Callable[[], Any]) -> Any:
    mine = known(key, version)
    if mine is None:
        mine = make()
        arrive(mine, key, version)
    return mine


def set_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    """Complete a function, and bring the globals that it uses up to date."""
    globals_: Namespace = state["namespace"]
    globals_.receive(state["globals"], state["versions"])
    go_home(function, state["home"])
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


def one_of(globals_: Namespace, names: Sequence[str], version: Any, value: Any) -> Any:
    """Return the object that some names of a module have, see `runwide.namespaces.Namespace.one_of`."""
    return globals_.one_of(names, version, value)


def make_cached(
    key: str | None, version: Any, function: Callable[..., Any], parameters: dict[str, Any]
) -> Any:
    """Return a function under ``functools.lru_cache``, which keeps what it has in a worker."""
    return _found_or_made(key, version, lambda: lru_cache(**parameters)(function))


def make_single_dispatch(key: str | None, version: Any) -> Any:
    """Return a function of ``functools.singledispatch``, to be completed by `set_single_dispatch`."""
    return _found_or_made(key, version, lambda: singledispatch(lambda *_: None))


def set_single_dispatch(function: Any, state: tuple[dict[Any, Any], dict[str, Any], Any]) -> None:
    """Register the implementations of a function of ``functools.singledispatch``."""
    implementations, attributes, home = state
    go_home(function, home)
    if not registry.unfinished.get(function):
        return
    for kind, implementation in implementations.items():
        function.register(kind, implementation)
    update_wrapper(function, implementations[object])
    for name, value in attributes.items():
        setattr(function, name, value)
    registry.unfinished.drop(function)


def make_cached_property(function: Callable[[Any], Any], name: str | None, doc: str | None) -> Any:
    """Return a ``functools.cached_property``, whose lock of Pythons before 3.12 stays where it is."""
    made: Any = cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


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
    with registry.lock:
        kind = found(wanted)
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
    """Return the class that is meant; only where this process does not have it, it is loaded.

    Args:
        wanted: How it is recognized.
        data: Its pickle.
    """
    with registry.lock:
        kind = found(wanted)
        if kind is None or registry.unfinished.get(kind):
            kind = pickle.loads(data)  # noqa: TID251 - a part of a pickle, and trusted as that is
        return kind


def prepare_class(kind: Any, attributes: dict[str, Any], empty: dict[str, Callable[[], Any]]) -> None:
    """Set what instances may need that are loaded with their class, as where a class keeps all its instances.

    Args:
        kind: A class, perhaps to be completed by `set_class`.
        attributes: Its functions.
        empty: Makes the containers among its attributes, by name; they are filled later.
    """
    if has_arrived(kind) and registry.unfinished.get(kind):
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
    if "__firstlineno__" in attributes:  # which setting another attribute removes
        _set(kind, "__firstlineno__", attributes["__firstlineno__"])
    for name, own in state["members"].items():
        member = kind._member_map_[name]
        vars(member).update(own)
        with suppress(TypeError):  # the value has no hash
            kind._value2member_map_[member._value_] = member
    registry.versions.put(kind, versions)
    for globals_, values, theirs in state["related"]:
        globals_.receive(values, theirs)
    go_home(kind, state["home"])
    registry.unfinished.drop(kind)


def go_home(thing: Any, home: tuple[Namespace, str, Any] | None) -> None:
    """Put something that has arrived in a worker under its name in its module."""
    if home is not None and registry.worker:
        globals_, name, version = home
        globals_.receive({name: thing}, None if version is None else {name: version})


def _is_new(name: str, versions: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return versions.get(name) is None or versions.get(name) != before.get(name)
