"""The ends of values in text, and words that are not values: types, constants, and the next word of a sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runwide.redaction import HIDDEN

if TYPE_CHECKING:
    from runwide.redaction import Span

_AFTER = r"(?=[\s,;)\]}|=\"'<>&`\\]|[.?!](?:\s|$)|$)"
_CONSTANT = r"(?:none|null|nil|undefined|true|false|nan)"
_TYPE = (
    r"(?:[a-z_][a-z0-9_]{0,30}\.){0,4}(?:any|anystr|annotated|awaitable|bool|boolean|"
    r"bytearray|bytes|callable|classvar|date|datetime|dict|final|float|frozenset|int|integer|iterable|iterator|list|literal|"
    r"mapping|memoryview|number|object|option|optional|path|pathlike|secret|secretbytes|secretstr|self|sequence|set|str|"
    r"string|text|token|credentials?|tuple|type|union|unknown|uuid|void|[a-z]{0,20}(?:credentials|token|secret|key)type)"
)
_WORDS = r"[\w., |\"'()=]{0,60}"
_OF_ONE = rf"{_WORDS}(?:\[{_WORDS}\]{_WORDS}){{0,4}}"  # nested brackets, with only one way to match
_OF = rf"(?:\[{_WORDS}(?:\[{_OF_ONE}\]{_WORDS}){{0,4}}\]|<{_WORDS}(?:<{_WORDS}>{_WORDS}){{0,4}}>)?"
_EITHER = rf"(?:{_CONSTANT}|{_TYPE}){_OF}"
_ANNOTATION = re.compile(
    rf"(?:([\"'])?&?{_EITHER}(?:[ ]?\|[ ]?{_EITHER}){{0,6}}(?(1)\1)){_AFTER}[ \t]*(=(?!=)[ \t]*)?"
)
_NOTHING = re.compile(
    rf"(?:([\"'`]?){_CONSTANT}\1{_AFTER}|\[\]|\{{\}}|\(\)|(?:[bru]|br|rb)?(?:\"\"|'')(?![\"'\w])|"
    r"os\.environ\[[\"']\w{1,60}[\"']\]|os\.(?:getenv|environ\.get)\([\"']\w{1,60}[\"']\)|"
    r"(?:%[srd]|%\(\w{1,40}\)s|\$?\{\{[^{}\n]{0,80}\}\}|\$\{[\w:.-]{1,60}\}|\{\w{0,40}(?:![rsa])?\}|<[\w -]{1,40}>|"
    r"\?|\*{3,}|\.{3}|\u2026)(?=[\s,;)\]}\"'&`\\]|$))"
)
WORDS = re.compile(rf"{_CONSTANT}|{_EITHER}(?:[ ]?\|[ ]?{_EITHER}){{0,6}}")
"""Values that are the word of a type, or a word for nothing."""

_PROSE = re.compile(
    r"(?:a|all|an|and|any|are|argument|as|at|be|before|but|by|can|cannot|changed|could|denied|does|empty|ends?|exceeds?|"
    r"expected|expects?|expired|failed|failure|file|flag|for|found|from|given|has|have|if|in|incorrect|instead|into|invalid|"
    r"is|it|its|made|may|mismatch|missing|must|needs?|no|not|of|ok|on|only|option|optional|or|rejected|required|requires?|"
    r"set|should|so|takes?|than|that|the|then|there|this|to|too|unexpected|unknown|unset|use|used|uses|using|value|wants?|"
    r"was|were|when|where|which|will|with|without|would|wrong|yes|you|your)" + _AFTER
)  # fmt: skip
_NUMBER = re.compile(r"[~<>\u2248+-]?\.?[0-9][0-9_.]*(?:e[+-]?[0-9]+)?(?:[kmgbt%]|ms|s)?(?![\w-])")
_NUMBERS = re.compile(r"[\[(][0-9\s,._+-]*[\])]")
_BLANKS = re.compile(r"[ \t]*")
_FAR = re.compile(r"[\r\n]\s*(?=\\*[\"'\[{(])")
_QUOTE = re.compile(r"(?:[bru]|br|rb)?(\\*)([\"'])")
_IN_QUOTES = {quote: re.compile(rf"\\.|{quote}", re.DOTALL) for quote in "\"'"}
_CALL = re.compile(r"[a-z_][\w.]{0,80}[(\[]")
_BRACKET = re.compile(r"\\+[\"']?|[\[\](){}\"']|\n\s*")
_LINE = re.compile(r"[^\r\n]*")
_TEXT = re.compile(r"[^<\r\n]*")
_PLAIN = re.compile(r"[^\s,;&\"'`<>)\]}\\]*")
_GOES_ON = re.compile(r"[)\]}](?=[a-z0-9_])|\\+(?=[^\s\\\"'nrtu,;&<>)\]}])")
_LEAST = 64  # characters at the end of a line that are searched


def match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    """Match an expression that matches everywhere, at least the empty text."""
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"{pattern.pattern} does not match the empty text")
    return found


class Reader:
    """Finds the ends of values in a text in lower case; each kind of missing end is searched once."""

    def __init__(self, low: str) -> None:
        self.low = low
        self._unclosed: set[str] = set()

    def past_blanks(self, at: int) -> int:
        """Skip blanks, and also line ends if a quote or a bracket follows."""
        at = match(_BLANKS, self.low, at).end()
        far = _FAR.match(self.low, at)
        return far.end() if far else at

    def is_quoted(self, at: int) -> bool:
        """Return whether a quote is here."""
        return _QUOTE.match(self.low, at) is not None

    def is_word(self, at: int) -> bool:
        """Return whether a word of a sentence, or a word for nothing, follows."""
        return bool(_PROSE.match(self.low, at) or _NOTHING.match(self.low, at))

    def is_nothing(self, at: int) -> bool:
        """Return whether a word for nothing, or a placeholder, follows."""
        return self.low.startswith(HIDDEN, at) or _NOTHING.match(self.low, at) is not None

    def past_annotation(self, at: int) -> int | None:
        """Return the start of a type's default value; None without a default, ``at`` without a type."""
        found = _ANNOTATION.match(self.low, at)
        if not found:
            return at
        return found.end() if found[2] else None

    def is_number(self, at: int) -> bool:
        """Return whether a number or a list of numbers is here."""
        return bool(_NUMBER.match(self.low, at) or _NUMBERS.match(self.low, at))

    def value(self, at: int) -> Span:
        """Return the place of a value, up to its quote, its bracket, or the next separator."""
        quote = _QUOTE.match(self.low, at)
        if quote:
            return at, self._quoted(quote)
        if self.low.startswith(("[", "{", "("), at):
            return at, self._bracketed(at)
        call = _CALL.match(self.low, at)
        if call:
            return at, self._bracketed(call.end() - 1)
        return at, self._bare(at)

    def line(self, at: int) -> int:
        """Return the end of the line."""
        return match(_LINE, self.low, at).end()

    def element(self, at: int) -> Span:
        """Return the place up to the end of an XML element, or of the line."""
        return match(_TEXT, self.low, at).span()

    def _quoted(self, quote: re.Match[str]) -> int:
        slashes, mark = quote[1], quote[2]
        if slashes:
            return self._escaped(quote.end(), len(slashes), mark)
        if self.low.startswith(mark * 2, quote.end()):
            return self._closed(quote.end() + 2, mark * 3)
        return self._closed(quote.end(), mark)

    def _closed(self, at: int, mark: str) -> int:
        if mark not in self._unclosed:
            for found in _IN_QUOTES[mark[0]].finditer(self.low, at):
                if self.low.startswith(mark, found.start()):
                    return found.start() + len(mark)
            self._unclosed.add(mark)
        return self.line(at)

    def _escaped(self, at: int, slashes: int, mark: str) -> int:
        """Return the end at a quote with as many escapes as the first one, or fewer: then the outer text ends."""
        key = "\\" + mark
        deeper = "\\" * (slashes + 1)
        found = -1 if key in self._unclosed else self.low.find(mark, at)
        while found >= 0:
            if self.low[max(at, found - slashes - 1) : found] != deeper:
                return found + 1
            found = self.low.find(mark, found + 1)
        self._unclosed.add(key)
        return self.line(at)

    def _bracketed(self, at: int) -> int:
        """Return the index after the closing bracket. A line break is allowed only between items."""
        depth, place = 0, at
        while found := _BRACKET.search(self.low, place):
            mark, place = found[0], found.end()
            if mark in "[({":
                depth += 1
            elif mark in "])}":
                depth -= 1
                if depth == 0:
                    return place
            elif mark in "\"'":
                place = self._closed(place, mark)
            elif mark[0] == "\n" and not self._goes_on(found.start(), place):
                return found.start()
        return self.line(max(at, place)) if depth else len(self.low)

    def _goes_on(self, end: int, start: int) -> bool:
        last = self.low[max(0, end - _LEAST) : end].rstrip()
        return last.endswith(("[", "{", "(", ",")) or self.low.startswith(("]", "}", ")"), start)

    def _bare(self, at: int) -> int:
        while True:
            at = match(_PLAIN, self.low, at).end()
            more = _GOES_ON.match(self.low, at)
            if not more:
                return at
            at = more.end()
