"""Secrets that are recognized by their names: ``NAME=value``, JSON, the output of `repr`, ``--name value``, and headers.

A name is found by the word at its end. The search goes forward only, and continues at the end of each value.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.redaction import values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from runwide.redaction import Span

# Two-word names come first: "secret" would be found in "secret_key" and is not the end of that name.
_KEYS = (
    r"(?:api|access|account|auth|encryption|hmac|licen[cs]e|master|private|secret|shared|sign(?:ing)?|storage|"
    r"subscription)[-_ ]?key"
)
_NAME = re.compile(
    rf"{_KEYS}|passw(?:or)?d|passphrase|passcode|pass(?![a-z])|pwd|secret|(?<!page)(?<!page[-_])token|credential|authorization|"
    r"(?:set-)?cookie|hmac"
)
_NAME_ENDS = re.compile(r"(s?)(?:[-_]?[0-9]{1,2})?(?![a-z0-9_]|-[a-z0-9])")
_EQUALS = re.compile(
    r"""(?:\\*["'`]\]?|\]|\?)?[ \t]*(=>|:=|=(?!=)|:(?!:|//)|%(?:25){0,3}3[ad]|\\u003[ad]|(?<=[a-z0-9])>)"""
)
_OPTION_VALUE = re.compile(r"""(?:\\*["'],[ \t]*(?=\\*["'])|[ \t]+(?=[^\s=-]))""")
_BEFORE = 64  # characters before the word that may belong to the name
_LETTERS = string.ascii_letters + string.digits + "_-"
_MANY = ("token", "secret", "credential", "key", "cookie")  # words that may have a count
_FEW = re.compile(r"[~\u2248]?[0-9]{1,3}(?:\.[0-9]+)?(?![\w.-])(?=([ \t]+[a-z/])?)")
_PATH = re.compile(r"[\"']?(?:~?/|\.{1,2}(?:/|$)|[a-z]:\\|\$(?:pwd\b|\())")
_RESOURCE = re.compile(r"[\"']?projects/[^/\s]{1,100}/secrets/")  # the name of a secret, in Secret Manager
_DIGEST = re.compile(r"[\"']?(?:sha-?[0-9]+|md5|blake2[bs]?|hs[0-9]+)\b")
_ENCODED = re.compile(r"[^\s&\"'<>\\%]*(?:%(?!(?:25)*(?:26|20|22|27|2c|0a))[^\s&\"'<>\\%]*)*")
_SCHEME = re.compile(
    r"(?:(digest|aws4-hmac-sha256|oauth|hawk|signature)|bearer|basic|token|negotiate|ntlm|api-?key|key|jwt|bot|ssws|"
    r"googlelogin|sharedkey(?:lite)?)[ \t]+(?=\S)"
)
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9-]{0,30}[ \t]+(?=[^\s\"'`]*[0-9])")
_OWNERS = re.compile(r"(?:[a-z_][a-z0-9_]{0,30}\.){0,4}")
_ENDS = re.compile(r"[\s,;)\]}]|$")
_TO_QUOTE = re.compile(r"[^\r\n\"'\\`]*")
_SIZED = (str, list, tuple, dict)


@dataclass(frozen=True, slots=True)
class _Name:
    """The name of a value: the secret word at its end, the whole name, its plural, and the text before it."""

    word: str
    whole: str
    plural: str
    before: str

    @classmethod
    def at(cls, low: str, found: re.Match[str], *, plural: str) -> Self:
        before = low[max(0, found.start() - _BEFORE) : found.start()]
        stem = before.rstrip(_LETTERS)
        return cls(found[0], before[len(stem) :] + found[0] + plural, plural, stem)


def is_secret(name: str, low: str, value: Any) -> bool:
    """Return whether a value is secret by its name, and can be a secret; ``low`` is the name in lower case.

    Example:
        >>> is_secret("api_keys", "api_keys", ["abc"]), is_secret("max_tokens", "max_tokens", 512)
        (True, False)
    """
    for found in _NAME.finditer(low):
        end = _NAME_ENDS.match(low, found.end())
        if end is not None and end.end() == len(low) and _is_word(name, low, found):
            return _may_be_secret(low, found[0], end[1], value)
    return False


def _may_be_secret(name: str, word: str, plural: str, value: Any) -> bool:
    if value is None or value is True or value is False or (isinstance(value, _SIZED) and not value):
        return False
    if isinstance(value, str):
        return not (values.WORDS.fullmatch(value.lower()) or _is_directory(name, value.lower(), 0))
    return not (plural and word.endswith(_MANY) and _is_number(value))


def _is_number(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_number, value))
    return isinstance(value, (int, float))


