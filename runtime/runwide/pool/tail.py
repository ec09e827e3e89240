"""The last lines of a worker: kept unchanged, and shown without secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runwide.pool.frames import unframed
from runwide.redaction import Lines, keys
from runwide.writing import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINES = 20
_CHARACTERS = 2_000  # of a line
_KEPT = _LINES * _CHARACTERS
_MARGIN = 4_096  # characters after a cut that may belong to a secret that began before it
_MARK = 100  # bytes; the first and the last line of a private key have fewer
_KEY = "-----BEGIN PRIVATE KEY-----"
_SPACE = re.compile(r"\s")


class Tail:
    r"""The end of a worker's output.

    Adding to it costs a copy. Secrets are removed when the lines are read, from at most 40 KB.

    Example:
        >>> tail = Tail()
        >>> tail.add(b"connecting\npassword=hun")
        >>> tail.add(b"ter2\n")
        >>> tail.lines()
        ['connecting', 'password=[redacted]']
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_cut = False  # whether it begins within a line
        self._in_key = False  # whether it begins within a private key

    def add(self, data: bytes) -> None:
        """Add bytes."""
        self._data += data
        if len(self._data) > 2 * _KEPT:
            self._shorten()

    def lines(self) -> list[str]:
        """Return the ends of the last twenty lines, without secrets; the last line may be unfinished."""
        if len(self._data) > _KEPT:
            self._shorten()
        lines = _lines(self._data)
        if not lines[-1]:
            lines.pop()
        inside, margin = self._in_key, 0
        if self._is_cut and lines:
            lines[0], margin = self._begun(lines[0])
            inside = False
        earlier, last = lines[:-_LINES], lines[-_LINES:]
        hidden = Lines()
        if _goes_on(inside, earlier):
            hidden(_KEY)
        shown = [hidden(escaped(line)) for line in last]
        if margin and not earlier:
            shown[0] = _end(shown[0], max(1, len(shown[0]) - margin))
        return [_end(line, _CHARACTERS) for line in shown]

    def _begun(self, line: str) -> tuple[str, int]:
        """Return the text to check instead of a line without its beginning, and how much of it is not shown."""
        if self._in_key:
            return _KEY + line, 0
        found = _SPACE.search(line)  # the word before the space began earlier
        return "…" + (line[found.start() :] if found else ""), _MARGIN

    def _shorten(self) -> None:
        size = len(self._data) - _KEPT
        gone = bytes(self._data[:size])
        is_cut = not gone.endswith(b"\n")
        if is_cut:  # the first line of a key must not be divided
            gone += self._data[size : size + _MARK].partition(b"\n")[0]
        if self._in_key or b"PRIVATE KEY" in gone:
            lines = _lines(gone if is_cut else gone[:-1])
            if self._in_key and self._is_cut:
                lines[0] = _KEY + lines[0]
            self._in_key = _goes_on(self._in_key, lines)
        self._is_cut = is_cut
        del self._data[:size]


def _lines(data: bytes | bytearray) -> list[str]:
    return [unframed(line)[0] for line in data.decode("utf-8", "surrogateescape").split("\n")]


def _goes_on(inside: bool, lines: Iterable[str]) -> bool:  # noqa: FBT001 - the value that this function updates
    """Return whether a private key continues after these lines."""
    for line in lines:
        inside = keys.key_begins(line) or (
            inside and not keys.KEY_ENDS.search(line) and keys.key_goes_on(line)
        )
    return inside


def _end(line: str, most: int) -> str:
    return line if len(line) <= most else "…" + line[len(line) - most + 1 :]
