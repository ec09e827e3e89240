"""JSON that somebody else wrote: how large and how deep it is, is known before it is parsed."""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import Any

DEPTH = 200
"""Lists and objects inside of each other; Python's own reader fails at a thousand, or where the stack is used up before."""

# A string to its end, or to the end of the text, so that none is looked at twice.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one deeper, one less deep, as signed bytes
_NO_BRACKET = bytes(set(range(256)) - set(b"[{]}"))


class TooDeep(ValueError):
    """JSON is nested deeper than it may be."""


def json_of(text: str | bytes | bytearray | memoryview, *, depth: int = DEPTH, finite: bool = False) -> Any:
    """The value of JSON text, of which only so much is nested.

    Args:
        text: The text, in UTF-8 where it is bytes.
        depth: How many lists and objects may be inside of each other.
        finite: Whether ``NaN`` and infinite numbers are none, as the standard has it; Python reads them.

    Raises:
        TooDeep: It is nested deeper.
        ValueError: It is no JSON.

    Example:
        >>> json_of('{"a": [1, 2]}')
        {'a': [1, 2]}
        >>> json_of("[" * 100_000)
        Traceback (most recent call last):
        ...
        runwide.parsing.TooDeep: it is nested deeper than 200
    """
    if isinstance(text, str):
        data = text.encode("utf-8", "surrogatepass")
    else:
        data = bytes(text)
        text = data.decode()
    if data.count(b"[") + data.count(b"{") > depth and _depth_of(data) > depth:
        raise TooDeep(f"it is nested deeper than {depth}")
    try:
        numbers = {"parse_float": _finite, "parse_constant": _finite} if finite else {}
        return json.loads(text, **numbers)  # type: ignore[arg-type]  # noqa: TID251 - here it is bounded
    except RecursionError:  # the stack was used up by whoever calls
        raise TooDeep("it is nested deeper than this program can go at this place") from None


def _depth_of(data: bytes) -> int:
    """How many lists and objects are open at a time."""
    steps = array("b", _STRING.sub(b"", data).translate(_STEPS, _NO_BRACKET))
    return max(accumulate(steps, initial=0))


def _finite(text: str) -> float:
    found = float(text)
    if found - found != 0:
        raise ValueError(f"{text} is no number of JSON")
    return found
