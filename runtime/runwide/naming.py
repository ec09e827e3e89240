"""Name what the user has given, without calling its code: a ``repr`` may raise, or take seconds."""

from __future__ import annotations

import reprlib
from functools import partial
from typing import Any

_LONGEST = 60  # characters, a part of one line


def name_of(function: Any) -> str:
    """The qualified name of a function, of what a partial calls, or of the type of any other callable.

    Example:
        >>> name_of(len), name_of(partial(print, list(range(10**6)))), name_of(Exception())
        ('len', 'print', 'Exception')
    """
    return _told(function, "__qualname__") or type(_called(function)).__qualname__


def full_name_of(function: Any) -> str:
    """Module and name of a function, for people.

    Example:
        >>> full_name_of(partial(reprlib.repr, []))
        'reprlib:Repr.repr'
    """
    return f"{_told(function, '__module__') or '?'}:{name_of(function)}"


def text_of(error: BaseException) -> str:
    """What an exception says; its own code may fail to say it.

    Example:
        >>> text_of(ValueError("no"))
        'no'
    """
    try:
        return str(error)
    except BaseException as worse:
        return f"<no text: its __str__ raises {type(worse).__name__}>"


def attribute(value: Any, name: str, default: Any = None) -> Any:
    """As `getattr`, for a value whose own code may raise anything.

    Example:
        >>> attribute(abs, "__name__"), attribute(3, "name")
        ('abs', None)
    """
    try:
        return getattr(value, name, default)
    except Exception:
        return default


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    """Set the cause of an exception, whose class may refuse attributes (a frozen dataclass), and return it.

    Example:
        >>> caused(ValueError("no"), KeyError("x")).__cause__
        KeyError('x')
    """
    BaseException.__setattr__(error, "__cause__", cause)
    return error


def shown(value: Any) -> str:
    """A value as a short part of a message.

    Example:
        >>> shown([1, 2]), shown(range(3))
        ('[1, 2]', 'range(0, 3)')
    """
    try:
        said = reprlib.repr(value)
    except BaseException:
        said = f"an object of type {type(value).__qualname__}"
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 3]}..."


def _told(function: Any, name: str) -> str | None:
    """What a callable says of itself, if that is text."""
    found = attribute(_called(function), name)
    return found if isinstance(found, str) else None


def _called(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function
