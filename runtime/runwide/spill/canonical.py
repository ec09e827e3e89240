"""JSON with one spelling for each value, so that its digest is stable."""

from __future__ import annotations

import json
from typing import Any

from runwide.parsing import json_of


def dumps(value: Any) -> bytes:
    r"""Return canonical JSON: sorted keys, no spaces, ASCII, one line feed at the end.

    Example:
        >>> dumps({"b": 1, "a": [True, None]})
        b'{"a":[true,null],"b":1}\n'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def loads(data: bytes | bytearray | memoryview) -> Any:
    """Return the value of JSON text whose nesting is at most `runwide.parsing.DEPTH`.

    Raises:
        ValueError: It is nested deeper, is not JSON, or has a number that is infinite or not a number.
    """
    return json_of(data, finite=True)
