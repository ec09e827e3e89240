"""The part of a long text that is looked at when only its beginning or its end is shown."""

from __future__ import annotations

import re

from runwide.redaction import keys

_SPACE = re.compile(r"\s")


def head(text: str, most: int) -> str:
    """Return the beginning of a text, without the word that goes on after it.

    Args:
        text: A text that is longer than that.
        most: How many characters.

    Example:
        >>> head("one two three", 9)
        'one two'
    """
    part = text[:most]
    if text[most].isspace():
        return part
    last = _SPACE.search(part[::-1])
    return part[: most - last.start()].rstrip() if last else ""


def tail(text: str, most: int) -> str:
    """Return the end of a text, without the word, or the private key, that began before it.

    Args:
        text: A text that is longer than that.
        most: How many characters.

    Example:
        >>> tail("one two three", 9)
        'two three'
    """
    start = len(text) - most
    for begin, end in keys.spans(text):
        if begin < start < end:
            start = end
    if start == 0 or text[start - 1].isspace():
        return text[start:]
    first = _SPACE.search(text, start)
    return text[first.start() :] if first else ""
