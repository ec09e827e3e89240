"""What can be told of a call before a worker is started for it: that it cannot be meant."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.naming import attribute, name_of, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def _plain() -> None: ...


def _generator() -> Iterator[None]:
    yield


async def _coroutine() -> None: ...


async def _async_generator() -> AsyncIterator[None]:
    yield


def _mark(function: Any) -> int:
    """The flag of its kind, as `inspect` has it too, which takes longer to load than all else that is checked here."""
    flags: int = function.__code__.co_flags & ~_plain.__code__.co_flags
    return flags


_YIELDS = _mark(_generator) | _mark(_async_generator)
_IS_ASYNC = _mark(_coroutine)


def check(function: Any, items: Any = ()) -> None:
    """Refuse what no worker could run, or whose result could not leave it.

    Args:
        function: What is to be called with one item.
        items: What it is to be called with.

    Raises:
        TypeError: The function cannot be called, or the items are not several.
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
        raise TypeError(
            f"the items are no list or other iterable: {shown(items)}; put a single item into a list"
        )
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
    """The flags of the code that a call runs first; 0 where it is not Python's."""
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
