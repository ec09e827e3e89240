"""Reject calls that cannot work, before a worker is started for them."""

from __future__ import annotations

from functools import partial
from typing import Any

from runwide.errors import InputError
from runwide.naming import attribute, name_of, shown

# Flags of code objects, as `inspect` has them, which is slow to load: CO_GENERATOR, CO_ASYNC_GENERATOR and CO_COROUTINE.
_YIELDS = 0x20 | 0x200
_IS_ASYNC = 0x80


def check(function: Any, items: Any = ()) -> None:
    """Reject a function that no worker could run, or whose result could not leave it, and items that are no iterable.

    Raises:
        TypeError: The function cannot be called, or the items are not an iterable.
        InputError: It is an async function or a generator function.

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
        raise TypeError(f"the items are not an iterable: {shown(items)}; put a single item into a list")
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
