"""The pickler, based on cloudpickle, for definitions that other programs cannot import."""

from __future__ import annotations

import io
import re
import sys
from enum import Enum
from functools import cached_property, lru_cache, singledispatch
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle

from runwide.pickling import Reduced, classes, definitions, loading
from runwide.pickling.identity import is_named
from runwide.pickling.namespaces import Namespace

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Iterator, Mapping

    from runwide.pickling.identity import Identity

CACHED = type(lru_cache(abs))
"""The type of functions under ``functools.lru_cache``."""

_dispatched: Any = singledispatch(lambda _: None)
_SINGLE_DISPATCH = _dispatched.__code__
_WORD = re.compile(r"[^\W\d]\w*")
_MODULE_ATTRIBUTES = ("__name__", "__package__", "__path__")
_INTERNAL = frozenset({"_name_", "__objclass__", "_sort_order_", "_inverted_"})
_LAYOUT = ("_fields_", "_pack_", "_anonymous_", "_length_", "_type_")  # of ctypes
_FUNCTIONS = (FunctionType, classmethod, staticmethod, property)
_CONTAINERS = (dict, list, set)
_FIXED = (
    type(None), bool, int, float, complex, str, bytes, tuple, frozenset, type, FunctionType, BuiltinFunctionType,
    ModuleType, CACHED,
)  # fmt: skip
"""Types whose values cannot change, or keep their identity without further help."""

if getattr(sys.modules.get("__main__"), "__name__", None) == "__mp_main__":
    # In a process that multiprocessing has spawned, the program has this name, which no worker could import.
    cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])


def _names_by_object(values: Mapping[str, Any]) -> dict[int, list[str]]:
    """Return the names of each changeable object by its id; names of the author come before names that a notebook sets."""
    found: dict[int, list[str]] = {}
    for name, value in sorted(values.items(), key=lambda one: str(one[0]).startswith("_")):
        if not issubclass(type(value), _FIXED):
            found.setdefault(id(value), []).append(name)
    return found


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickle by value all that another program could not import."""

    origin: str | None = None
    """The process whose workers load the pickle, see `runwide.pickling.definitions`; None if any process may load it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._globals: dict[int, Reduced] = {}
        self._names: dict[int, dict[int, list[str]]] = {}
        self._objects: dict[int, Reduced] = {}

    def reducer_override(self, value: Any) -> Any:  # noqa: D102 - as in the base class
        kind = type(value)
        if issubclass(kind, type):
            return self._class(value)
        if kind is FunctionType:
            return self._function(value)
        if kind is CACHED:
            return self._cached(value)
        if kind is cached_property:
            return loading.make_cached_property, (value.func, value.attrname, value.__doc__)
        return NotImplemented

    # Versions, which a pool sends to its workers beside the definition

    def key(self, function: Any) -> str | None:  # noqa: ARG002 - used by subclasses
        """Return the key of a function, by which a program and its workers refer to it."""
        return None

    def version(self, value: Any) -> Any:  # noqa: ARG002 - likewise
        """Return a value that differs once the program has changed the given one."""
        return None

    def versions(self, values: Mapping[str, Any], function: Any = None) -> dict[str, Any] | None:  # noqa: ARG002 - likewise
        """Return the version of each value; also list the globals that a function uses and its module lacks."""
        return None

    def variables(self, function: Any) -> tuple[list[str | None], dict[str, Any]]:
        """Return the key of each closure variable, None for one that is not shared, and the version of each key."""
        return [None] * len(function.__code__.co_freevars), {}

    # Parts of a definition that differ between processes

    def module_attributes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes of their module that functions need, such as ``__package__``."""
        # A nested pool of multiprocessing that spawns its workers imports the program by its file. A store has no path.
        names = _MODULE_ATTRIBUTES if self.origin is None else (*_MODULE_ATTRIBUTES, "__file__")
        return {name: values[name] for name in names if name in values}

    def submodules(self, loaded: list[ModuleType]) -> list[ModuleType]:
        """Return the modules to import for a function: the submodules that it uses as attributes of packages."""
        return loaded

    def attributes(self, kind: type, values: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - used by subclasses
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
            version = None  # each call of the enclosing function has its own closure variables
        place = function.__module__, function.__qualname__
        home = place if definitions.function_at(*place) is function else None
        made = self.key(function), version, state["namespace"], code, home, cells
        return loading.make_function, made, state, None, None, loading.set_function

    def _defaults(self, function: Any) -> tuple[Any, Any]:
        """Return the defaults of a function's positional and keyword-only parameters."""
        positional, keywords = function.__defaults__, function.__kwdefaults__
        if positional is not None:
            positional = tuple(self._one(value, function) for value in positional)
        if keywords is not None:
            keywords = {name: self._one(value, function) for name, value in keywords.items()}
        return positional, keywords

    def _one(self, value: Any, function: Any, *, names: int = 1) -> Any:
        """Return a reference to a worker's global object if at least ``names`` names have it; otherwise the value."""
        if self.origin is None or issubclass(type(value), _FIXED):  # isinstance would run code of the value
            return value
        values = function.__globals__
        found = self._names.get(id(values))
        if found is None:
            found = self._names[id(values)] = _names_by_object(values)
        if len(found.get(id(value), ())) < names:
            return value
        if id(value) not in self._objects:
            about = self._namespace(values), found[id(value)], self.version(value), value
            self._objects[id(value)] = Reduced(Namespace.shared_object, *about)
        return self._objects[id(value)]

    def _single_dispatch(self, function: Any) -> Any:
        attributes = {
            name: getattr(function, name) for name in ("__module__", "__qualname__", "__name__", "__doc__")
        }
        version = self.version(function)
        state = dict(function.registry), attributes, self._home(function, version)
        made = self.key(function), version
        return loading.make_single_dispatch, made, state, None, None, loading.set_single_dispatch

    def _cached(self, cached: Any) -> Any:
        """Reduce a function under ``functools.cache`` to the function inside if it has no name that can be imported."""
        if is_imported(cached):
            return cached.__reduce__()
        version = self.version(cached)
        made = self.key(cached), version, cached.__wrapped__, cached.cache_parameters()
        return loading.make_cached, made, self._home(cached, version), None, None, loading.assign_to_module

    def _namespace(self, values: dict[str, Any]) -> Reduced:
        """Return a reference to the globals of some functions, the same object for all functions in one pickle."""
        found = self._globals.get(id(values))
        if found is None:
            module = module_of(values) or (
                None if self.origin is None else definitions.key_of_globals(values)
            )
            about = module, self.origin, self.module_attributes(values)
            found = self._globals[id(values)] = Reduced(loading.namespace, *about)
        return found

    def _home(self, thing: Any, version: Any) -> Any:
        """Return the globals of its module if a definition is there under its own name; otherwise None."""
        values: Any = getattr(sys.modules.get(thing.__module__), "__dict__", {})
        if values.get(thing.__qualname__) is not thing:
            return None
        return self._namespace(values), thing.__qualname__, version

    # Classes

    def _class(self, kind: Any) -> Any:
        reduced = super().reducer_override(kind)
        if reduced is NotImplemented or len(reduced) == 2:  # noqa: PLR2004 - a reference by name
            return reduced
        attributes, members = self.attributes(kind, reduced[2][0]), {}
        make: Any = classes.build_class
        arguments: tuple[Any, ...] = _meta(kind), kind.__name__, kind.__bases__, _beginning(kind)
        if type(kind).__module__ == "_ctypes":  # its fields are made with the class
            attributes = {
                name: value
                for name, value in attributes.items()
                if name not in _LAYOUT and type(value).__name__ not in ("CField", "getset_descriptor")
            }
        if issubclass(kind, Enum):
            found = kind.__members__
            members = {name: _own_of(member) for name, member in found.items() if name == member.name}
            attributes = {name: value for name, value in attributes.items() if name not in found}
            make = classes.build_enum
            arguments += ({name: one.value for name, one in found.items()},)
        state = {
            "first": _first(kind, attributes),
            "attributes": attributes,
            "versions": self.versions(attributes),
            "members": {name: own for name, own in members.items() if own},
            "related": list(self._related(kind)),
            "home": self._home(kind, self.version(kind)),
        }
        made = self.identity(kind), self.origin, make, arguments
        return loading.make_class, made, state, None, None, loading.set_class

    def identity(self, kind: type) -> Identity:
        """Return the identity by which a class is recognized where the pickle is loaded."""
        from runwide.pickling.reproducible import content  # it imports this module

        return definitions.identity(kind, content)

    def _related(self, kind: type) -> Iterator[tuple[Reduced, dict[str, Any], Any]]:
        """Yield the globals that ``typing.get_type_hints`` needs from the module of a class."""
        module = sys.modules.get(kind.__module__)
        values = _annotated(kind, vars(kind).get("__annotations__") or {})
        if module is not None and values:
            yield self._namespace(vars(module)), values, self.versions(values)


