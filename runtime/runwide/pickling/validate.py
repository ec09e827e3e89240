"""Check a function and its items before they are sent to workers."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.naming import attribute, kind_of, name_of, shown
from runwide.pickling.unpicklable import global_names

if TYPE_CHECKING:
    from collections.abc import Iterator


# Flags of code objects, as `inspect` has them, which is slow to load: CO_GENERATOR, CO_ASYNC_GENERATOR and CO_COROUTINE.
_YIELDS = 0x20 | 0x200
_IS_ASYNC = 0x80


def check(function: Any, items: Any = ()) -> None:
    """Reject a function that no worker could run, or whose result could not leave it, and items that are not an iterable.

    Example:
        >>> check([1, 2], abs)
        Traceback (most recent call last):
        TypeError: the function cannot be called: [1, 2]; give the function first, then the items
    """
    if not callable(function):
        raise TypeError(
            f"the function cannot be called: {shown(function)}; give the function first, then the items"
        )
    if attribute(items, "__iter__") is None and attribute(items, "__getitem__") is None:
        raise TypeError(f"items is {kind_of(items)}, not an iterable; put a single item into a list")
    flags = _flags(function)
    name = name_of(function)
    if flags & _IS_ASYNC:
        hint = "pass a function that calls asyncio.run(...) itself"
        raise InputError(f"{name} is an async function, and a coroutine cannot leave its process", hint=hint)
    if flags & _YIELDS:
        raise InputError(
            f"{name} yields, and a generator cannot leave its process", hint="return a list instead"
        )


def _flags(function: Any) -> int:
    """Return the flags of the code that a call runs first; 0 if it is not written in Python."""
    while isinstance(function, partial):
        function = function.func
    if (
        attribute(function, "__code__") is None
        and attribute(function, "__func__") is None
        and not isinstance(function, type)
    ):
        methods = (vars(kind).get("__call__") for kind in type(function).__mro__)
        function = next(filter(None, methods), function)
    flags = attribute(attribute(attribute(function, "__func__", function), "__code__"), "co_flags")
    return flags if isinstance(flags, int) else 0


_KINDS = (("random", "Random"), ("numpy.random", "Generator"), ("numpy.random", "RandomState"))
_DEPTH = 3  # functions in partials in closures
_HERE = str(Path(__file__).parent)


def warn_of_generator(function: Any) -> None:
    """Warn if a function has a random generator: each worker gets a copy, so items on different workers draw the same."""
    found = generator_in(function)
    if found is not None:
        kind = f"{type(found).__module__.partition('.')[0]}'s {type(found).__name__}"
        warnings.warn(
            f"{name_of(function)} has a random generator ({kind}), and each worker gets the same copy of it: items on "
            "different workers draw the same numbers. Make a generator in the function, from a seed and the item, such "
            "as numpy.random.default_rng([seed, item])",
            UserWarning,
            stacklevel=_stacklevel(),
        )


def generator_in(function: Any, depth: int = _DEPTH) -> Any:
    """Return a random generator that a function holds; None if it has none, or no library with generators is loaded.

    Example:
        >>> import random
        >>> type(generator_in(random.Random(7).random)).__name__, generator_in(lambda: random.random())
        ('Random', None)
    """
    kinds = _known_kinds()
    if not kinds or depth == 0:
        return None
    for value in _held(function):
        if isinstance(value, kinds):
            if not isinstance(value, getattr(sys.modules.get("random"), "SystemRandom", ())):
                return value
        elif (
            isinstance(value, (FunctionType, MethodType, partial)) or attribute(value, "function") is not None
        ):
            found = generator_in(value, depth - 1)
            if found is not None:
                return found
    return None


def _known_kinds() -> tuple[type, ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in _KINDS)
    return tuple(kind for kind in found if isinstance(kind, type))


def _held(function: Any) -> Iterator[Any]:
    """Yield the objects that are pickled with a function by value."""
    if isinstance(function, partial):
        yield from (function.func, *function.args, *function.keywords.values())
        return
    owner = attribute(function, "__self__")
    if isinstance(owner, ModuleType):  # a function written in C
        return
    if owner is not None and not isinstance(function, FunctionType):
        yield from (owner, *_attributes(owner))
        function = attribute(function, "__func__", owner)
    if not isinstance(function, FunctionType):
        yield from _attributes(function)
        return
    for cell in function.__closure__ or ():
        yield attribute(cell, "cell_contents")
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    if function.__module__ == "__main__":
        known = function.__globals__
        yield from (known[name] for name in global_names(function.__code__) if name in known)


def _attributes(value: Any) -> list[Any]:
    found = attribute(value, "__dict__")
    return list(found.values()) if isinstance(found, dict) else []


def _stacklevel() -> int:
    """Return the stack level of the first frame outside of runwide."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - `warnings` does the same
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    return level
