"""numpy's arrays, dtypes and scalars from pickles that are not trusted; numpy itself does not check them.

A pickle may describe a dtype whose objects are numbers: then numpy uses numbers of the pickle as addresses. So each dtype is
made a second time from its parts, and both must be equal.
"""

from __future__ import annotations

import pickle
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from runwide.store.plain import NotPlain, scalars

if TYPE_CHECKING:
    from collections.abc import Callable

_dtype: Any = np.dtype  # numpy's stubs accept literals only
_CODE = re.compile(r"[biufcOSUVMm]\d{1,9}")
_UNIT = re.compile(r"[A-Za-z]{1,7}|μs")
_PLACES = re.compile(r"numpy\.(core|_core)\.(multiarray|numeric)")  # numpy 2, and numpy 1
_DEEPEST, _MOST = 32, 10_000  # nested dtypes, and dtypes in all
_ALIGNED = 0x80


class Arrays:
    """Makes the arrays, dtypes and scalars of one pickle.

    Args:
        later: Remembers how a value takes its state, or that it takes none any more.
        held: Refuses values for an array of objects that are nested too deep.
    """

    def __init__(self, later: Callable[..., Any], held: Callable[[list[Any]], Any]) -> None:
        self._later, self._held = later, held
        self._kinds: dict[int, tuple[Any, int, int]] = {}  # each with its depth and number of parts

    def maker(self, module: str, name: str) -> tuple[Any, Callable[..., Any]] | None:
        """Return the object of a name and the function that is called instead; None if it is not plain data."""
        if module == "numpy":
            return {"dtype": (_dtype, self._kind), "ndarray": (np.ndarray, _never)}.get(name)
        if not _PLACES.fullmatch(module):
            return None
        makers: dict[str, Callable[..., Any]] = {
            "_reconstruct": self._empty,
            "scalar": self._scalar,
            "_frombuffer": self._of_buffer,
        }
        return (makers[name], makers[name]) if name in makers else None

    def _kind(self, code: Any, align: Any = 0, copy: Any = 1) -> Any:
        if type(code) is not str or not _CODE.fullmatch(code) or (align, copy) != (0, 1):
            raise NotPlain("this is not how numpy writes a dtype")
        made = _dtype(code, False, True)
        self._kinds[id(made)] = made, 1, 1
        return self._later(made, partial(self._set_kind, made))

    def _set_kind(self, kind: Any, state: Any) -> None:
        try:
            wanted = self._described(kind, state)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise NotPlain(f"this is not how numpy writes a dtype ({error})") from error
        kind.__setstate__(state)
        if kind != wanted or kind.flags != wanted.flags:
            raise NotPlain("a dtype is not the one that it describes")

    def _described(self, kind: Any, state: Any) -> Any:
        """Return the dtype that a description says, made from its parts."""
        version, order, base, names, fields, size, align, flags, *more = state
        if version not in (3, 4) or any(type(one) is not int for one in (version, size, align, flags)):
            raise NotPlain("this is not how numpy writes a dtype")
        if base is not None:
            made = _dtype((self._part(kind, [base[0]]), _shape(base[1])))
        elif names is not None:
            made = self._structure(kind, names, fields, size, align=bool(flags & _ALIGNED))
        elif any(one is not None for one in more):
            made = _of_time(kind, *more[0])
        else:
            made = _dtype(kind.str)
        made = made.newbyteorder(order) if order in ("<", ">") and base is names is None else made
        if flags != made.flags or size not in (-1, made.itemsize) or align not in (-1, made.alignment):
            raise NotPlain("a dtype has another size or other flags than it says")
        return made

    def _structure(self, kind: Any, names: Any, fields: Any, size: int, *, align: bool) -> Any:
        if type(names) is not tuple or type(fields) is not dict or any(type(one) is not str for one in names):
            raise NotPlain("a dtype's fields have no names")
        if set(fields) != set(names):
            raise NotPlain("a dtype has other fields than it says")
        formats, offsets = zip(*(fields[name] for name in names), strict=True) if names else ((), ())
        self._part(kind, formats)
        about: Any = {"names": list(names), "formats": list(formats), "offsets": list(offsets)}
        return _dtype({**about, "itemsize": size}, align=align)

    def _part(self, kind: Any, parts: Any) -> Any:
        """Remember the parts of a dtype, which are not changed any more; return the first part."""
        known = [self._kinds[id(self._later(part))] for part in parts]
        depth = 1 + max((one[1] for one in known), default=0)
        number = 1 + sum(one[2] for one in known)
        if depth > _DEEPEST or number > _MOST:
            raise NotPlain("a dtype has too many parts")
        self._kinds[id(kind)] = kind, depth, number
        return parts[0] if parts else None

    def _used(self, kind: Any) -> Any:
        if id(kind) not in self._kinds:
            raise NotPlain("an array has no dtype")
        return self._later(kind)

    def _empty(self, kind: Any, shape: Any, code: Any) -> Any:
        """Return an array that is filled later; numpy's pickles always begin with an empty array."""
        if kind is not np.ndarray or type(shape) is not tuple or shape != (0,) or code != b"b":
            raise NotPlain("this is not how numpy writes an array")
        made = np.ndarray((0,), np.int8)
        return self._later(made, partial(self._set_array, made))

    def _set_array(self, array: Any, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5 or type(state[0]) is not int:  # noqa: PLR2004 - numpy's way
            raise NotPlain("this is not how numpy writes an array")
        _, shape, kind, _, data = state
        _shape(shape)
        if self._used(kind).hasobject:
            self._check_objects(kind, data)
        elif type(data) is not bytes:
            raise NotPlain("this is not how numpy writes an array")
        array.__setstate__(state)

    def _check_objects(self, kind: Any, data: Any) -> None:
        if type(data) is not list:
            raise NotPlain("this is not how numpy writes an array of objects")
        if (
            kind.names is not None or kind.subdtype is not None
        ):  # numpy converts some of them to numbers and text
            for row in data:
                scalars(row if type(row) is tuple else (row,))
        self._held(data)

    def _scalar(self, kind: Any, data: Any) -> Any:
        if type(data) is not bytes or self._used(kind).hasobject or len(data) != kind.itemsize:
            raise NotPlain("this is not how numpy writes a number")
        return _of("multiarray").scalar(kind, data)

    def _of_buffer(self, data: Any, kind: Any, shape: Any, *order: Any) -> Any:
        if type(data) not in (bytes, bytearray, memoryview, pickle.PickleBuffer):
            raise NotPlain("an array has no bytes")
        if self._used(kind).hasobject:
            raise NotPlain("an array of objects has bytes")
        return _of("numeric")._frombuffer(data, kind, _shape(shape), *order)  # noqa: SLF001 - pickles name it


def _of(module: str) -> Any:
    from importlib import import_module

    return import_module(f"numpy.{'_core' if hasattr(np, '_core') else 'core'}.{module}")


def _of_time(kind: Any, extra: Any, unit: Any) -> Any:
    name, number, denominator, event = unit
    name = name.decode() if type(name) is bytes else name
    if extra or kind.kind not in "Mm" or not _UNIT.fullmatch(name) or (denominator, event) != (1, 1):
        raise NotPlain("a dtype has something added to it")
    return _dtype(kind.str if name == "generic" else f"{kind.kind}8[{number:d}{name}]")


def _shape(shape: Any) -> Any:
    if type(shape) is not tuple or any(type(one) is not int for one in shape):
        raise NotPlain("a shape has to consist of numbers")
    return shape


def _never(*_: Any) -> Any:
    raise NotPlain("this is not how numpy writes an array")
