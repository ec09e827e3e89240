"""Secrets that are recognized by their own text: private keys, known values, URLs and tokens."""

from __future__ import annotations

import base64
import html
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.redaction import Span


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


_SPACE = re.compile(r"\s")


def cut_head(text: str, most: int) -> str:
    """Return the first characters of a longer text, without a word that continues after them.

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
    """Return the last characters of a longer text, without a word or a private key that begins before them.

    Example:
        >>> cut_tail("one two three", 9)
        'two three'
    """
    start = len(text) - most
    for begin, end in key_spans(text):
        if begin < start < end:
            start = end
    if start == 0 or text[start - 1].isspace():
        return text[start:]
    first = _SPACE.search(text, start)
    return text[first.start() :] if first else ""


def known_spans(text: str, value: str) -> Iterator[Span]:
    """Yield the places of a value in any spelling."""
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


_SIGNATURE = (  # parameters of signed URLs of Google, Amazon and Azure
    r"x-(?:goog|amz)-(?:signature|credential|security-token)|signature|googleaccessid|awsaccesskeyid|sig|"
    r"access_token|upload_id"
)
_SIGNED = re.compile(
    rf"(?:[?&]|%(?:25){{0,3}}(?:3f|26)|&amp;|\\u0026)(?:{_SIGNATURE})(?:=|%(?:25){{0,3}}3d)([^&\s\"'<>\\]+)"
)
_SCHEME = re.compile(r"\b(bearer|basic)[ \t]+([a-z0-9+/._~=-]{8,})")
# A password ends at the last @ of its word; a port with a quote after it is not a password, and a host contains no quote.
_PASSWORD = re.compile(r"://[^/\s:@]*:(?![0-9]{1,5}[\"'?#)])([^/\s@]*(?:@[^/\s@\"'<>]+)*)@")
# No two adjacent parts accept the same characters, so that a failing match fails after a few characters.
_MARKED = re.compile(
    r"(?<![A-Za-z0-9])(?:ya29\.[\w-]+|1//0[\w-]{20,}|AIza[\w-]{30,}|GOCSPX-[\w-]{20,}|GOOG1?[A-Z0-9]{20,}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{12,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|"
    r"xapp-[\w-]{10,}|sk-(?=[\w-]{0,60}[0-9])[\w-]{20,}|[rs]k_(?:live|test)_\w{16,}|whsec_\w{20,}|hf_\w{20,}|"
    r"npm_\w{30,}|pypi-[\w-]{30,})"
)
_WEB_TOKEN = re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{8,}((?:\.[\w-]*){1,4})?")
_LONGEST_WORD = 24  # letters; no word is longer
_DECODED = 400  # characters of a credential that are decoded, which contain the name before the colon


def marked_spans(text: str, low: str) -> Iterator[Span]:
    """Yield the places of signatures and passwords in URLs, and of credentials; ``low`` is the text in lower case."""
    for found in _SIGNED.finditer(low):
        yield found.span(1)
    for found in _SCHEME.finditer(low):
        start, end = found.span(2)
        if _is_credential(found[1], text[start:end]):
            yield start, end
    for found in _MARKED.finditer(text):
        yield found.span()
    for found in _WEB_TOKEN.finditer(text):
        if found[1]:
            yield found.span()
    for found in _PASSWORD.finditer(text):
        if found[1]:
            yield found.span(1)


def _is_credential(scheme: str, text: str) -> bool:
    """Return whether the text after the word of a scheme is a credential, and not the next word of a sentence.

    Example:
        >>> _is_credential("basic", "dXNlcjpodW50ZXIy"), _is_credential("basic", "understanding")
        (True, False)
        >>> _is_credential("bearer", "b3arer.token"), _is_credential("bearer", "certificates")
        (True, False)
    """
    if scheme == "basic":
        return _names_user(text)
    head = text[:_DECODED]
    return (
        any(letter.isdigit() for letter in head)
        or (head[1:] != head[1:].lower() and head != head.upper())
        or max(map(len, head.split("-"))) > _LONGEST_WORD
    )


def _names_user(text: str) -> bool:
    """Return whether text is the base64 of a name, a colon and a password.

    Example:
        >>> _names_user("dXNlcjpodW50ZXIy"), _names_user("understanding"), _names_user("authentication")
        (True, False, False)
    """
    letters = text[:_DECODED].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except ValueError:
        return False
    name, colon, password = data.partition(b":")
    return bool(colon) and _is_text(name or password)


def _is_text(data: bytes) -> bool:
    return data.isascii() and data.decode("ascii").isprintable()
