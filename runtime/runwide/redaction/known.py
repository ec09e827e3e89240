"""Secrets that are known, in whatever spelling."""

from __future__ import annotations

import html
import json
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.redaction.hidden import Span


def spans(text: str, value: str) -> Iterator[Span]:
    """Find a value.

    Args:
        text: Where.
        value: The value as it is.
    """
    for spelling in _spellings(value):
        at = text.find(spelling)
        while at >= 0:
            yield at, at + len(spelling)
            at = text.find(spelling, at + len(spelling))


@lru_cache(maxsize=256)
def _spellings(value: str) -> tuple[str, ...]:
    """Return a value as it is, and as `repr`, JSON, JSON in JSON, a URL and a page write it."""
    data = value.encode(errors="surrogatepass")
    wide = json.dumps(value, ensure_ascii=False)[1:-1]
    plain = [value, _json(value), wide, html.escape(value)]
    written = [
        *plain,
        *map(_repr, plain),
        *map(_repr_of_part, plain),
        *map(_json, plain),
        _repr(_repr(value)),
    ]
    urls = [quote(data, safe=""), quote(data), quote_plus(data)]
    return tuple(dict.fromkeys([*written, *urls, *(quote(url, safe="") for url in urls)]))


def _repr(text: str) -> str:
    return repr(text)[1:-1]


def _repr_of_part(text: str) -> str:
    """What `repr` writes of a part of a text in which both quotes are, so that one of them is escaped."""
    return repr("'\"" + text)[4:-1]


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]
