"""Private keys in text, from their first line to their last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.redaction.hidden import Span

_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----")
KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}?KEY(?: BLOCK)?-----")
_ENDS_PRIVATE = re.compile(r"-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----")
_LINE = re.compile(r"[A-Za-z0-9+/=]*|[A-Z][\w-]{1,60}: .*")
_REST = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\\r\n"


def key_begins(line: str) -> bool:
    """Return whether a private key begins in a line and does not end there."""
    last = max((begin.end() for begin in _BEGINS.finditer(line)), default=None)
    return last is not None and not KEY_ENDS.search(line, last)


def key_goes_on(line: str) -> bool:
    """Return whether a line can be part of a private key: its data, or a header.

    Example:
        >>> [key_goes_on(line) for line in ("MIIEvQ+/=", "Proc-Type: 4,ENCRYPTED", "Traceback (most recent call last):")]
        [True, True, False]
    """
    return _LINE.fullmatch(line.strip()) is not None


def key_spans(text: str) -> Iterator[Span]:
    """Yield the places of private keys, also of incomplete keys at the beginning or the end of the text."""
    at = 0
    while begin := _BEGINS.search(text, at):
        yield from _ends(text, at, begin.start())
        end = KEY_ENDS.search(text, begin.end())
        at = end.end() if end else len(text)
        yield begin.start(), at
    yield from _ends(text, at, len(text))


def _ends(text: str, start: int, stop: int) -> Iterator[Span]:
    for end in _ENDS_PRIVATE.finditer(text, start, stop):
        yield start + len(text[start : end.start()].rstrip(_REST)), end.end()
        start = end.end()
