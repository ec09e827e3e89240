"""cloudpickle that remembers where code came from, so that a remote traceback names files and lines.

cloudpickle replaces every file name by ``<dynamic-code>``, for payloads that do not depend on it. A worker that shows
the line that failed is worth more to us.
"""

from __future__ import annotations

import io
import marshal
from collections import ChainMap
from functools import lru_cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, MutableMapping

_MARSHAL = 2  # the last version whose output does not depend on reference counts


def load_code(data: bytes) -> CodeType:
    """The code object that was dumped; it must be this minor version of Python, as for all bytecode."""
    code: CodeType = marshal.loads(data)  # noqa: S302 - part of a pickle, and trusted as that is
    return code


def _reduce_code(code: CodeType) -> Any:
    try:
        return load_code, (marshal.dumps(code, _MARSHAL),)
    except ValueError:  # a tool has put something into its constants
        return cloudpickle.Pickler.dispatch_table[CodeType](code)


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:  # noqa: FBT001 - of a pickle
    return lru_cache(maxsize, typed)(function)


def _reduce_cached(cached: Any) -> Any:
    """A function under ``functools.cache``, which pickles by its name alone, goes as its function where that does."""
    module = f"{cached.__module__}."
    by_value = ("__main__", *cloudpickle.list_registry_pickle_by_value())
    if "<locals>" not in cached.__qualname__ and not any(module.startswith(f"{name}.") for name in by_value):
        return cached.__reduce__()
    parameters = cached.cache_parameters()
    return _cached, (cached.__wrapped__, parameters["maxsize"], parameters["typed"])


def _with_slots(kind: type, reduced: Any) -> Any:
    """The reduced class with its slots from the start: cloudpickle names them when it is made, too late to be slots.

    What has a ``__dict__`` in the worker for it cannot be loaded by this program, whose class has none.
    """
    slots = vars(kind).get("__slots__")
    if not isinstance(slots, (str, tuple, list, dict)) or reduced is NotImplemented:
        return reduced
    make, arguments, *rest = reduced
    if make.__name__ != "_make_skeleton_class":
        return reduced
    constructor, name, bases, keywords, *others = arguments
    return make, (constructor, name, bases, {**keywords, "__slots__": slots}, *others), *rest


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    dispatch_table: ClassVar[MutableMapping[type, Any]] = ChainMap(
        {CodeType: _reduce_code, type(lru_cache(abs)): _reduce_cached}, cloudpickle.Pickler.dispatch_table
    )

    def reducer_override(self, value: Any) -> Any:
        if issubclass(type(value), type):
            return _with_slots(value, super().reducer_override(value))
        return super().reducer_override(value) if isinstance(value, FunctionType) else NotImplemented


def dumps(value: object, *, buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle by value whatever another program could not import, with protocol 5.

    Example:
        >>> import pickle
        >>> pickle.loads(dumps(lambda x: x + 1))(1)
        2
    """
    file = io.BytesIO()
    _Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
