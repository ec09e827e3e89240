"""Checks of the values of options."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from operator import index
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, WrongType
from runwide.naming import shown

if TYPE_CHECKING:
    from collections.abc import Callable

PER_GPU = "per-gpu"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGTP])(i?)B?|B)?", re.IGNORECASE)


def whole(least: int, *, by_default: Any = None) -> Callable[[str, Any], Any]:
    """Return a check for whole numbers from ``least`` on; None is valid unless there is another default."""

    def read(name: str, value: Any) -> Any:
        if value is None and by_default is None:
            return None
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise WrongType(
                f"invalid {name}={shown(value)}: expected a whole number", hint=f"give {name}= as an int"
            )
        number = index(value)
        if number < least:
            raise InputError(
                f"invalid {name}={number}: expected {least} or more", hint=_LEAVE_OUT.format(name)
            )
        return number

    return read


_LEAVE_OUT = "leave {}= out for the default"


def workers(name: str, value: Any) -> Any:
    """Check a number of workers."""
    if isinstance(value, str):
        if value == PER_GPU:
            return value
        raise InputError(
            f"invalid workers={value!r}: expected a number or {PER_GPU!r}",
            hint="leave workers= out for all cores",
        )
    return whole(1)(name, value)


def seconds(*, least_is_0: bool) -> Callable[[str, Any], Any]:
    """Return a check for seconds, with or without 0; infinity means no limit."""

    def read(name: str, value: Any) -> Any:
        if value is None and not least_is_0:
            return None
        try:
            number = (
                value if isinstance(value, (int, float)) and not isinstance(value, bool) else _float(value)
            )
        except (TypeError, ValueError, OverflowError):
            raise WrongType(f"invalid {name}={shown(value)}: expected a number of seconds") from None
        if math.isnan(number) or number < 0 or (number == 0 and not least_is_0):
            above = "0 or more" if least_is_0 else "above 0"
            raise InputError(
                f"invalid {name}={number}: expected a number of seconds, {above}",
                hint=_LEAVE_OUT.format(name),
            )
        if math.isinf(number):
            if least_is_0:
                raise InputError(f"{name}={number} never ends", hint=f"give {name}= a number of seconds")
            return None
        return number

    return read


def _float(value: Any) -> float:
    if isinstance(value, (str, bytes, bool)):
        raise TypeError
    return float(value)


def size(name: str, value: Any) -> Any:
    """Check a number of bytes, or a text such as ``"2G"``."""
    if not isinstance(value, str):
        return whole(1)(name, value)
    found = _SIZE.fullmatch(value.strip())
    if not found:
        raise InputError(
            f"invalid {name}={value!r}: expected a size", hint='give bytes, or a text such as "2G" or "512Mi"'
        )
    unit = (1024 if found[3] else 1000) ** (1 + "KMGTP".index(found[2].upper()) if found[2] else 0)
    return whole(1)(name, int(float(found[1]) * unit))


def function(name: str, value: Any) -> Any:
    """Check a callable, or None."""
    if value is not None and not callable(value):
        raise WrongType(f"invalid {name}={shown(value)}: expected a callable")
    return value


def arguments(name: str, value: Any) -> Any:
    """Check an iterable of arguments, and return a tuple."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise WrongType(f"invalid {name}={shown(value)}: expected the arguments in a tuple")
    return tuple(value)


def flag(name: str, value: Any) -> Any:
    """Check True or False."""
    if value not in (True, False):
        raise WrongType(f"invalid {name}={shown(value)}: expected True or False")
    return bool(value)


def wanted(name: str, value: Any) -> Any:
    """Check True, False or None."""
    return None if value is None else flag(name, value)
