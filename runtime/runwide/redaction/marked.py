"""Secrets that are recognized by their context or beginning: in URLs, after the word of a scheme, or by a known prefix."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.redaction.hidden import Span

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
    """Yield the places of such secrets.

    Args:
        text: The text.
        low: The same in lower case.
    """
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
