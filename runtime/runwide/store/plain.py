"""Load pickles of plain data: numbers, text, bytes, containers, dates and numpy arrays, without running their code.

Python's own unpickler, which is written in C, trusts a pickle with more than the names of functions: ten bytes make it
allocate gigabytes, or set the attributes of a class, and a key that is nested deeply enough ends the process. So this
unpickler knows only the opcodes that protocol 5 needs for plain data, and checks the object that each of them is about to
change.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, SafeUUID

from runwide.json_text import DEPTH
from runwide.naming import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_OPCODES = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BINFLOAT),
        *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.LONG4),
        *(pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8),
        *(pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8),
        *(pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET, pickle.EMPTY_TUPLE),
        *(pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE),
        *(pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET, pickle.STACK_GLOBAL),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    )
)
"""Opcodes for which the checks of Python's own unpickler in Python are enough."""

_SCALARS = (int, bool, float, str, bytes, type(None), timedelta, timezone)
_NESTED = 200  # see `_Plain._held`
_HASHED = 64, 1 << 20  # elements of keys that may be hashed: for each byte of the pickle, and in addition


class NotPlain(pickle.UnpicklingError):
    """A pickle contains more than plain data; it was not loaded."""


class _Opcodes(dict[int, Any]):
    def __missing__(self, code: int) -> Any:
        raise NotPlain(f"opcode {code:#04x} is not used for plain data")


