"""Pickles between a pool and its workers.

cloudpickle replaces every file name by ``<dynamic-code>``, so that pickles do not depend on it. Here, tracebacks of workers
that show the failed line matter more.
"""

from __future__ import annotations

import builtins
import hashlib
import marshal
from collections import ChainMap
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle
from cloudpickle.cloudpickle import _extract_code_globals

from runwide.pickling import definitions, loading, pickler
from runwide.pickling.identity import is_named
from runwide.pickling.namespaces import ABSENT, is_empty
from runwide.pickling.reproducible import content

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Mapping, MutableMapping

    from runwide.pickling.identity import Identity
    from runwide.pool.transfer import Parcel

_MARSHAL = 2  # the last version whose output does not depend on reference counts
_COMPARED = 16 << 20  # bytes above which a value is sent each time, since comparing it takes as long
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_TEXT = 200


def load_code(data: bytes) -> CodeType:
    """Load a code object, which was dumped by the same minor version of Python."""
    code: CodeType = marshal.loads(data)  # noqa: S302 - part of a trusted pickle
    return code


def _reduce_code(code: CodeType) -> Any:
    try:
        return load_code, (marshal.dumps(code, _MARSHAL),)
    except ValueError:  # a tool has put something into its constants
        return cloudpickle.Pickler.dispatch_table[CodeType](code)


def identity_of(kind: type) -> Identity:
    """Return the identity by which a worker recognizes a class."""
    return definitions.identity(kind, content)


class _ToWorkers(pickler.Pickler):
    """The pickler for workers: it keeps the file names of code, and the versions of definitions."""

    dispatch_table: ClassVar[MutableMapping[type, Any]] = ChainMap(
        {CodeType: _reduce_code}, pickler.Pickler.dispatch_table
    )

    def __init__(self, *args: Any, parcel: Parcel | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._parcel = parcel

    def _class(self, kind: Any) -> Any:
        return self._apart(kind) or super()._class(kind)

    def _function(self, function: Any) -> Any:
        return self._apart(function) or super()._function(function)

    def _apart(self, thing: Any) -> Any:
        """Add a definition to the parcel, once; return None if it goes with the value.

        Only definitions with a name in their module go there, so a worker keeps no more than the program has names.
        """
        if self._parcel is None or pickler.is_imported(thing) or not is_named(thing):
            return None
        key = identity_of(thing).key if isinstance(thing, type) else definitions.key_of(thing)
        if key not in self._parcel:
            self._parcel[key] = dumps_for_workers(thing)
        return loading.learned, (key,)

    @property
    def origin(self) -> str:  # type: ignore[override]
        return definitions.origin()

    def identity(self, kind: type) -> Identity:
        definitions.keep(kind)
        return super().identity(kind)

    def key(self, function: Any) -> str:
        return definitions.key_of(function)

    def version(self, value: Any) -> Any:
        return version(value)

    def versions(self, values: Mapping[str, Any], function: Any = None) -> dict[str, Any]:
        absent = () if function is None else _absent_from(function)
        return {**{name: version(value) for name, value in values.items()}, **dict.fromkeys(absent, ABSENT)}

    def variables(self, function: Any) -> tuple[list[str | None], dict[str, Any]]:
        cells = function.__closure__ or ()
        keys = [definitions.key_of_cell(cell) for cell in cells]
        return keys, {
            key: ABSENT if is_empty(cell) else version(cell.cell_contents)
            for key, cell in zip(keys, cells, strict=True)
            if key
        }


def _absent_from(function: Any) -> list[str]:
    """Return the globals that a function uses and its module does not have, such as those that it sets."""
    names = _extract_code_globals(function.__code__)
    return [name for name in names if name not in function.__globals__ and not hasattr(builtins, name)]


class _ToProgram(_ToWorkers):
    """The pickler for the program: it refers to classes of the pool's process by their keys."""

    def _class(self, kind: Any) -> Any:
        if definitions.is_returnable(kind):
            return definitions.own, (identity_of(kind).key,)
        return super()._class(kind)


class _TooLarge(Exception):
    """The value is too large to be compared."""


class _Compared(_ToWorkers):
    """A pickler that writes versions instead of definitions."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) or _is_function(value):
            return NotImplemented if pickler.is_imported(value) else (str, (str(version(value)),))
        return super().reducer_override(value)


class _Digest:
    """A file that keeps only a digest of the bytes written to it."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=12)
        self._room = _COMPARED

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._room -= size
        if self._room < 0:
            raise _TooLarge
        self._hash.update(data)
        return size

    def buffer(self, buffer: pickle.PickleBuffer) -> bool:
        self.write(buffer.raw())
        return False

    def text(self) -> str:
        return self._hash.hexdigest()


def version(value: Any) -> Any:
    """Return a version of a value, which differs when the program has changed the value; None if unknown.

    Example:
        >>> settings = {"depth": 3}
        >>> before = version(settings)
        >>> settings["depth"] = 4
        >>> version(settings) == before, version(settings) == version({"depth": 4})
        (False, True)
    """
    kind = type(value)
    if kind in _SCALARS and (kind not in (str, bytes) or len(value) < _TEXT):
        return f"{kind.__name__}:{value!r}"
    if isinstance(value, type) or _is_function(value):
        if pickler.is_imported(value):
            return f"{value.__module__}:{value.__qualname__}"
        return identity_of(value).key if isinstance(value, type) else _version_of_function(value)
    return _digest(value)


def _is_function(value: Any) -> bool:
    return type(value) in (FunctionType, pickler.CACHED)


def _version_of_function(function: Any) -> Any:
    key = definitions.key_of(function)
    if type(function) is pickler.CACHED:
        return key
    parts = function.__defaults__, function.__kwdefaults__, function.__dict__
    if function.__closure__ is None and not any(parts):
        return f"{key}:{hash(function.__code__)}"
    try:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell is still empty
        return None
    digest = _digest((parts, cells))
    return None if digest is None else f"{key}:{hash(function.__code__)}:{digest}"


def _digest(value: Any) -> str | None:
    file = _Digest()
    with suppress(Exception):  # it is too large, or cannot be pickled, which is reported when it is sent
        _Compared(file, protocol=5, buffer_callback=file.buffer).dump(value)
        return file.text()
    return None


def dumps_for_workers(
    value: object,
    *,
    buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
    parcel: Parcel | None = None,
) -> bytes:
    """Pickle for processes that this one has started; definitions go to the parcel, if there is one.

    Example:
        >>> import pickle
        >>> pickle.loads(dumps_for_workers(lambda x: x + 1))(1)
        2
    """
    made = partial(_ToWorkers, parcel=parcel)
    return pickler.dumps(value, pickler=made, buffer_callback=buffer_callback)


def dumps_for_program(
    value: object, *, buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None
) -> bytes:
    """Pickle in a worker for the process that has started it."""
    return pickler.dumps(value, pickler=_ToProgram, buffer_callback=buffer_callback)
