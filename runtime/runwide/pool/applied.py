"""Adapters that turn other calling conventions into a function of one item; importable by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def apply(item: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
    """Call what the item names.

    Example:
        >>> apply((int, ("ff",), {"base": 16}))
        255
    """
    function, args, kwargs = item
    return function(*args, **kwargs)


class Starred:
    """A function that takes its item apart into arguments.

    Example:
        >>> Starred(pow)((2, 3))
        8
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, item: Any) -> Any:
        """Call the function with the item's elements."""
        return self.function(*item)
