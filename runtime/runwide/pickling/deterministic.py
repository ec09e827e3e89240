"""A pickler whose bytes depend on the value only."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from types import EllipsisType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar


_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, EllipsisType})
_CONTAINERS = frozenset({list, dict, tuple})
_BUILTIN = _ATOMS | _CONTAINERS
_SORTABLE = frozenset({str, bytes, int})
_LARGEST = 64  # items of a tuple or frozenset that is treated as a constant of a source
_MANY = 100  # items from which on a container of plain data gets a pickle of its own
_CHANGEABLE = frozenset({list, dict, bytearray})
_PLAIN = _ATOMS | _CHANGEABLE | {tuple}


class Shared(Exception):
    """An object in a container with a pickle of its own is also in another part of the value."""


class _NotPlain(Exception):
    """A container has other objects than plain data."""


class _PlainPickler(pickle.Pickler):
    """The pickler in C, for plain data without sets; it records the containers that it meets."""

    def __init__(self, file: Any, known: Mapping[int, Any], separate: set[int]) -> None:
        super().__init__(file, protocol=5)
        self._known, self._separate = known, separate
        self.inside: set[int] = set()

    def persistent_id(self, obj: Any) -> None:
        kind = type(obj)
        if kind not in _PLAIN or (kind in _CHANGEABLE and id(obj) in self._known):
            raise _NotPlain
        if kind in _CHANGEABLE:
            if id(obj) in self._separate:
                raise Shared
            self.inside.add(id(obj))


_Python: Any = pickle._Pickler  # noqa: SLF001 - the pickler in Python, which can be extended


class Writer(_Python):  # type: ignore[misc]  # typeshed has no such class
    """Write a standard pickle with the members of sets sorted and equal constants written once.

    Equal texts and tuples may be one object in a program that was just compiled, and several in one that was loaded from
    ``__pycache__``. The order of a set of texts differs in every process.

    Args:
        reduced: A ``reducer_override`` for all other objects.
        note_module: Called with the module of each object that is pickled by its name.
        compared: Pickles a member of a set, to compare it with the others.
        within: Ids of the sets whose members are being compared.
        quick: Whether large containers of plain data are pickled in C, separately. `Shared` is raised if an object would be
            split into two by that.
    """

    def __init__(
        self,
        file: Any,
        reduced: Callable[[Any], Any],
        *,
        dispatch_table: Mapping[type, Any],
        note_module: Callable[[str], None],
        compared: Callable[[Any, frozenset[int]], bytes],
        buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
        within: frozenset[int] = frozenset(),
        quick: bool = True,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self.dispatch_table = dispatch_table
        self._reduced = reduced
        self._note_module = note_module
        self._compared = compared
        self._within = within
        self._constants: dict[Any, Any] = {}
        self._quick = quick
        self._separate: set[int] = set()

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:  # noqa: FBT001, FBT002, D102 - as in the base class
        constant = _constant(obj)
        if constant is not None:
            obj = self._constants.setdefault(constant, obj)
        elif id(obj) in self._separate:
            raise Shared
        super().save(obj, save_persistent_id)

    def save_bytearray(self, obj: Any) -> None:
        """Write the content of a buffer as an object of its own.

        For a writable buffer, some versions of Python call this with bytes and memoize these as a bytearray. All empty bytes
        are one object, so each of them in the value would become that bytearray.
        """
        super().save_bytearray(bytearray(obj) if type(obj) is bytes else obj)

    def reducer_override(self, obj: Any) -> Any:  # noqa: D102 - as in the base class
        kind = type(obj)
        if kind in _BUILTIN:
            return (
                self._plain(obj)
                if kind in _CONTAINERS and self._quick and len(obj) >= _MANY
                else NotImplemented
            )
        if kind is set or kind is frozenset:
            return self._set(obj) if obj else NotImplemented
        reduced = self._reduced(obj)
        if reduced is NotImplemented and issubclass(kind, (set, frozenset)):
            return self._subclass(obj)
        return reduced

    def _plain(self, value: Any) -> Any:
        file = io.BytesIO()
        pickler = _PlainPickler(file, self.memo, self._separate)
        try:
            pickler.dump(value)
        except (_NotPlain, RecursionError):
            return NotImplemented
        self._separate |= pickler.inside - {id(value)}
        return pickle.loads, (file.getvalue(),)  # noqa: TID251 - a part of this pickle, as trusted as the whole

    def _set(self, value: Any) -> Any:
        if type(value) is frozenset:
            return frozenset, (self.ordered(value),)
        # The set is made before its members, which may refer to it.
        return set, (), self.ordered(value), None, None, set.update

    def _subclass(self, value: Any) -> Any:
        """Reduce an instance of a subclass of set in the usual way, with its members sorted."""
        reduced = value.__reduce_ex__(5)
        if type(reduced) is not tuple or len(reduced[1]) != 1 or type(reduced[1][0]) is not list:
            return reduced
        make, (members,), *rest = reduced
        return make, (self.ordered(members, value),), *rest

    def ordered(self, members: Iterable[Any], owner: Any = None) -> list[Any]:
        """Return the members of a set in an order that is the same in every process.

        Args:
            owner: The set, if the members are given as another object.
        """
        found = list(members)
        if len(found) < 2 or _is_sortable(found):  # noqa: PLR2004 - a single member needs no order
            return sorted(found) if len(found) > 1 else found
        within = self._within | {id(members if owner is None else owner)}
        keys = {id(one): (type(one).__qualname__, self._compared(one, within)) for one in found}
        return sorted(found, key=lambda one: keys[id(one)])

    def save_global(self, obj: Any, name: str | None = None) -> None:  # noqa: D102 - as in the base class
        self._note_module(pickle.whichmodule(obj, name or getattr(obj, "__qualname__", obj.__name__)))  # type: ignore[attr-defined]
        super().save_global(obj, name)

    dispatch: ClassVar[dict[type, Any]] = {**_Python.dispatch, FunctionType: save_global}


def _is_sortable(members: list[Any]) -> bool:
    """Return whether Python's own order is defined for all members."""
    kinds = set(map(type, members))
    if kinds == {tuple}:
        columns = {tuple(map(type, one)) for one in members}
        return len(columns) == 1 and _SORTABLE.issuperset(*columns)
    if kinds == {float}:
        return not any(map(math.isnan, members))
    return len(kinds) == 1 and kinds <= _SORTABLE