def _meta(kind: type) -> Any:
    """Return the metaclass of a class; one without a name, as in ctypes, as the type of a base class that has a name."""
    meta = type(kind)
    if is_imported(meta):
        return meta
    base = next((base for base in kind.__mro__ if type(base) is meta and is_imported(base)), None)
    return meta if base is None else Reduced(type, base)


def _first(kind: type, attributes: Mapping[str, Any]) -> Reduced:
    """Return a call that sets some attributes of a class before the rest of it is loaded."""
    functions = {name: value for name, value in attributes.items() if isinstance(value, _FUNCTIONS)}
    empty = {
        name: type(value)
        for name, value in attributes.items()
        if type(value) in _CONTAINERS and name != "_abc_impl"
    }
    # The __new__ of a class with a single instance looks for that instance, which does not exist yet.
    empty.update((name, type(None)) for name, value in attributes.items() if type(value) is kind)
    return Reduced(loading.prepare_class, kind, functions, empty)


def _beginning(kind: type) -> dict[str, Any]:
    """Return the attributes that a class must have when it is made."""
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


def is_imported(value: Any) -> bool:
    """Return whether another process would find a function or class by its name.

    Example:
        >>> is_imported(io.BytesIO), is_imported(lambda: None)
        (True, False)
    """
    by_value = ("__main__", *cloudpickle.list_registry_pickle_by_value())
    return is_named(value) and not any(f"{value.__module__}.".startswith(f"{name}.") for name in by_value)


def module_of(values: dict[str, Any]) -> str | None:
    """Return the name of the module whose globals these are; None if there is none."""
    name = values.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return name if module is not None and vars(module) is values else None


def _annotated(thing: Any, annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the globals that textual annotations name, if they are of the program or of the standard library.

    Names of installed packages are left out: a worker would load the package for an annotation only.
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
    """Pickle with protocol 5; by value all that another program could not import.

    Example:
        >>> import pickle
        >>> pickle.loads(dumps(lambda x: x + 1))(1)
        2
    """
    file = io.BytesIO()
    pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
