"""Known secrets, in any spelling."""

from __future__ import annotations

import html
import json
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.redaction.hidden import Span


def known_spans(text: str, value: str) -> Iterator[Span]:
    """Yield the places of a value in any spelling.

    Args:
        text: The text.
        value: The value.
    """
    for spelling in _spellings(value):
        at = text.find(spelling)
        while at >= 0:
            yield at, at + len(spelling)
            at = text.find(spelling, at + len(spelling))


@lru_cache(maxsize=256)
def _spellings(value: str) -> tuple[str, ...]:
    """Return a value and its spellings in `repr`, JSON, JSON in JSON, URLs and HTML."""
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
    """Return the `repr` of a part of a text with both kinds of quotes, in which one kind is escaped."""
    return repr("'\"" + text)[4:-1]


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]
