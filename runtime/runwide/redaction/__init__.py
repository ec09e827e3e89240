"""Remove secrets from text that people or log collectors will see.

Each finder yields the places of one kind of secret in the original text; all of them are then replaced at once. The time of
every finder is proportional to the length of the text: none reads the same characters again from another place.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.json_text import json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["HIDDEN", "Lines", "hide", "redacted", "redacted_fields", "redacted_json", "shortened"]

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


_SHORTEST = 8  # characters of a value that is hidden everywhere; a shorter value may be a word
_DEEPEST = 100  # levels of values in values; no program writes log lines that are deeper
_MARGIN = 4096  # characters that are searched in addition to twice those that are shown

# Everything that `named` finds contains one of these words, and everything that `marked` recognizes by its beginning one of
# those below. Searching for words is faster than one expression for all of them.
_STEMS = ("pass", "pwd", "secret", "token", "key", "credential", "authorization", "cookie", "hmac")
_SIGNATURES = ("sig", "credential", "accesskeyid", "accessid", "token", "upload_id")
_BEGINNINGS = (
    "ya29", "1//0", "eyj", "aiza", "goog", "gocspx", "akia", "asia", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_",
    "glpat-", "xox", "xapp-", "sk-", "k_live", "k_test", "whsec_", "hf_", "npm_", "pypi-",
)  # fmt: skip  # a few lines are enough

_known: set[str] = set()


def hide(value: str) -> None:
    """Hide a secret value everywhere in the output of this process, in any spelling.

    Args:
        value: The secret. A value of less than eight characters may be a word, and is not hidden.

    Example:
        >>> hide("xyzzy plugh")
        >>> redacted("url?q=xyzzy%20plugh"), redacted("['xyzzy plugh']")
        ('url?q=[redacted]', "['[redacted]']")
    """
    _known.add(value.strip())


def redacted(text: str) -> str:
    """Return text without its secrets.

    Args:
        text: The text, of any length; the time is proportional to it.

    Example:
        >>> redacted("GET https://storage.googleapis.com/b/o?X-Goog-Credential=me&X-Goog-Signature=00ab12")
        'GET https://storage.googleapis.com/b/o?X-Goog-Credential=[redacted]&X-Goog-Signature=[redacted]'
        >>> redacted("password='hunter2', item 3")
        'password=[redacted], item 3'
        >>> redacted("def connect(password: str | None = None)")
        'def connect(password: str | None = None)'
    """
    return replaced(text, _spans(text))


def shortened(text: str, most: int, *, tail: bool = False) -> str:
    """Return the beginning or the end of a text, without its secrets.

    A cut may separate a secret from the word that marks it. So more text is searched than is shown, and a word at the
    edge of the searched text is left out.

    Args:
        most: The largest number of characters to return.
        tail: Whether to return the end of the text rather than its beginning.

    Example:
        >>> shortened("ValueError: postgres://me:hunter2@db", 30)
        'ValueError: postgres://me:[red'
        >>> shortened("Traceback: password=hunter2", 12, tail=True)
        'd=[redacted]'
    """
    if most <= 0:
        return ""
    window = 2 * most + _MARGIN
    if len(text) <= window:
        shown = redacted(text)
        return shown[-most:] if tail else shown[:most]
    from runwide.redaction import marked

    if tail:
        return ("…" + redacted(marked.cut_tail(text, window)))[-most:]
    return (redacted(marked.cut_head(text, window)) + "…")[:most]


class Lines:
    """Removes secrets from lines that come one by one: a private key has many lines.

    Example:
        >>> hidden = Lines()
        >>> [hidden(line) for line in ("-----BEGIN PRIVATE KEY-----", "MIIEvQ", "-----END PRIVATE KEY-----", "done")]
        ['[redacted]', '[redacted]', '[redacted]', 'done']
    """

    def __init__(self) -> None:
        self._inside = False

    def __call__(self, line: str) -> str:
        """Return a line without its secrets; it has no line feed at its end."""
        if not self._inside and "PRIVATE KEY" not in line:
            return redacted(line)
        from runwide.redaction import marked

        if self._inside:
            end = marked.KEY_ENDS.search(line)
            if end:
                self._inside = False
                return HIDDEN + self(line[end.end() :])
            if marked.key_goes_on(line):
                return HIDDEN
            self._inside = False  # the key was incomplete
        self._inside = marked.key_begins(line)
        return redacted(line)


def redacted_json(line: str) -> str | None:
    """Return a line that is a JSON object without its secrets; a line without secrets stays unchanged.

    NaN and infinity are not JSON, though Python reads them: a log collector does not. An object of more than 100 levels
    counts as text.

    Returns:
        None for lines that are not JSON objects.

    Example:
        >>> redacted_json('{"token": "abc", "n":  1}')
        '{"token": "[redacted]", "n": 1}'
        >>> redacted_json('{"n":  1}')
        '{"n":  1}'
    """
    try:
        about = json_of(line, depth=_DEEPEST, finite=True)
        if not isinstance(about, dict):
            return None
        clean = _value("", about, _DEEPEST)
    except (ValueError, RecursionError):
        return None
    return line if clean == about else json.dumps(clean)


def redacted_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return named values without secrets: values with the name of a secret, and secrets inside of other values.

    Raises:
        RecursionError: They are nested in more than 100 levels.

    Example:
        >>> redacted_fields({"api_key": "abc", "uri": "gs://bucket", "tokens": 3})
        {'api_key': '[redacted]', 'uri': 'gs://bucket', 'tokens': 3}
    """
    return {name: _value(name, value, _DEEPEST) for name, value in fields.items()}


def _value(name: Any, value: Any, levels: int) -> Any:
    if levels == 0:
        raise RecursionError(f"values in values, more than {_DEEPEST} levels")
    if isinstance(name, str) and _is_secret(name, value):
        return HIDDEN
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {
            redacted(key) if isinstance(key, str) else key: _value(key, one, levels - 1)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_value("", one, levels - 1) for one in value]
    return redacted(value if isinstance(value, str) else str(value))  # the text that would be shown


def _is_secret(name: str, value: Any) -> bool:
    low = lowered(name)
    if not any(stem in low for stem in _STEMS):
        return False
    from runwide.redaction import named

    return named.is_secret(name, low, value)


def _spans(text: str) -> Iterator[Span]:
    yield from _places(text)
    low = lowered(text)
    if any(stem in low for stem in _STEMS):
        # compiling its expressions takes milliseconds, and few programs need it
        from runwide.redaction import named

        yield from named.spans(text, low)
    if "-----" in low:
        from runwide.redaction import marked

        yield from marked.key_spans(text)
    signed = ("?" in low or "&" in low or "%" in low) and any(sign in low for sign in _SIGNATURES)
    url = "://" in low and "@" in low
    if signed or url or "bearer" in low or "basic" in low or any(begin in low for begin in _BEGINNINGS):
        from runwide.redaction import marked

        yield from marked.marked_spans(text, low)


def _places(text: str) -> Iterator[Span]:
    """Yield the places of known secrets."""
    for value in (*_known, (settings.signing_key() or "").strip()):
        if len(value) >= _SHORTEST:
            from runwide.redaction import marked

            yield from marked.known_spans(text, value)