class _Plain(pickle._Unpickler):  # noqa: SLF001 - the unpickler in C cannot be stopped before it changes an object
    """An unpickler that loads only the classes and functions of `_NAMES` and of `runwide.store.arrays`."""

    dispatch = _Opcodes({code: pickle._Unpickler.dispatch[code] for code in _OPCODES})  # noqa: SLF001 - likewise
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, stream: bytes | memoryview, buffers: Iterable[Any]) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._size = len(stream)
        self._hashes_left = _HASHED[0] * self._size + _HASHED[1]
        self._nested = 0
        self._makers: dict[int, Callable[..., Any]] = {}
        self._unset: dict[
            int, tuple[Any, Callable[[Any], None]]
        ] = {}  # values that may be given their state, once

    def find_class(self, module: str, name: str) -> Any:
        found, maker = self._found(module, name)
        self._makers[id(found)] = maker
        return found

    def _found(self, module: str, name: str) -> tuple[Any, Callable[..., Any]]:
        if module.startswith("numpy"):
            from runwide.store.arrays import Arrays  # it loads numpy

            arrays: Any = vars(self).setdefault("_arrays", Arrays(self._later, self._held))
            found: tuple[Any, Callable[..., Any]] | None = arrays.maker(module, name)
            if found:
                return found
        elif (module, name) in _NAMES:
            return _NAMES[module, name]
        raise NotPlain(f"{module}.{name} is not plain data")

    def _later(self, value: Any, put: Callable[[Any], None] | None = None) -> Any:
        """Remember how a value takes its state; without ``put``, it is in use and takes no state any more."""
        self._unset.pop(id(value), None)
        if put is not None:
            self._unset[id(value)] = value, put
        return value

    def _reduce(self) -> None:
        args = self.stack.pop()
        maker = self._makers.get(id(self.stack[-1]))
        if maker is None or type(args) is not tuple:
            raise NotPlain(f"a {type(self.stack[-1]).__name__} is called")
        self.stack[-1] = maker(*args)

    def _new(self) -> None:
        args, kind = self.stack.pop(), self.stack.pop()
        if kind is not UUID or args != ():
            raise NotPlain("an object of a class that is not plain data")
        made = UUID.__new__(UUID)
        self.stack.append(self._later(made, partial(_set_uuid, made)))

    def _build(self) -> None:
        state = self.stack.pop()
        _, put = self._unset.pop(id(self.stack[-1]), (None, None))
        if put is None:
            raise NotPlain(f"a {type(self.stack[-1]).__name__} is given a state")
        put(state)

    def _append(self) -> None:
        self._fill([self.stack.pop()])

    def _appends(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, values: list[Any]) -> None:
        found = self._top(list, deque)
        found.extend(values if type(found) is list else self._held(values))

    def _held(self, values: list[Any]) -> list[Any]:
        """Return the values for a deque or an array of objects, after checking how deep they are nested.

        Python frees nested ones recursively, on its stack.
        """
        if any(type(one) is deque or _has_objects(one) or id(one) in self._unset for one in values):
            self._nested += 1
            if self._nested > _NESTED:
                raise NotPlain(f"more than {_NESTED} deques or arrays are inside of others")
        return values

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict, OrderedDict)[self._key(key)] = value

    def _set_items(self) -> None:
        items = self.pop_mark()
        found = self._top(dict, OrderedDict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            found[self._key(key)] = value

    def _add_items(self) -> None:
        values = self.pop_mark()
        self._top(set).update(map(self._key, values))

    def _frozen_set(self) -> None:
        values = self.pop_mark()
        self.stack.append(frozenset(map(self._key, values)))

    def _byte_array(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self._size:
            raise NotPlain(f"{size} bytes are promised, and there are fewer")
        self.stack.append(bytearray(self.read(size)))

    def _top(self, *kinds: type) -> Any:
        if type(self.stack[-1]) not in kinds:
            raise NotPlain(f"a {type(self.stack[-1]).__name__} is filled")
        return self.stack[-1]

    def _key(self, key: Any) -> Any:
        """Return a key after checking the cost of its hash: Python hashes recursively, and a shared part once per place."""
        if type(key) not in (tuple, frozenset):
            return key
        waiting = [(key, 1)]
        while waiting:
            one, depth = waiting.pop()
            self._hashes_left -= len(one)
            if depth > DEPTH or self._hashes_left < 0:
                raise NotPlain(f"a key is nested deeper than {DEPTH}, or too large to be hashed")
            waiting += [(part, depth + 1) for part in one if type(part) in (tuple, frozenset)]
        return key

    for _code, _method in (
        (pickle.REDUCE, _reduce), (pickle.NEWOBJ, _new), (pickle.BUILD, _build), (pickle.APPEND, _append),
        (pickle.APPENDS, _appends), (pickle.SETITEM, _set_item), (pickle.SETITEMS, _set_items),
        (pickle.ADDITEMS, _add_items), (pickle.FROZENSET, _frozen_set), (pickle.BYTEARRAY8, _byte_array),
    ):  # fmt: skip
        dispatch[_code[0]] = _method
    del _code, _method


def loads(stream: bytes | memoryview, *, buffers: Iterable[Any] = ()) -> Any:
    """Return the value of a pickle of plain data, of protocol 4 or 5.

    Raises:
        NotPlain: It names a class or a function that is not plain data.

    Example:
        >>> loads(pickle.dumps({"mean": 3.5, "of": (1, 6)}))
        {'mean': 3.5, 'of': (1, 6)}
        >>> loads(pickle.dumps(print))
        Traceback (most recent call last):
        ...
        runwide.store.plain.NotPlain: builtins.print is not plain data
    """
    return _Plain(stream, buffers).load()


def scalars(values: Any) -> Any:
    """Return values after checking that each is a number, text or the like, whose cost is proportional to its length.

    Example:
        >>> scalars((1, "a", None))
        (1, 'a', None)
    """
    for one in values:
        if type(one) not in _SCALARS:
            raise NotPlain(f"{kind_of(one)} where plain data has a number or text")
    return values


def _has_objects(value: Any) -> bool:
    return type(value).__name__ == "ndarray" and value.dtype.hasobject


def _of_scalars(kind: Callable[..., Any], *args: Any) -> Any:
    return kind(*scalars(args))


def _ordered() -> Any:
    return OrderedDict()


def _deque(start: Any = (), most: Any = None) -> Any:
    if type(start) is not tuple or start:
        raise NotPlain("a deque is written in another way")
    return deque(maxlen=scalars((most,))[0])


def _slice(*args: Any) -> Any:
    if any(type(one) in (tuple, frozenset, slice) for one in args):  # a slice is hashed as a tuple is
        raise NotPlain("the ends of a slice are not numbers")
    return slice(*args)


def _set_uuid(made: UUID, state: Any) -> None:
    if type(state) is not dict or any(type(one) is not int for one in state.values()):
        raise NotPlain("a UUID is written in another way")
    UUID(int=state["int"])  # it checks the bounds
    made.__setstate__(state)  # type: ignore[attr-defined] # as old as the class


_NAMES: dict[tuple[str, str], tuple[Any, Callable[..., Any]]] = {
    **{
        (kind.__module__, kind.__name__): (kind, partial(_of_scalars, kind))
        for kind in (complex, range, date, datetime, time, timedelta, timezone, Decimal, SafeUUID)
    },
    ("builtins", "slice"): (slice, _slice),
    ("collections", "OrderedDict"): (OrderedDict, _ordered),
    ("collections", "deque"): (deque, _deque),
    ("uuid", "UUID"): (UUID, partial(_of_scalars, UUID)),
}
