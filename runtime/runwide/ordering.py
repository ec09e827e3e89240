"""A pickler whose bytes depend on the value alone, and not on hash seeds or on which equal constants are one object."""

from __future__ import annotations

import io
import math
import pickle
from types import EllipsisType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, EllipsisType})
_CONTAINERS = frozenset({list, dict, tuple})
_AS_USUAL = _ATOMS | _CONTAINERS
_SORTABLE = frozenset({str, bytes, int})
_LARGEST = 64  # items of a tuple or frozenset that a source has as a constant
_MANY = 100  # from which on a container of plain data is worth a pickle of its own
_CHANGEABLE = frozenset({list, dict, bytearray})
_PLAIN = _ATOMS | _CHANGEABLE | {tuple}


class Shared(Exception):
    """Something of plain data that has a pickle of its own is also elsewhere."""


class _NotPlain(Exception):
    """There is more than plain data."""


class _PlainPickler(pickle.Pickler):
    """The pickler in C, for plain data without sets, which notes the containers in it."""

    def __init__(self, file: Any, known: Mapping[int, Any], apart: set[int]) -> None:
        super().__init__(file, protocol=5)
        self._known, self._apart = known, apart
        self.inside: set[int] = set()

    def persistent_id(self, obj: Any) -> None:
        kind = type(obj)
        if kind not in _PLAIN or (kind in _CHANGEABLE and id(obj) in self._known):
            raise _NotPlain
        if kind in _CHANGEABLE:
            if id(obj) in self._apart:
                raise Shared
            self.inside.add(id(obj))


_Python: Any = pickle._Pickler  # noqa: SLF001 - the pickler in Python, which can be extended


class Writer(_Python):  # type: ignore[misc]  # typeshed lacks what is extended here
    """Write a standard pickle: members of sets sorted, equal constants once.

    Which equal texts and tuples are one object differs between a program that was compiled now and one that was loaded from
    ``__pycache__``; the order of a set of texts differs in every process.

    Args:
        file: Where to write.
        reduced: A ``reducer_override`` for all else.
        dispatch_table: As that of a pickler.
        noted: Called with the module of each thing that is pickled by its name.
        compared: Pickles a member of a set, to be compared with others.
        buffer_callback: As for `pickle.dumps`.
        within: Identities of the sets whose members are being compared.
        quick: Whether large containers of plain data are pickled in C, apart from the rest; `Shared` is raised where that
            would part what is one object.
    """

    def __init__(
        self,
        file: Any,
        reduced: Callable[[Any], Any],
        *,
        dispatch_table: Mapping[type, Any],
        noted: Callable[[str], None],
        compared: Callable[[Any, frozenset[int]], bytes],
        buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
        within: frozenset[int] = frozenset(),
        quick: bool = True,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self.dispatch_table = dispatch_table
        self._reduced = reduced
        self._noted = noted
        self._compared = compared
        self._within = within
        self._constants: dict[Any, Any] = {}
        self._quick = quick
        self._apart: set[int] = set()

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:  # noqa: FBT001, FBT002, D102 - as in the class above
        constant = _constant(obj)
        if constant is not None:
            obj = self._constants.setdefault(constant, obj)
        elif id(obj) in self._apart:
            raise Shared
        super().save(obj, save_persistent_id)

    def save_bytearray(self, obj: Any) -> None:
        """Write the content of a buffer as an object of its own.

        Some versions of Python call this with bytes, for a buffer that may be changed, and note that they are a bytearray.
        All empty bytes are one object, so they would become one wherever they are in the value.
        """
        super().save_bytearray(bytearray(obj) if type(obj) is bytes else obj)

    def reducer_override(self, obj: Any) -> Any:  # noqa: D102 - as in the class above
        kind = type(obj)
        if kind in _AS_USUAL:
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
        pickler = _PlainPickler(file, self.memo, self._apart)
        try:
            pickler.dump(value)
        except (_NotPlain, RecursionError):
            return NotImplemented
        self._apart |= pickler.inside - {id(value)}
        return pickle.loads, (file.getvalue(),)  # noqa: TID251 - a part of this pickle, and trusted as that is

    def _set(self, value: Any) -> Any:
        if type(value) is frozenset:
            return frozenset, (self.ordered(value),)
        return set, (), self.ordered(value), None, None, set.update  # first made: a member may refer to it

    def _subclass(self, value: Any) -> Any:
        """Reduce a set of a class of its own as usual, with the members in order."""
        reduced = value.__reduce_ex__(5)
        if type(reduced) is not tuple or len(reduced[1]) != 1 or type(reduced[1][0]) is not list:
            return reduced
        make, (members,), *rest = reduced
        return make, (self.ordered(members, value),), *rest

    def ordered(self, members: Iterable[Any], owner: Any = None) -> list[Any]:
        """Return the members of a set in an order that is the same in every process.

        Args:
            members: The members.
            owner: The set itself, where the members are given apart from it.
        """
        found = list(members)
        if len(found) < 2 or _is_sortable(found):  # noqa: PLR2004 - one needs no order
            return sorted(found) if len(found) > 1 else found
        within = self._within | {id(members if owner is None else owner)}
        keys = {id(one): (type(one).__qualname__, self._compared(one, within)) for one in found}
        return sorted(found, key=lambda one: keys[id(one)])

    def save_global(self, obj: Any, name: str | None = None) -> None:  # noqa: D102 - as in the class above
        self._noted(pickle.whichmodule(obj, name or getattr(obj, "__qualname__", obj.__name__)))  # type: ignore[attr-defined]
        super().save_global(obj, name)

    dispatch: ClassVar[dict[type, Any]] = {**_Python.dispatch, FunctionType: save_global}


def _is_sortable(members: list[Any]) -> bool:
    """Whether Python's own order tells all members apart."""
    kinds = set(map(type, members))
    if kinds == {tuple}:
        columns = {tuple(map(type, one)) for one in members}
        return len(columns) == 1 and _SORTABLE.issuperset(*columns)
    if kinds == {float}:
        return not any(map(math.isnan, members))
    return len(kinds) == 1 and kinds <= _SORTABLE


def _constant(value: Any) -> Any:
    """Return what is equal for constants that a source writes in the same way; None for what is no constant."""
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
        return kind, repr(value)  # which tells 0.0 from -0.0
    return (kind, value) if kind in _ATOMS else _constant(value)
