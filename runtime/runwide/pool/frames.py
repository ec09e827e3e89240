"""Frames: the task of a printed line, between two control characters at the start of the line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPEN, _CLOSE = "\x1e", "\x1f"  # record and unit separator: texts do not have them
_FRAME = re.compile(f"{_OPEN}(?:item=(-?[0-9]+),attempt=([0-9]+)){_CLOSE}")
_CUT = re.compile(f"{_OPEN}[^{_CLOSE}\n]{{0,60}}$")


def framed(task: Mapping[str, int]) -> str:
    """Return the frame of a task; an empty text without a task."""
    return f"{_OPEN}item={task['item']},attempt={task['attempt']}{_CLOSE}" if task else ""


def unframed(line: str) -> tuple[str, dict[str, int]]:
    """Return a line without frames, and the task of the first frame; native code may have begun the line.

    Example:
        >>> unframed(framed({"item": 3, "attempt": 1}) + "hello")
        ('hello', {'item': 3, 'attempt': 1})
        >>> unframed("hello")
        ('hello', {})
    """
    found = _FRAME.search(line)
    if found is None:
        return line, {}
    return _FRAME.sub("", line), {"item": int(found[1]), "attempt": int(found[2])}


def is_framed(line: str) -> bool:
    """Return whether a line has a frame."""
    return _FRAME.search(line) is not None


def is_cut(line: str) -> bool:
    r"""Return whether a line ends within a frame.

    Example:
        >>> is_cut(framed({"item": 3, "attempt": 1})[:-1]), is_cut("hello")
        (True, False)
    """
    return _CUT.search(line) is not None
