"""Pickles that are the same bytes in each process, on each day and from each folder, as long as the source is the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
from enum import Enum
from functools import partial
from importlib import import_module
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import arriving, pickling
from runwide.arriving import defined
from runwide.by_value import registered, sent_by_value
from runwide.function_pickle import Needs, Pickle
from runwide.imports import imported_in, needed_to_run
from runwide.incidental import attributes_of, named
from runwide.ordering import Shared, Writer
from runwide.own_references import Homes, OwnFile, OwnModule, OwnObject, is_sentinel, own_paths, travels
from runwide.places import Place, make_code, taken_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runwide.item_definitions import Definitions
    from runwide.own_data import Beside
    from runwide.spill.buffers import Buffers


class _Parts(pickling.Pickler):
    """Reduce definitions to what does not differ between processes."""

    def __init__(self, file: Any = None, *, blobs: dict[type, bytes] | None = None, **options: Any) -> None:
        super().__init__(io.BytesIO() if file is None else file, protocol=5, **options)
        self.blobs = {} if blobs is None else blobs
        self.beside: list[Beside] = []
        """What functions look for beside their files."""
        self._modules: dict[str, OwnModule] = {}
        self._objects_met: dict[int, OwnObject] = {}
        self._homes = Homes()
        self.places: list[Place] = []
        self.modules: set[str] = set()
        """Names of modules that have what is pickled by its name, or that are loaded with the pickle."""
        self.imports: set[str] = set()
        """Names of modules that functions may import when they run."""
        self.packages: set[str] = set()
        """Names of modules that functions have as objects."""
        self.imported: set[str] = set()
        """Names of modules to be imported before functions run."""
        self.needed: set[str] = set()
        """Names of modules without which what is pickled cannot be loaded."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is CodeType:
            return self._code(value)
        if kind is TypeVar:
            return named(value, self.dispatch_table[TypeVar](value))
        if is_sentinel(value) and (met := self._homes.of(value)) is not None:
            self.modules.add(met.module)
            return met.reduced
        if kind is ModuleType:
            self.noted(value.__name__)
            self.packages.add(value.__name__)
            if vars(value).get("__spec__") is not None:  # also one whose functions travel by value
                return import_module, (value.__name__,)
        return super().reducer_override(value)

    def noted(self, module: str) -> None:
        """Note a module that loading the pickle imports."""
        self.modules.add(module)
        self.needed.add(module)

    def _code(self, code: CodeType) -> Any:
        values, place = taken_apart(code)
        self.places.append(place)
        return make_code, (len(self.places) - 1, values)

    def _function(self, function: Any) -> Any:
        registered(function)
        reduced = super()._function(function)
        # a function of single dispatch is its registry, whose functions come here one by one
        if reduced is not NotImplemented and reduced[0] is arriving.make_function:
            self.imports.update(imported_in(function.__code__, function.__globals__.get("__package__") or ""))
            state = reduced[2]
            if isinstance(state["namespace"], OwnModule):
                state["globals"] = {}  # it is imported where the pickle is loaded
            else:
                self._look_beside(function, state["globals"])
                self._meet(state["globals"])
        return reduced

    def _meet(self, values: dict[str, Any]) -> None:
        """Have objects that a script took from modules that travel be the modules' own again, with what is in them now."""
        for name, value in values.items():
            found = self._objects_met.get(id(value)) or self._homes.of(value)
            if found is not None:
                self.modules.add(found.module)
                values[name] = self._objects_met[id(value)] = found

    def _namespace(self, values: dict[str, Any]) -> Any:
        """Return the globals of a function: those of its module itself, where that travels."""
        module = pickling.module_of(values)
        if module is None or not travels(module):
            return super()._namespace(values)
        self.modules.add(module)
        return self._modules.setdefault(module, OwnModule(module))

    def _look_beside(self, function: Any, values: dict[str, Any]) -> None:
        """Note what a function looks for beside its file, which is elsewhere in a component."""
        from runwide.own_data import Beside  # not for workers

        paths = own_paths(function, values)
        values.update(paths)
        found = Beside.of_function(function, values, [one.path for one in paths.values()])
        if found is not None:
            self.beside.append(found)
            if "__file__" in values:
                values["__file__"] = OwnFile(found.path)

    def _class(self, kind: Any) -> Any:
        registered(kind)
        return super()._class(kind)

    def about(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # a script has no package, and with -m an empty one
        return {name: value for name, value in super().about(values).items() if value and name != "__path__"}

    def submodules(self, loaded: list[ModuleType]) -> list[ModuleType]:
        names = [module.__name__ for module in loaded]
        self.imported.update(names)
        self.modules.update(names)
        return []

    def attributes(self, kind: type, values: dict[str, Any]) -> dict[str, Any]:
        return attributes_of(kind, values)


class _WithoutPlaces(_Parts):
    """Leave out where the code stands: nothing travels beside items."""

    def _code(self, code: CodeType) -> Any:
        return make_code, (None, taken_apart(code)[0])


class _Item(_WithoutPlaces):
    """Reduce an item, whose definitions are pickled once for all items."""

    def _class(self, kind: Any) -> Any:
        registered(kind)
        return _apart(self, kind) or super()._class(kind)


class _Content(_WithoutPlaces):
    """Reduce a class to what it is made of: not to where it is, or to what its functions find in their module."""

    def __init__(self, file: Any = None, **options: Any) -> None:
        super().__init__(file, **options)
        self._numbers: dict[type, int] = {}

    def identity(self, kind: type) -> Any:
        return self._numbers.setdefault(kind, len(self._numbers))

    def _function(self, function: Any) -> Any:
        reduced = super()._function(function)
        if reduced is NotImplemented or pickling.module_of(function.__globals__) is None:
            return reduced
        make, (key, version, namespace, code, _, cells), state, *rest = reduced
        return make, (key, version, namespace, code, None, cells), {**state, "globals": {}}, *rest

    def _home(self, thing: Any, version: Any) -> Any:  # noqa: ARG002 - as in the class above
        return None

    def _related(self, kind: type) -> Iterator[Any]:  # noqa: ARG002 - likewise
        return iter(())


class _Unordered(Exception):
    """The value has something whose bytes would differ between processes."""


class _Quick(pickling.Pickler):
    """Pickle an item in C as long as that gives the same bytes everywhere; definitions are pickled once for all items."""

    def __init__(self, file: Any, *, blobs: dict[type, bytes], **options: Any) -> None:
        super().__init__(file, protocol=5, **options)
        self.blobs = blobs
        self.modules: set[str] = set()
        """Names of modules that are parts of the item."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is ModuleType:
            self.modules.add(value.__name__)
        return super().reducer_override(value)

    def persistent_id(self, value: Any) -> None:
        kind = type(value)
        if (issubclass(kind, (set, frozenset)) and len(value) > 1) or kind is CodeType or kind is TypeVar:
            raise _Unordered

    def _function(self, function: Any) -> Any:
        registered(function)
        if pickling.is_imported(function):
            return NotImplemented
        raise _Unordered

    def _class(self, kind: Any) -> Any:
        registered(kind)
        if pickling.is_imported(kind):
            return super()._class(kind)
        apart = _apart(self, kind)
        if apart is None:
            raise _Unordered
        return apart


def _apart(pickler: _Item | _Quick, kind: type) -> Any:
    """Return what becomes a class whose pickle all items share; None where its attributes may be parts of items too."""
    if pickling.is_imported(kind):
        return None
    if kind not in pickler.blobs:
        pickler.blobs[kind] = b"" if _has_state(kind) else _written(kind, _WithoutPlaces)[0]
    return (defined, (pickler.identity(kind), pickler.blobs[kind])) if pickler.blobs[kind] else None


def _has_state(kind: type) -> bool:
    """Whether a class has objects that may change, such as a list of its instances."""
    if issubclass(kind, Enum):
        return False
    own = (value for name, value in vars(kind).items() if not name.startswith("__") and name != "_abc_impl")
    return any((type(value) in (list, dict, set) and value) or type(value) is kind for value in own)


def function(value: Callable[..., Any]) -> Pickle:
    r"""Pickle a function, with what it closes over, for other programs.

    Args:
        value: A function, or anything else that can be called.

    Raises:
        Exception: Whatever pickling raises.

    Example:
        >>> import pickle
        >>> pickle.loads(function(lambda x: x + 1).data)(1)
        2
        >>> function(eval("lambda x: x + 1")).digest == function(eval("\n\nlambda x: x + 1")).digest
        True
    """
    from runwide import own  # slow to load, and not for workers

    by_name: frozenset[str] = frozenset()
    while True:
        with sent_by_value(by_name) as sent:
            core, parts = _written(value, _Parts)
        needed = {*parts.needed, *needed_to_run(value)}
        found = own.reached(parts.modules | needed, optional=parts.imports, beside=parts.beside)
        both = sent.intersection(file.module for file in found.files.values())
        if not both:
            break
        by_name |= both
    beside = {
        "places": [place.about() for place in parts.places],
        "submodules": sorted(parts.imported),
        "packages": sorted(parts.packages),
        "needed": sorted(needed.union(found.installed)),
    }
    return Pickle(
        core,
        json.dumps(found.digests),
        json.dumps(beside),
        needs=Needs(frozenset(parts.modules | parts.imports), tuple(parts.beside), by_name),
    )


def item(value: object, shared: Definitions, buffers: Buffers | None = None) -> bytes:
    """Pickle an item of a map, or other data.

    Args:
        value: The item.
        shared: What the pickles of several items share; empty at first.
        buffers: Takes the large buffers out of band.

    Raises:
        Exception: Whatever pickling raises.

    Example:
        >>> import pickle
        >>> from runwide.item_definitions import Definitions
        >>> one, other = (item(text, Definitions()) for text in ({"b", "a"}, {"a", "b"}))
        >>> one == other, pickle.loads(one) == {"a", "b"}
        (True, True)
    """
    before = len(shared.blobs)
    with sent_by_value(shared.by_name):
        try:
            file = io.BytesIO()
            quick = _Quick(file, blobs=shared.blobs, buffer_callback=buffers)
            quick.dump(value)
            shared.add(quick.modules)
            data = file.getvalue()
        except _Unordered:
            data, parts = _written(value, partial(_Item, blobs=shared.blobs), buffers)
            shared.add(parts.modules | parts.imports)
        for blob in list(shared.blobs.values())[before:]:
            shared.note(blob)
    shared.note(data)
    return data


def content(kind: type) -> str:
    """Return a digest of what a class is made of: its attributes, with the code of its functions.

    Example:
        >>> def made(base):
        ...     class Sum:
        ...         def __call__(self, x): return base + x
        ...     return Sum
        >>> content(made(1)) == content(made(1)), content(made(1)) == content(made(2))
        (True, False)
    """
    try:
        with sent_by_value():
            return hashlib.sha256(_written(kind, _Content)[0]).hexdigest()[:16]
    except Exception:  # it cannot be pickled, which is said where it is sent
        return os.urandom(8).hex()


def _written(
    value: object, make: Callable[..., _Parts], buffers: Buffers | None = None
) -> tuple[bytes, _Parts]:
    """Pickle in Python; what that cannot, such as deep structures, in C, whose errors are the known ones."""
    for quick in (True, False):
        parts, file = make(), io.BytesIO()
        _forget(buffers)
        try:
            _writer(file, parts, buffers, quick=quick).dump(value)
        except Shared:
            continue
        except Exception:
            break
        return file.getvalue(), parts
    file = io.BytesIO()
    _forget(buffers)
    parts = make(file, buffer_callback=buffers)
    parts.dump(value)
    return file.getvalue(), parts


def _writer(
    file: Any,
    parts: _Parts,
    buffers: Buffers | None = None,
    *,
    within: frozenset[int] = frozenset(),
    quick: bool = True,
) -> Writer:
    def compared(member: Any, within: frozenset[int]) -> bytes:
        """Pickle a member of a set, in C as long as it has no sets itself."""
        file = io.BytesIO()
        try:
            _Quick(file, blobs=parts.blobs).dump(member)
        except _Unordered:
            file = io.BytesIO()
            _writer(file, _Item(blobs=parts.blobs), within=within, quick=False).dump(member)
        return file.getvalue()

    return Writer(
        file,
        parts.reducer_override,
        dispatch_table=parts.dispatch_table,
        noted=parts.noted,
        compared=compared,
        buffer_callback=buffers,
        within=within,
        quick=quick,
    )


def _forget(buffers: Buffers | None) -> None:
    """Drop what an attempt before has put there."""
    if buffers is not None:
        buffers.clear()
