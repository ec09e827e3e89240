"""Secrets out of text that people or log collectors will see."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "[redacted]"

_NAMES = r"(?:password|passwd|secret|token|api[-_]?key|access[-_]?key|signing[-_]?key|private[-_]?key|credentials?)"

_SIGNATURE = (  # what a signed URL of Google's, Amazon's or Azure's is made of
    r"X-(?:Goog|Amz)-(?:Signature|Credential|Security-Token)|Signature|GoogleAccessId|AWSAccessKeyId|sig|"
    r"access_token|upload_id"
)
_VALUE = r"(?!\[redacted)(?:[\"'][^\"']+[\"']|[^\s,;&\"'<>)\]}]+)"

_TEXTS = (
    (re.compile(rf"([?&](?:{_SIGNATURE})=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\bya29\.[A-Za-z0-9_-]+"), HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), HIDDEN),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"(://[^/\s:@]+:)[^/\s@]+(@)"), rf"\1{HIDDEN}\2"),
    (re.compile(rf"(\b\w*{_NAMES}[\"']?\s*[=:]\s*){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
)

_FIELD = re.compile(_NAMES + r"$|^authorization$", re.IGNORECASE)
_MAY_HAVE = re.compile(rf"[?&=]|{_NAMES}|bearer|basic|ya29|eyJ|AIza|PRIVATE KEY|://[^/\s:@]+:", re.IGNORECASE)


def redacted(text: str) -> str:
    """Text without what looks like a secret.

    Example:
        >>> redacted("GET https://storage.googleapis.com/b/o?X-Goog-Credential=me&X-Goog-Signature=00ab12")
        'GET https://storage.googleapis.com/b/o?X-Goog-Credential=[redacted]&X-Goog-Signature=[redacted]'
        >>> redacted("password='hunter2', item 3")
        'password=[redacted], item 3'
    """
    if not _MAY_HAVE.search(text):
        return text
    for pattern, replacement in _TEXTS:
        text = pattern.sub(replacement, text)
    return text


def redacted_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The same for named values, of which those are hidden whose names say that they are secret.

    Example:
        >>> redacted_fields({"api_key": "abc", "uri": "gs://bucket", "tokens": 3})
        {'api_key': '[redacted]', 'uri': 'gs://bucket', 'tokens': 3}
    """
    return {name: _value(name, value) for name, value in fields.items()}


def _value(name: str, value: Any) -> Any:
    if _FIELD.search(name):
        return HIDDEN
    if isinstance(value, str):
        return redacted(value)
    return redacted_fields(value) if isinstance(value, dict) else value
