"""cloudpickle, also for what it cannot bring back, and for definitions that must come back as themselves."""

from __future__ import annotations

import io
import re
import sys
from enum import Enum
from functools import cached_property, lru_cache, singledispatch
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle

from runwide import arriving, building, definitions
from runwide.identity import is_named

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Iterator, Mapping

    from runwide.identity import Identity

CACHED = type(lru_cache(abs))
"""The type of functions under ``functools.lru_cache``."""

_dispatched: Any = singledispatch(lambda _: None)
_SINGLE_DISPATCH = _dispatched.__code__
_WORD = re.compile(r"[^\W\d]\w*")
_ABOUT = ("__name__", "__package__", "__path__")
_INTERNAL = frozenset({"_name_", "__objclass__", "_sort_order_", "_inverted_"})
_LAYOUT = ("_fields_", "_pack_", "_anonymous_", "_length_", "_type_")  # of ctypes
_FUNCTIONS = (FunctionType, classmethod, staticmethod, property)
_CONTAINERS = (dict, list, set)
_FIXED = (
    type(None), bool, int, float, complex, str, bytes, tuple, frozenset, type, FunctionType, BuiltinFunctionType,
    ModuleType, CACHED,
)  # fmt: skip
"""Types whose values cannot be changed, or arrive as themselves anyway."""

if getattr(sys.modules.get("__main__"), "__name__", None) == "__mp_main__":
    # A process that multiprocessing has spawned calls the program so; no worker could import that.
    cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])


class _Globals:
    """The globals of some functions, the same object for all of them in one pickle."""

    def __init__(self, module: str | None, origin: str | None, about: dict[str, Any]) -> None:
        self._reduced = arriving.namespace, (module, origin, about)

    def __reduce__(self) -> Any:
        return self._reduced


class _Object:
    """An object that a module has under some names, the same one for all of them and for defaults of functions.

    Args:
        about: Arguments of `runwide.arriving.one_of`.
    """

    def __init__(self, about: tuple[_Globals, list[str], Any, Any]) -> None:
        self._reduced = arriving.one_of, about

    def __reduce__(self) -> Any:
        return self._reduced


