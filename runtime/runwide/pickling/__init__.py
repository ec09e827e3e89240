"""Pickles of functions, classes and items that are the same bytes in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class PlainPickle:
    """Base of classes that the standard pickler can handle: they can be imported, and hold no definitions of the user."""

    __slots__ = ()


class Reduced:
    """A call of an importable function in a pickle: where the pickle is loaded, its result replaces this object."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = make, arguments

    def __reduce__(self) -> Any:
        return self.reduced
