"""Fields of a job's records, each of its type and in its bounds: who can write to the store may have put anything there."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 62
_GAP = 100


def text(value: Any) -> str:
    """A text.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} is not a text")
    return value


def number(value: Any) -> int:
    """A whole number that counts something, or is a place.

    Raises:
        TypeError: It is none.
        ValueError: It counts nothing.

    Example:
        >>> number(3)
        3
    """
    if type(value) is not int:
        raise TypeError(f"a {type(value).__name__} is not a whole number")
    if not 0 <= value <= _MOST:
        raise ValueError("a number counts nothing that there is")
    return value


def digest(value: Any) -> str:
    """A SHA-256, in hex.

    Raises:
        TypeError: It is no text.
        ValueError: It is another one.
    """
    if not _DIGEST.fullmatch(text(value)):
        raise ValueError(f"{value[:100]!r} is not a SHA-256")
    return str(value)


def texts(value: Any, *needed: str) -> dict[str, str]:
    """Texts by name.

    Args:
        value: What the record says.
        needed: Names that must be among them.

    Raises:
        TypeError: They are none.
        KeyError: One of the names is missing.

    Example:
        >>> texts({"python": "3.11.4"}, "python")
        {'python': '3.11.4'}
    """
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} has no names")
    found = {name: text(one) for name, one in value.items()}
    missing = [name for name in needed if name not in found]
    if missing:
        raise KeyError(missing[0])
    return found


def starts(value: Any, count: int) -> tuple[int, ...]:
    """Where parts of so many items start, and where the last one ends.

    Args:
        value: What the record says.
        count: How many items there are.

    Raises:
        ValueError: They do not have each item once.

    Example:
        >>> starts([0, 3, 6], 6)
        (0, 3, 6)
    """
    found = tuple(map(number, value))
    if len(found) < 2 or found[0] != 0 or found[-1] != count:  # noqa: PLR2004 - a start and an end
        raise ValueError("the shards do not have all items")
    if any(start >= stop for start, stop in pairwise(found)):
        raise ValueError("the shards are in no order")
    return found


def near(numbers: Iterable[int]) -> list[int]:
    """Numbers of records that are written one after another: what lies far behind the others was planted to be the last.

    Example:
        >>> near([0, 2, 1, 999_999])
        [0, 1, 2]
    """
    found: list[int] = []
    for one in sorted(numbers):
        if one > (found[-1] if found else 0) + _GAP:
            break
        found.append(one)
    return found


def span(value: Any, items: range) -> tuple[int, int]:
    """A half-open span of items: walked only if it lies among those that there are.

    Args:
        value: What the record says.
        items: Those that there are.

    Raises:
        ValueError: It lies elsewhere.

    Example:
        >>> span([3, 5], range(3, 9))
        (3, 5)
    """
    start, stop = map(number, value)
    if not items.start <= start <= stop <= items.stop:
        raise ValueError(f"the items {start} to {stop} are others")
    return start, stop
