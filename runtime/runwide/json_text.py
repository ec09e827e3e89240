"""JSON text: limits for reading it, and one spelling for writing it."""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import Any

DEPTH = 200
"""The largest number of nested lists and objects; Python's own reader fails at a thousand, or earlier on a used stack."""

# A string up to its end, or up to the end of the text, so that no character is read twice.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one deeper, one less deep, as signed bytes
_NO_BRACKET = bytes(set(range(256)) - set(b"[{]}"))


class TooDeep(ValueError):
    """JSON is nested too deep."""


def json_of(text: str | bytes | bytearray | memoryview, *, depth: int = DEPTH, finite: bool = False) -> Any:
    """Return the value of JSON text with limited depth.

    Args:
        text: The text, in UTF-8 if it is bytes.
        depth: The largest number of nested lists and objects.
        finite: Whether to refuse ``NaN`` and infinite numbers, which Python reads and the standard does not have.

    Raises:
        TooDeep: It is nested deeper.
        ValueError: It is not JSON.

    Example:
        >>> json_of('{"a": [1, 2]}')
        {'a': [1, 2]}
        >>> json_of("[" * 100_000)
        Traceback (most recent call last):
        ...
        runwide.json_text.TooDeep: it is nested deeper than 200
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
        return json.loads(text, **numbers)  # type: ignore[arg-type]  # noqa: TID251 - its depth was checked
    except RecursionError:  # the callers have used up the stack
        raise TooDeep("it is nested deeper than this program's stack allows here") from None


def _depth_of(data: bytes) -> int:
    """Return the largest number of lists and objects that are open at the same time."""
    steps = array("b", _STRING.sub(b"", data).translate(_STEPS, _NO_BRACKET))
    return max(accumulate(steps, initial=0))


def _finite(text: str) -> float:
    found = float(text)
    if found - found != 0:
        raise ValueError(f"{text} is not a JSON number")
    return found


def dumps(value: Any) -> bytes:
    r"""Return canonical JSON: sorted keys, no spaces, ASCII, one line feed at the end.

    Example:
        >>> dumps({"b": 1, "a": [True, None]})
        b'{"a":[true,null],"b":1}\n'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def loads(data: bytes | bytearray | memoryview) -> Any:
    """Return the value of JSON text whose nesting is at most `runwide.json_text.DEPTH`.

    Raises:
        ValueError: It is nested deeper, is not JSON, or has a number that is infinite or not a number.
    """
    return json_of(data, finite=True)