def spans(text: str, low: str) -> Iterator[Span]:
    """Yield the places of values with secret names; ``low`` is the text in lower case."""
    reader = values.Reader(low)
    found = _NAME.search(low)
    while found:
        at = found.end()
        end = _NAME_ENDS.match(low, at)
        start, stop = (_value(text, reader, found, end) if end else None) or (at, at)
        if start < stop:
            yield start, stop
        found = _NAME.search(low, max(at, stop))


def _value(text: str, reader: values.Reader, found: re.Match[str], end: re.Match[str]) -> Span | None:
    """Return the place of a name's value; None if there is no value to hide."""
    low = reader.low
    equals = _EQUALS.match(low, end.end())
    option = None if equals else _OPTION_VALUE.match(low, end.end())
    if not (equals or option) or not _is_word(text, low, found):
        return None
    name = _Name.at(low, found, plural=end[1])
    if equals:
        return _assigned(reader, equals, name)
    return _of_option(reader, option.end(), name) if option else None


def _of_option(reader: values.Reader, at: int, name: _Name) -> Span | None:
    """Return the place of an option's value, which is the next word."""
    if not name.whole.startswith("--") or reader.is_word(at) or (name.plural and reader.is_number(at)):
        return None
    return reader.value(at)


def _assigned(reader: values.Reader, equals: re.Match[str], name: _Name) -> Span | None:
    """Return the place of the value after an equals sign, a colon or the like."""
    if equals[1] == ">":
        return reader.element(equals.end()) if name.before.endswith("<") else None
    if equals[1][0] in "%\\":
        return values.match(_ENCODED, reader.low, equals.end()).span()
    at = reader.past_blanks(equals.end())
    if reader.is_nothing(at) or _is_number_of(reader, at, name):
        return None
    if name.word == "authorization":
        return _credentials(reader, at)
    if name.word.endswith("cookie"):
        return _cookie(reader, at)
    start = _default(reader, equals, at, name) if equals[1] == ":" else at
    return None if start is None or _is_known(reader.low, start, name) else reader.value(start)


def _default(reader: values.Reader, equals: re.Match[str], at: int, name: _Name) -> int | None:
    """Return the start of the value after a colon, which may be before a type or in a sentence; None without a value."""
    start = reader.past_annotation(at)
    if start == at:
        in_sentence = equals.end() < at and (reader.is_word(at) or name.whole == "pass")
        return None if in_sentence else at
    return None if start is None or reader.is_nothing(start) else start


def _is_number_of(reader: values.Reader, at: int, name: _Name) -> bool:
    """Return whether a number is a count: "max_tokens=512", "1 token = 4 characters", "pass=3"."""
    few = _FEW.match(reader.low, at)
    if name.plural:
        return reader.is_number(at) and (few is not None or name.word.endswith(_MANY))
    if few is None:
        return False
    return name.whole == "pass" or (
        name.whole == "token" and (bool(few[1]) or name.before.rstrip()[-1:].isdigit())
    )


def _is_known(low: str, at: int, name: _Name) -> bool:
    """Return whether a value is a directory, a digest, a resource, or a variable as in ``connect(password=password)``."""
    if _RESOURCE.match(low, at) or (name.word == "hmac" and _DIGEST.match(low, at)):
        return True
    start = values.match(_OWNERS, low, at).end()
    is_itself = low.startswith(name.whole, start) and _ENDS.match(low, start + len(name.whole))
    return bool(is_itself) or _is_directory(name.whole, low, at)


def _is_directory(name: str, low: str, at: int) -> bool:
    """Return whether a name is a shell's variable for its directory."""
    return name in ("pwd", "oldpwd") and _PATH.match(low, at) is not None


def _is_word(text: str, low: str, found: re.Match[str]) -> bool:
    """Return whether the word is complete: "pass" is in ``db_pass`` and ``dbPass``, and not in ``compass``."""
    start = found.start()
    if found[0] != "pass" or start == 0 or not low[start - 1].isalnum():
        return True
    return text[start] == "P" and text[start - 1] == low[start - 1] and low[start - 2 : start] != "by"


def _credentials(reader: values.Reader, at: int) -> Span | None:
    """Return the place of a header's credentials, after the word of their scheme."""
    low = reader.low
    if reader.is_quoted(at):
        return reader.value(at)
    scheme = _SCHEME.match(low, at)
    if scheme and scheme[1]:  # its parts have quotes of their own
        return scheme.end(), reader.line(at)
    if scheme:
        return scheme.end(), values.match(_TO_QUOTE, low, scheme.end()).end()
    if reader.is_word(at) or reader.past_annotation(at) != at:
        return None
    other = _OTHER_SCHEME.match(low, at)
    return at, reader.value(other.end() if other else at)[1]


def _cookie(reader: values.Reader, at: int) -> Span | None:
    """Return the place of cookies: in their quotes, or up to the end of the line."""
    if reader.is_quoted(at):
        return reader.value(at)
    if reader.is_word(at) or reader.past_annotation(at) != at:
        return None
    return at, reader.line(at)
