"""One call of an executor, as components run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def called(
    functions: Sequence[Callable[..., Any]], item: tuple[int, int, tuple[Any, ...], Mapping[str, Any]]
) -> tuple[int, Any]:
    """Make the call that an item describes; return its number and what it returned.

    Args:
        functions: The different functions of all calls.
        item: Number of the call, index of its function, arguments and keyword arguments.

    Example:
        >>> called([abs, int], (7, 1, ("ff",), {"base": 16}))
        (7, 255)
    """
    number, place, args, kwargs = item
    return number, functions[place](*args, **kwargs)
