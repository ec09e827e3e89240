"""cloudpickle, also for what it cannot bring back: objects whose class has slots, and functions under a cache."""

from __future__ import annotations

import io
from collections import ChainMap
from functools import lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, MutableMapping


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


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles by value whatever another program could not import."""

    dispatch_table: ClassVar[MutableMapping[type, Any]] = ChainMap(
        {type(lru_cache(abs)): _reduce_cached}, cloudpickle.Pickler.dispatch_table
    )

    def reducer_override(self, value: Any) -> Any:  # noqa: D102 - as in the class it stands for
        if issubclass(type(value), type):
            return _with_slots(value, super().reducer_override(value))
        return super().reducer_override(value) if isinstance(value, FunctionType) else NotImplemented


def dumps(
    value: object,
    *,
    pickler: type[Pickler] = Pickler,
    buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
) -> bytes:
    """Pickle by value whatever another program could not import, with protocol 5.

    Example:
        >>> import pickle
        >>> pickle.loads(dumps(lambda x: x + 1))(1)
        2
    """
    file = io.BytesIO()
    pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