def _names_by_object(values: Mapping[str, Any]) -> dict[int, list[str]]:
    """Return the names of each object that can change, those of people before those of a notebook."""
    found: dict[int, list[str]] = {}
    for name, value in sorted(values.items(), key=lambda one: str(one[0]).startswith("_")):
        if not issubclass(type(value), _FIXED):
            found.setdefault(id(value), []).append(name)
    return found


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickle by value whatever another program could not import."""

    origin: str | None = None
    """The process whose workers load the pickle, see `runwide.definitions`; None where any process may."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._globals: dict[int, _Globals] = {}
        self._names: dict[int, dict[int, list[str]]] = {}
        self._objects: dict[int, _Object] = {}

    def reducer_override(self, value: Any) -> Any:  # noqa: D102 - as in the class it stands for
        kind = type(value)
        if issubclass(kind, type):
            return self._class(value)
        if kind is FunctionType:
            return self._function(value)
        if kind is CACHED:
            return self._cached(value)
        if kind is cached_property:
            return arriving.make_cached_property, (value.func, value.attrname, value.__doc__)
        return NotImplemented

    # What workers are told beyond the definition

    def key(self, function: Any) -> str | None:  # noqa: ARG002 - for those that have one
        """Return what names a function between a program and its workers."""
        return None

    def version(self, value: Any) -> Any:  # noqa: ARG002 - likewise
        """Return what is different when the program has changed a value."""
        return None

    def versions(self, values: Mapping[str, Any], function: Any = None) -> dict[str, Any] | None:  # noqa: ARG002 - likewise
        """Return the version of each value, and which globals of a function are absent."""
        return None

    def variables(self, function: Any) -> tuple[list[str | None], dict[str, Any]]:
        """Return the keys of a function's variables of enclosing ones, None for its own, and the version of each key."""
        return [None] * len(function.__code__.co_freevars), {}

    # What of a definition differs between processes

    def about(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what functions need of the globals of their module, such as ``__package__``."""
        # A nested pool of multiprocessing that spawns its workers imports the program by its file; a store has no path.
        names = _ABOUT if self.origin is None else (*_ABOUT, "__file__")
        return {name: values[name] for name in names if name in values}

    def submodules(self, loaded: list[ModuleType]) -> list[ModuleType]:
        """Return the modules that are to be imported for a function: those that it uses as attributes of packages."""
        return loaded

    def attributes(self, kind: type, values: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - for those that look at it
        """Return the attributes of a class."""
        return values

    # Functions

    def _function(self, function: Any) -> Any:
        if function.__code__ is _SINGLE_DISPATCH:
            return self._single_dispatch(function)
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            return reduced
        (code, *_), (own, slots) = reduced[1], reduced[2]
        values = slots.pop("__globals__")
        values.update(_annotated(function, function.__annotations__))
        version, (cells, variables) = self.version(function), self.variables(function)
        slots["__defaults__"], slots["__kwdefaults__"] = self._defaults(function)
        state = {
            "namespace": self._namespace(function.__globals__),
            "globals": {name: self._one(value, function, names=2) for name, value in values.items()},
            "versions": self.versions(values, function),
            "home": self._home(function, version),
            "cells": cells,
            "variables": variables,
            "closure": slots.pop("__closure__"),
            "submodules": self.submodules(slots.pop("_cloudpickle_submodules")),
            "dict": own,
            "attributes": slots,
        }
        if code.co_freevars and code.co_freevars != ("__class__",):
            version = None  # what it closes over is its own in each call
        place = function.__module__, function.__qualname__
        has_place = definitions.function_at(*place) is function
        home = place if has_place else None
        made = self.key(function), version, state["namespace"], code, home, cells
        return arriving.make_function, made, state, None, None, arriving.set_function

    def _defaults(self, function: Any) -> tuple[Any, Any]:
        """Return the defaults of a function, and those of its keywords."""
        positional, keywords = function.__defaults__, function.__kwdefaults__
        if positional is not None:
            positional = tuple(self._one(value, function) for value in positional)
        if keywords is not None:
            keywords = {name: self._one(value, function) for name, value in keywords.items()}
        return positional, keywords

    def _one(self, value: Any, function: Any, *, names: int = 1) -> Any:
        """Return what becomes the object of a global in a worker, where so many names have it; else the value itself."""
        if self.origin is None or issubclass(type(value), _FIXED):  # isinstance would ask the value
            return value
        values = function.__globals__
        found = self._names.get(id(values))
        if found is None:
            found = self._names[id(values)] = _names_by_object(values)
        if len(found.get(id(value), ())) < names:
            return value
        if id(value) not in self._objects:
            about = self._namespace(values), found[id(value)], self.version(value), value
            self._objects[id(value)] = _Object(about)
        return self._objects[id(value)]

    def _single_dispatch(self, function: Any) -> Any:
        attributes = {
            name: getattr(function, name) for name in ("__module__", "__qualname__", "__name__", "__doc__")
        }
        version = self.version(function)
        state = dict(function.registry), attributes, self._home(function, version)
        made = self.key(function), version
        return arriving.make_single_dispatch, made, state, None, None, arriving.set_single_dispatch

    def _cached(self, cached: Any) -> Any:
        """A function under ``functools.cache``, which pickles by its name alone, goes as its function where that does."""
        if is_imported(cached):
            return cached.__reduce__()
        version = self.version(cached)
        made = self.key(cached), version, cached.__wrapped__, cached.cache_parameters()
        return arriving.make_cached, made, self._home(cached, version), None, None, arriving.go_home

    def _namespace(self, values: dict[str, Any]) -> _Globals:
        found = self._globals.get(id(values))
        if found is None:
            module = module_of(values) or (
                None if self.origin is None else definitions.key_of_globals(values)
            )
            found = self._globals[id(values)] = _Globals(module, self.origin, self.about(values))
        return found

    def _home(self, thing: Any, version: Any) -> Any:
        """Return the globals that have something under its own name; None where they have not."""
        values: Any = getattr(sys.modules.get(thing.__module__), "__dict__", {})
        if values.get(thing.__qualname__) is not thing:
            return None
        return self._namespace(values), thing.__qualname__, version

    # Classes

    def _class(self, kind: Any) -> Any:
        reduced = super().reducer_override(kind)
        if reduced is NotImplemented or len(reduced) == 2:  # noqa: PLR2004 - by name
            return reduced
        attributes, members = self.attributes(kind, reduced[2][0]), {}
        make: Any = building.build_class
        arguments: tuple[Any, ...] = _Meta.of(kind), kind.__name__, kind.__bases__, _beginning(kind)
        if type(kind).__module__ == "_ctypes":  # whose fields are made with the class
            attributes = {
                name: value
                for name, value in attributes.items()
                if name not in _LAYOUT and not _is_of_c(value)
            }
        if issubclass(kind, Enum):
            found = kind.__members__
            members = {name: _own_of(member) for name, member in found.items() if name == member.name}
            attributes = {name: value for name, value in attributes.items() if name not in found}
            make = building.build_enum
            arguments += ({name: one.value for name, one in found.items()},)
        state = {
            "first": _First(kind, attributes),
            "attributes": attributes,
            "versions": self.versions(attributes),
            "members": {name: own for name, own in members.items() if own},
            "related": list(self._related(kind)),
            "home": self._home(kind, self.version(kind)),
        }
        made = self.identity(kind), self.origin, make, arguments
        return arriving.make_class, made, state, None, None, arriving.set_class

    def identity(self, kind: type) -> Identity:
        """Return how a class is recognized where the pickle is loaded."""
        from runwide.reproducible import content  # which pickles what the class is made of

        return definitions.identity(kind, content)

    def _related(self, kind: type) -> Iterator[tuple[_Globals, dict[str, Any], Any]]:
        """What ``typing.get_type_hints`` needs of the module of a class."""
        module = sys.modules.get(kind.__module__)
        values = _annotated(kind, vars(kind).get("__annotations__") or {})
        if module is not None and values:
            yield self._namespace(vars(module)), values, self.versions(values)


class _Meta:
    """A metaclass that has no name, as those of ctypes: the type of a class that has one."""

    def __init__(self, base: type) -> None:
        self._base = base

    @classmethod
    def of(cls, kind: type) -> Any:
        """Return the metaclass of a class, or what becomes it."""
        meta = type(kind)
        if is_imported(meta):
            return meta
        named_one = next((base for base in kind.__mro__ if type(base) is meta and is_imported(base)), None)
        return meta if named_one is None else cls(named_one)

    def __reduce__(self) -> Any:
        return type, (self._base,)


class _First:
    """What of a class is set before the rest of it is loaded."""

    def __init__(self, kind: type, attributes: Mapping[str, Any]) -> None:
        functions = {name: value for name, value in attributes.items() if isinstance(value, _FUNCTIONS)}
        empty = {
            name: type(value)
            for name, value in attributes.items()
            if type(value) in _CONTAINERS and name != "_abc_impl"
        }
        # A class with a single instance, which its __new__ looks for: it is not there yet.
        empty.update((name, type(None)) for name, value in attributes.items() if type(value) is kind)
        self._reduced = arriving.prepare_class, (kind, functions, empty)

    def __reduce__(self) -> Any:
        return self._reduced


def _beginning(kind: type) -> dict[str, Any]:
    """Return the attributes that a class has to have when it is made."""
    own = vars(kind)
    names = [
        "__module__",
        "__slots__",
        "__orig_bases__",
        *(_LAYOUT if type(kind).__module__ == "_ctypes" else ()),
    ]
    values = {name: own[name] for name in names if name in own}
    values["__qualname__"] = kind.__qualname__
    if isinstance(own.get("__dict__"), property):
        values["__dict__"] = own["__dict__"]
    if not isinstance(values.get("__slots__", ()), (str, tuple, list, dict)):
        del values["__slots__"]
    return values


def _is_of_c(value: Any) -> bool:
    return type(value).__name__ in ("CField", "getset_descriptor")


def is_imported(value: Any) -> bool:
    """Whether another process would find a function or class by its name.

    Example:
        >>> is_imported(io.BytesIO), is_imported(lambda: None)
        (True, False)
    """
    by_value = ("__main__", *cloudpickle.list_registry_pickle_by_value())
    return is_named(value) and not any(f"{value.__module__}.".startswith(f"{name}.") for name in by_value)


def module_of(values: dict[str, Any]) -> str | None:
    """Return the name of the module that has these globals; None where none has."""
    name = values.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return name if module is not None and vars(module) is values else None


def _annotated(thing: Any, annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return what annotations that are text name in the module: classes of the program, and what Python has itself.

    Installed packages are left out: a worker would load them for the sake of an annotation.
    """
    texts = [text for text in annotations.values() if isinstance(text, str)]
    values = getattr(thing, "__globals__", None) or getattr(sys.modules.get(thing.__module__), "__dict__", {})
    names = dict.fromkeys(name for text in texts for name in _WORD.findall(text) if name in values)
    return {name: values[name] for name in names if _is_light(values[name])}


def _is_light(value: Any) -> bool:
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(module, str) and (
        module == "__main__" or module.partition(".")[0] in sys.stdlib_module_names
    )


def _own_of(member: Any) -> dict[str, Any]:
    return {name: value for name, value in getattr(member, "__dict__", {}).items() if name not in _INTERNAL}


def dumps(
    value: object,
    *,
    pickler: Callable[..., Pickler] = Pickler,
    buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
) -> bytes:
    """Pickle by value whatever another program could not import, with protocol 5.

    Example:
        >>> import pickle
        >>> pickle.loads(dumps(lambda x: x + 1))(1)
        2
    """
    file = io.BytesIO()
    pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
