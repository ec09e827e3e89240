"""Names of objects of the user's for messages; code of theirs, such as a ``repr``, may raise or take seconds."""

from __future__ import annotations

import reprlib
from functools import partial
from typing import Any

_LONGEST = 60  # characters, a part of one line


def name_of(function: Any) -> str:
    """Return the qualified name of a function, of the function of a partial, or of the type of another callable.

    Example:
        >>> name_of(len), name_of(partial(print, list(range(10**6)))), name_of(Exception())
        ('len', 'print', 'Exception')
    """
    return _own_name(function, "__qualname__") or type(_called(function)).__qualname__


def full_name_of(function: Any) -> str:
    """Return module and name of a function, for messages.

    Example:
        >>> full_name_of(partial(reprlib.repr, []))
        'reprlib:Repr.repr'
    """
    return f"{_own_name(function, '__module__') or '?'}:{name_of(function)}"


def kind_of(value: Any) -> str:
    """Return the name of a value's type, with its article.

    Example:
        >>> kind_of(3), kind_of("a")
        ('an int', 'a str')
    """
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """Return the name of a type with its article.

    Example:
        >>> with_article("int"), with_article("bool")
        ('an int', 'a bool')
    """
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def text_of(error: BaseException) -> str:
    """Return the text of an exception, whose own code may fail.

    Example:
        >>> text_of(ValueError("no"))
        'no'
    """
    try:
        return str(error)
    except BaseException as worse:
        return f"<no text: its __str__ raises {type(worse).__name__}>"


def attribute(value: Any, name: str, default: Any = None) -> Any:
    """Return an attribute of a value whose own code may raise any exception.

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
    """Return a value as a short part of a message.

    Example:
        >>> shown([1, 2]), shown(range(3))
        ('[1, 2]', 'range(0, 3)')
    """
    try:
        said = reprlib.repr(value)
    except BaseException:
        said = f"an object of type {type(value).__qualname__}"
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 3]}..."


def _own_name(function: Any, name: str) -> str | None:
    """Return an attribute of a callable with its name or module, if that is text."""
    found = attribute(_called(function), name)
    return found if isinstance(found, str) else None


def _called(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function
