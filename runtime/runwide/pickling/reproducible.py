"""Pickles that depend on the source code only: the same bytes in every process and folder."""

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

from runwide.code.imports import imported_in, needed_to_run
from runwide.pickling import Reduced, loading, pickler
from runwide.pickling.deterministic import Shared, Writer, attributes_of, type_variable
from runwide.pickling.functions import Needs, Pickle
from runwide.pickling.loading import defined
from runwide.pickling.own_code import (
    Homes,
    OwnModule,
    OwnObject,
    is_sentinel,
    own_paths,
    register,
    sent_by_value,
    travels,
)
from runwide.pickling.places import Place, make_code, own_file, split_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runwide.code.data import Beside
    from runwide.pickling.items import Definitions
    from runwide.store.buffers import Buffers


class _Parts(pickler.Pickler):
    """Reduce definitions to the parts that do not differ between processes, and record what else the pickle needs."""

    def __init__(self, file: Any = None, *, blobs: dict[type, bytes] | None = None, **options: Any) -> None:
        super().__init__(io.BytesIO() if file is None else file, protocol=5, **options)
        self.blobs = {} if blobs is None else blobs
        self.beside: list[Beside] = []
        """The files that functions look for beside their own file."""
        self._modules: dict[str, OwnModule] = {}
        self._references: dict[int, OwnObject] = {}
        self._homes = Homes()
        self.places: list[Place] = []
        self.modules: set[str] = set()
        """Names of modules that the pickle refers to by name, or that are loaded with it."""
        self.imports: set[str] = set()
        """Names of modules that functions may import when they run."""
        self.packages: set[str] = set()
        """Names of module objects that functions refer to."""
        self.imported: set[str] = set()
        """Names of modules to be imported before functions run."""
        self.needed: set[str] = set()
        """Names of modules without which the pickle cannot be loaded."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is CodeType:
            return self._code(value)
        if kind is TypeVar:
            return type_variable(value, self.dispatch_table[TypeVar](value))
        if is_sentinel(value) and (met := self._homes.of(value)) is not None:
            self.modules.add(met.module)
            return met.reduced
        if kind is ModuleType:
            self.note_module(value.__name__)
            self.packages.add(value.__name__)
            if vars(value).get("__spec__") is not None:  # also if its functions travel by value
                return import_module, (value.__name__,)
        return super().reducer_override(value)

    def note_module(self, module: str) -> None:
        """Record a module that loading the pickle imports."""
        self.modules.add(module)
        self.needed.add(module)

    def _code(self, code: CodeType) -> Any:
        values, place = split_code(code)
        self.places.append(place)
        return make_code, (len(self.places) - 1, values)

    def _function(self, function: Any) -> Any:
        register(function)
        reduced = super()._function(function)
        # A function of functools.singledispatch is reduced to its registry, whose functions come here one by one.
        if reduced is not NotImplemented and reduced[0] is loading.make_function:
            self.imports.update(imported_in(function.__code__, function.__globals__.get("__package__") or ""))
            state = reduced[2]
            if isinstance(state["namespace"], OwnModule):
                state["globals"] = {}  # the module is imported where the pickle is loaded
            else:
                self._look_beside(function, state["globals"])
                self._refer_to_objects(state["globals"])
        return reduced

    def _refer_to_objects(self, values: dict[str, Any]) -> None:
        """Replace objects that a script took from modules that travel by references to them, with their content."""
        for name, value in values.items():
            found = self._references.get(id(value)) or self._homes.of(value)
            if found is not None:
                self.modules.add(found.module)
                values[name] = self._references[id(value)] = found

    def _namespace(self, values: dict[str, Any]) -> Any:
        """Return a reference to the globals of a function; if its module travels, to the globals of that module."""
        module = pickler.module_of(values)
        if module is None or not travels(module):
            return super()._namespace(values)
        self.modules.add(module)
        return self._modules.setdefault(module, OwnModule(module))

    def _look_beside(self, function: Any, values: dict[str, Any]) -> None:
        """Record the files that a function looks for beside its own file, whose place in a component is another."""
        from runwide.code.data import Beside  # workers do not need it

        paths = own_paths(function, values)
        values.update(paths)
        found = Beside.of_function(function, values, [one.path for one in paths.values()])
        if found is not None:
            self.beside.append(found)
            if "__file__" in values:
                values["__file__"] = Reduced(own_file, found.path)

    def _class(self, kind: Any) -> Any:
        register(kind)
        return super()._class(kind)

    def module_attributes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # A script has no package, or an empty one if it was started with -m.
        found = super().module_attributes(values)
        return {name: value for name, value in found.items() if value and name != "__path__"}

    def submodules(self, loaded: list[ModuleType]) -> list[ModuleType]:
        names = [module.__name__ for module in loaded]
        self.imported.update(names)
        self.modules.update(names)
        return []

    def attributes(self, kind: type, values: dict[str, Any]) -> dict[str, Any]:
        return attributes_of(kind, values)


class _WithoutPlaces(_Parts):
    """Leave out file names and lines: nothing travels beside items."""

    def _code(self, code: CodeType) -> Any:
        return make_code, (None, split_code(code)[0])


class _Item(_WithoutPlaces):
    """Reduce an item; its classes are pickled once for all items."""

    def _class(self, kind: Any) -> Any:
        register(kind)
        return _shared_class(self, kind) or super()._class(kind)


class _Content(_WithoutPlaces):
    """Reduce a class to its content, without its place and without the globals of its functions."""

    def __init__(self, file: Any = None, **options: Any) -> None:
        super().__init__(file, **options)
        self._numbers: dict[type, int] = {}

    def identity(self, kind: type) -> Any:
        return self._numbers.setdefault(kind, len(self._numbers))

    def _function(self, function: Any) -> Any:
        reduced = super()._function(function)
        if reduced is NotImplemented or pickler.module_of(function.__globals__) is None:
            return reduced
        make, (key, version, namespace, code, _, cells), state, *rest = reduced
        return make, (key, version, namespace, code, None, cells), {**state, "globals": {}}, *rest

    def _home(self, thing: Any, version: Any) -> Any:  # noqa: ARG002 - as in the base class
        return None

    def _related(self, kind: type) -> Iterator[Any]:  # noqa: ARG002 - likewise
        return iter(())


class _Unordered(Exception):
    """A part of the value would have other bytes in another process."""


class _Quick(pickler.Pickler):
    """Pickle an item in C as long as that gives the same bytes in every process; classes are pickled once for all items."""

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
        register(function)
        if pickler.is_imported(function):
            return NotImplemented
        raise _Unordered

    def _class(self, kind: Any) -> Any:
        register(kind)
        if pickler.is_imported(kind):
            return super()._class(kind)
        reduced = _shared_class(self, kind)
        if reduced is None:
            raise _Unordered
        return reduced


def _shared_class(writing: _Item | _Quick, kind: type) -> Any:
    """Reduce a class to a pickle that all items share; return None if its attributes may also be parts of items."""
    if pickler.is_imported(kind):
        return None
    if kind not in writing.blobs:
        writing.blobs[kind] = b"" if _has_state(kind) else _written(kind, _WithoutPlaces)[0]
    return (defined, (writing.identity(kind), writing.blobs[kind])) if writing.blobs[kind] else None


def _has_state(kind: type) -> bool:
    """Return whether a class has objects that may change, such as a list of its instances."""
    if issubclass(kind, Enum):
        return False
    own = (value for name, value in vars(kind).items() if not name.startswith("__") and name != "_abc_impl")
    return any((type(value) in (list, dict, set) and value) or type(value) is kind for value in own)


def function(value: Callable[..., Any]) -> Pickle:
    r"""Pickle a function and its closure for other programs.

    Example:
        >>> import pickle
        >>> pickle.loads(function(lambda x: x + 1).data)(1)
        2
        >>> function(eval("lambda x: x + 1")).digest == function(eval("\n\nlambda x: x + 1")).digest
        True
    """
    from runwide.code import finding  # slow to load, and workers do not need it

    by_name: frozenset[str] = frozenset()
    while True:
        with sent_by_value(by_name) as sent:
            core, parts = _written(value, _Parts)
        needed = {*parts.needed, *needed_to_run(value)}
        found = finding.reached(parts.modules | needed, optional=parts.imports, beside=parts.beside)
        # A module that another one imports must go by name, or the program would have two copies of its classes.
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
        shared: The class pickles that several items share; empty at first.
        buffers: Receives large buffers, which are not part of the pickle then.

    Example:
        >>> import pickle
        >>> from runwide.pickling.items import Definitions
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
    """Return a digest of the content of a class: its attributes, with the code of its functions.

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
    except Exception:  # it cannot be pickled; sending it raises the error
        return os.urandom(8).hex()


def _written(
    value: object, make: Callable[..., _Parts], buffers: Buffers | None = None
) -> tuple[bytes, _Parts]:
    """Pickle in Python; if that fails, as for deep structures, in C, whose errors users know."""
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
        note_module=parts.note_module,
        compared=compared,
        buffer_callback=buffers,
        within=within,
        quick=quick,
    )


def _forget(buffers: Buffers | None) -> None:
    """Drop the buffers of an earlier attempt."""
    if buffers is not None:
        buffers.clear()
