"""The replacement of secrets in text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[int, int]
"""The offsets of a secret: its first character, and the character after it."""

HIDDEN = "[redacted]"


def lowered(text: str) -> str:
    r"""Return text in lower case with the same length, so that offsets are the same.

    Example:
        >>> lowered("API_Key"), len(lowered("\u0130"))
        ('api_key', 1)
    """
    low = text.lower()
    # The capital I with a dot becomes two characters; no letter becomes fewer.
    return low if len(low) == len(text) else text.replace("\u0130", "i").lower()


def replaced(text: str, spans: Iterable[Span]) -> str:
    """Return text with each span replaced by a mark; spans that touch or overlap get one mark.

    Example:
        >>> replaced("abcdef", [(3, 5), (1, 4)])
        'a[redacted]f'
    """
    parts: list[str] = []
    at = 0
    for start, end in sorted(spans):
        if start > at or not parts:
            parts += [text[at:start], HIDDEN]
        at = max(at, end)
    return "".join([*parts, text[at:]])
