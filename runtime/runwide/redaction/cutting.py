"""The part of a long text that is searched if only its beginning or its end is shown."""

from __future__ import annotations

import re

from runwide.redaction import keys

_SPACE = re.compile(r"\s")


def cut_head(text: str, most: int) -> str:
    """Return the beginning of a text, without a word that continues after it.

    Args:
        text: A text that is longer than ``most``.
        most: Number of characters.

    Example:
        >>> cut_head("one two three", 9)
        'one two'
    """
    part = text[:most]
    if text[most].isspace():
        return part
    last = _SPACE.search(part[::-1])
    return part[: most - last.start()].rstrip() if last else ""


def cut_tail(text: str, most: int) -> str:
    """Return the end of a text, without a word or a private key that begins before it.

    Args:
        text: A text that is longer than ``most``.
        most: Number of characters.

    Example:
        >>> cut_tail("one two three", 9)
        'two three'
    """
    start = len(text) - most
    for begin, end in keys.key_spans(text):
        if begin < start < end:
            start = end
    if start == 0 or text[start - 1].isspace():
        return text[start:]
    first = _SPACE.search(text, start)
    return text[first.start() :] if first else ""
