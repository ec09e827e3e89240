"""JSON with one spelling for each value, so that its digest is stable."""

from __future__ import annotations

import json
from typing import Any

from runwide.parsing import json_of


def dumps(value: Any) -> bytes:
    r"""Canonical JSON: sorted keys, no spaces, ASCII, one line feed at the end.

    Example:
        >>> dumps({"b": 1, "a": [True, None]})
        b'{"a":[true,null],"b":1}\n'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def loads(data: bytes | bytearray | memoryview) -> Any:
    """The value of JSON text that is nested no deeper than `runwide.parsing.DEPTH`.

    Raises:
        ValueError: It is deeper, or no JSON; a number that is infinite is none, and none that `dumps` writes.
    """
    return json_of(data, finite=True)
