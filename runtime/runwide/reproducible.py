"""Pickles that are the same bytes in each process, on each day and from each folder, as long as the source is the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from enum import Enum
from functools import partial
from opcode import opmap
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import pickling
from runwide.arriving import defined
from runwide.function_pickle import Pickle
from runwide.ordering import Shared, Writer
from runwide.places import Place, make_code, taken_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runwide.spill.buffers import Buffers


_INCIDENTAL = frozenset(
    {"__firstlineno__", "__slotnames__"}
)  # the second comes with the first pickle of an instance
_IMPORT = opmap["IMPORT_NAME"]
_IMPORTERS = frozenset({"import_module", "__import__"})
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class _Parts(pickling.Pickler):
    """Reduce definitions to what does not differ between processes."""

    def __init__(self, file: Any = None, *, blobs: dict[type, bytes] | None = None, **options: Any) -> None:
        super().__init__(io.BytesIO() if file is None else file, protocol=5, **options)
        self.blobs = {} if blobs is None else blobs
        self.places: list[Place] = []
        self.modules: set[str] = set()
        """Names of modules that functions import, or that have what is pickled by its name."""
        self.packages: set[str] = set()
        """Names of modules that functions have as objects."""
        self.imported: set[str] = set()
        """Names of modules to be imported before functions run."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is CodeType:
            return self._code(value)
        if kind is TypeVar:
            return _with_name(value, self.dispatch_table[TypeVar](value))
        if kind is ModuleType:
            self.modules.add(value.__name__)
            self.packages.add(value.__name__)
        return super().reducer_override(value)

    def _code(self, code: CodeType) -> Any:
        values, place = taken_apart(code)
        self.places.append(place)
        return make_code, (len(self.places) - 1, values)

    def _function(self, function: Any) -> Any:
        reduced = super()._function(function)
        if reduced is not NotImplemented:
            self.modules.update(
                _imported_in(function.__code__, function.__globals__.get("__package__") or "")
            )
        return reduced

    def about(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # a script has no package, and with -m an empty one
        return {name: value for name, value in super().about(values).items() if value and name != "__path__"}

    def submodules(self, loaded: list[ModuleType]) -> list[ModuleType]:
        names = [module.__name__ for module in loaded]
        self.imported.update(names)
        self.modules.update(names)
        return []

    def attributes(self, kind: type, values: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in values.items() if name not in _INCIDENTAL}
        if not kept.get("__annotations__", True):  # as it is once somebody has asked for it
            del kept["__annotations__"]
        if _is_made_of_defaults(kept.get("__doc__"), kind):
            del kept["__doc__"]
        if "_abc_impl" in kept:
            kept["_abc_impl"] = sorted(
                kept["_abc_impl"], key=lambda kind: (kind.__module__, kind.__qualname__)
            )
        if "__static_attributes__" in kept:
            kept["__static_attributes__"] = tuple(sorted(kept["__static_attributes__"]))
        return kept


class _WithoutPlaces(_Parts):
    """Leave out where the code stands: nothing travels beside items."""

    def _code(self, code: CodeType) -> Any:
        return make_code, (None, taken_apart(code)[0])


class _Item(_WithoutPlaces):
    """Reduce an item, whose definitions are pickled once for all items."""

    def _class(self, kind: Any) -> Any:
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

    def persistent_id(self, value: Any) -> None:
        kind = type(value)
        if (issubclass(kind, (set, frozenset)) and len(value) > 1) or kind is CodeType or kind is TypeVar:
            raise _Unordered

    def _function(self, function: Any) -> Any:
        if pickling.is_imported(function):
            return NotImplemented
        raise _Unordered

    def _class(self, kind: Any) -> Any:
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
    from runwide.own import needed_by  # slow to load, and not for workers

    core, parts = _written(value, _Parts)
    beside = {
        "places": [place.about() for place in parts.places],
        "submodules": sorted(parts.imported),
        "packages": sorted(parts.packages),
    }
    return Pickle(core, json.dumps(needed_by(parts.modules), sort_keys=True), json.dumps(beside))


def item(value: object, blobs: dict[type, bytes], buffers: Buffers | None = None) -> bytes:
    """Pickle an item of a map, or other data.

    Args:
        value: The item.
        blobs: Pickles of classes, which several items share; empty at first.
        buffers: Takes the large buffers out of band.

    Raises:
        Exception: Whatever pickling raises.

    Example:
        >>> import pickle
        >>> item({"b", "a"}, {}) == item({"a", "b"}, {}), pickle.loads(item({"b", "a"}, {})) == {"a", "b"}
        (True, True)
    """
    try:
        file = io.BytesIO()
        _Quick(file, blobs=blobs, buffer_callback=buffers).dump(value)
        return file.getvalue()
    except _Unordered:
        return _written(value, partial(_Item, blobs=blobs), buffers)[0]


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
        noted=parts.modules.add,
        compared=compared,
        buffer_callback=buffers,
        within=within,
        quick=quick,
    )


def _forget(buffers: Buffers | None) -> None:
    """Drop what an attempt before has put there."""
    if buffers is not None:
        buffers.clear()


def _with_name(variable: TypeVar, reduced: Any) -> Any:
    """Return what a type variable reduces to, known to cloudpickle by what it is, the same in each process."""
    make, arguments = reduced
    if make is getattr:
        return reduced
    name = f"{variable.__module__}:{arguments[:-1]}"
    return make, (*arguments[:-1], hashlib.sha256(name.encode()).hexdigest())


def _is_made_of_defaults(doc: Any, kind: type) -> bool:
    """Whether a dataclass has a docstring that shows its defaults: sets in any order, and objects by their address."""
    return (
        isinstance(doc, str)
        and "__dataclass_fields__" in vars(kind)
        and doc.startswith(f"{kind.__name__}(")
        and ("{" in doc or " at 0x" in doc)
    )


def _imported_in(code: CodeType, package: str) -> Iterator[str]:
    """Yield the names of modules that code may import when it runs."""
    instructions: list[Any] = []
    if _IMPORT in code.co_code[::2]:
        import dis  # slow to load

        instructions += dis.get_instructions(code)
    for place, one in enumerate(instructions):
        if one.opname == "IMPORT_NAME":
            level, names = (two.argval for two in instructions[place - 2 : place])
            yield from _modules(one.argval, level, names, package)
    if not _IMPORTERS.isdisjoint(code.co_names):
        yield from (text for text in code.co_consts if isinstance(text, str) and _DOTTED.fullmatch(text))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imported_in(constant, package)


def _modules(name: str, level: Any, names: Any, package: str) -> Iterator[str]:
    if isinstance(level, int) and level > 0:
        above = package.rsplit(".", level - 1)[0] if level > 1 else package
        name = f"{above}.{name}" if name else above
    yield name
    for one in names if isinstance(names, tuple) else ():
        yield f"{name}.{one}"
