"""Secrets out of text that people or log collectors will see."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from runwide import settings

HIDDEN = "[redacted]"

_NAMES = (
    r"(?:password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key|account[-_]?key|signing[-_]?key|"
    r"private[-_]?key|hmac(?:[-_]?key)?|credentials?)"
)

_SIGNATURE = (  # what a signed URL of Google's, Amazon's or Azure's is made of
    r"X-(?:Goog|Amz)-(?:Signature|Credential|Security-Token)|Signature|GoogleAccessId|AWSAccessKeyId|sig|"
    r"access_token|upload_id"
)
_QUOTED = r"[bBrRuU]{0,2}\"(?:\\.|[^\"\\])*\"|[bBrRuU]{0,2}'(?:\\.|[^'\\])*'"
_ESCAPED = r"\\+[\"'](?:(?!\\+[\"']).)*\\+[\"']"  # in JSON in JSON
_BARE = r"\\*[\"']?(?!\[redacted)[^\s,;&\"'<>)\]}\\]+"
_VALUE = rf"(?!\[redacted)(?:{_ESCAPED}|{_QUOTED}|{_BARE})"
_MARKED = (  # secrets that say themselves what they are
    r"ya29\.[\w-]+|1//0[\w-]{20,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*|AIza[\w-]{30,}|GOOG1?[A-Z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|"
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{20,}|hf_\w{20,}"
)
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(r".*?-----END [A-Z0-9 ]*KEY-----")
_KEY_GOES_ON = re.compile(r"\s*(?:[A-Za-z0-9+/=]*|[A-Z][\w-]+: .*)\s*")

_FIELD = re.compile(_NAMES + r"$|^authorization$|^(?:set-)?cookie$", re.IGNORECASE)
_MAY_HAVE = re.compile(
    rf"[?&=]|%3d|{_NAMES}|bearer|basic|cookie|ya29|1//0|eyJ|AIza|GOOG|AKIA|ASIA|gh[pousr]_|github_pat|xox|sk-|hf_|"
    r"PRIVATE KEY|://[^/\s:@]*:",
    re.IGNORECASE,
)
_SHORTEST = 8  # characters of a value that is hidden wherever it stands; a shorter one may be a word

_known: set[str] = set()


@lru_cache(maxsize=1)
def _texts() -> tuple[tuple[re.Pattern[str], str], ...]:
    """What is replaced by what; compiling these takes milliseconds of a start, and few lines need them."""
    return (
        (
            re.compile(rf"{_KEY_BEGINS.pattern}.*?(?:-----END [A-Z0-9 ]*KEY-----|\Z)", re.DOTALL),
            HIDDEN,
        ),
        (
            re.compile(
                rf"((?:[?&]|%3F|%26|&amp;|\\u0026)(?:{_SIGNATURE})(?:=|%3D))[^&\s\"'<>\\]+", re.IGNORECASE
            ),
            rf"\1{HIDDEN}",
        ),
        (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
        (re.compile(rf"(?<![A-Za-z0-9])(?:{_MARKED})"), HIDDEN),
        (
            re.compile(r"\b((?:set-)?cookie[\"']?\s*[:=]\s*)(?!\[redacted)[^\r\n]+", re.IGNORECASE),
            rf"\1{HIDDEN}",
        ),
        (re.compile(r"(://[^/\s:@]*:)[^/\s@]+(@)"), rf"\1{HIDDEN}\2"),
        (re.compile(rf"(--[\w-]*{_NAMES}[ \t]+){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
        (re.compile(rf"(\b\w*{_NAMES}(?:\\*[\"'])?\s*[=:]\s*){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    )


def hide(value: str) -> None:
    """Hide a value that is known to be secret wherever this process would show it."""
    _known.add(value.strip())


def redacted(text: str) -> str:
    """Text without what looks like a secret.

    Example:
        >>> redacted("GET https://storage.googleapis.com/b/o?X-Goog-Credential=me&X-Goog-Signature=00ab12")
        'GET https://storage.googleapis.com/b/o?X-Goog-Credential=[redacted]&X-Goog-Signature=[redacted]'
        >>> redacted("password='hunter2', item 3")
        'password=[redacted], item 3'
    """
    for value in (*_known, (settings.value("RUNWIDE_SIGNING_KEY") or "").strip()):
        if len(value) >= _SHORTEST:
            text = text.replace(value, HIDDEN)
    if not _MAY_HAVE.search(text):
        return text
    for pattern, replacement in _texts():
        text = pattern.sub(replacement, text)
    return text


class Lines:
    """The same for lines that come one by one: a private key goes over many.

    Example:
        >>> hidden = Lines()
        >>> [hidden(line) for line in ("-----BEGIN PRIVATE KEY-----", "MIIEvQ", "-----END PRIVATE KEY-----", "done")]
        ['[redacted]', '[redacted]', '[redacted]', 'done']
    """

    def __init__(self) -> None:
        self._inside = False

    def __call__(self, line: str) -> str:
        """A line, without its end."""
        if self._inside:
            end = _KEY_ENDS.match(line)
            if end:
                self._inside = False
                return HIDDEN + redacted(line[end.end() :])
            if _KEY_GOES_ON.fullmatch(line):
                return HIDDEN
            self._inside = False  # it broke off
        begins = list(_KEY_BEGINS.finditer(line))
        self._inside = bool(begins) and not _KEY_ENDS.match(line[begins[-1].end() :])
        return redacted(line)


def redacted_json(line: str) -> str | None:
    """A line that is a JSON object, as it is if it has no secret; else none of its values has one. None for other lines.

    NaN and infinity are no JSON, though Python reads them: a log collector does not.

    Example:
        >>> redacted_json('{"token": "abc", "n":  1}')
        '{"token": "[redacted]", "n": 1}'
        >>> redacted_json('{"n":  1}')
        '{"n":  1}'
    """
    try:
        about = json.loads(line, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    if not isinstance(about, dict):
        return None
    clean = _value("", about)
    return line if clean == about else json.dumps(clean)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(f"{text} is no number of JSON")
    return number


def redacted_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The same for named values, of which those are hidden whose names say that they are secret.

    Example:
        >>> redacted_fields({"api_key": "abc", "uri": "gs://bucket", "tokens": 3})
        {'api_key': '[redacted]', 'uri': 'gs://bucket', 'tokens': 3}
    """
    return {name: _value(name, value) for name, value in fields.items()}


def _value(name: Any, value: Any) -> Any:
    if isinstance(name, str) and _FIELD.search(name):
        return HIDDEN
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return redacted_fields(value)
    if isinstance(value, (list, tuple)):
        return [_value("", one) for one in value]
    return redacted(value if isinstance(value, str) else str(value))  # as it would be shown