def _constant(value: Any) -> Any:
    """Return a key that is equal for constants that are written in the same way; None if the value is no constant."""
    kind = type(value)
    if kind is str or kind is bytes:
        return value
    if kind is complex:
        return kind, repr(value)
    if (kind is tuple or kind is frozenset) and 0 < len(value) <= _LARGEST:
        parts = [_part(one) for one in value]
        if None not in parts:
            return kind, (frozenset if kind is frozenset else tuple)(parts)
    return None


def _part(value: Any) -> Any:
    kind = type(value)
    if kind is float or kind is complex:
        return kind, repr(value)  # to distinguish 0.0 from -0.0
    return (kind, value) if kind in _ATOMS else _constant(value)


_INCIDENTAL = frozenset({"__firstlineno__", "__slotnames__"})  # pickling an instance sets __slotnames__


def attributes_of(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a class that are the same in every process, in the same order.

    Example:
        >>> attributes_of(int, {"__firstlineno__": 3, "rate": 1.2})
        {'rate': 1.2}
    """
    kept = {name: value for name, value in values.items() if name not in _INCIDENTAL}
    if not kept.get("__annotations__", True):  # Python sets it when it is first read
        del kept["__annotations__"]
    if _is_generated(kept.get("__doc__"), kind):
        del kept["__doc__"]
    if "_abc_impl" in kept:
        kept["_abc_impl"] = sorted(kept["_abc_impl"], key=lambda kind: (kind.__module__, kind.__qualname__))
    if "__static_attributes__" in kept:
        kept["__static_attributes__"] = tuple(sorted(kept["__static_attributes__"]))
    return kept


def type_variable(variable: TypeVar, reduced: Any) -> Any:
    """Reduce a type variable with an identifier for cloudpickle that is the same in every process."""
    make, arguments = reduced
    if make is getattr:
        return reduced
    name = f"{variable.__module__}:{arguments[:-1]}"
    return make, (*arguments[:-1], hashlib.sha256(name.encode()).hexdigest())


def _is_generated(doc: Any, kind: type) -> bool:
    """Return whether a dataclass has a generated docstring whose defaults show sets, in any order, or addresses."""
    return (
        isinstance(doc, str)
        and "__dataclass_fields__" in vars(kind)
        and doc.startswith(f"{kind.__name__}(")
        and ("{" in doc or " at 0x" in doc)
    )
