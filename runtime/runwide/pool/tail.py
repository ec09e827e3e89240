"""The last lines that a worker has written: kept as they came, and shown without secrets when they are asked for."""

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
_MARGIN = 4_096  # characters of a line that is cut, which may be of a secret that began before
_MARK = 100  # bytes, of which the first or last line of a private key has fewer
_KEY = "-----BEGIN PRIVATE KEY-----"
_SPACE = re.compile(r"\s")


class Tail:
    r"""The end of what a worker has written to a stream.

    Adding to it costs a copy. Secrets are looked for when the lines are asked for, in 40 KB at most.

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
        """Take note of what has come."""
        self._data += data
        if len(self._data) > 2 * _KEPT:
            self._shorten()

    def lines(self) -> list[str]:
        """Return at most twenty lines, the last one finished or not, and of each its end, without secrets."""
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
        """What is looked at in place of a line whose beginning is gone, and how much of that is not shown."""
        if self._in_key:
            return _KEY + line, 0
        found = _SPACE.search(line)  # the word before it began earlier
        return "…" + (line[found.start() :] if found else ""), _MARGIN

    def _shorten(self) -> None:
        size = len(self._data) - _KEPT
        gone = bytes(self._data[:size])
        is_cut = not gone.endswith(b"\n")
        if is_cut:  # where a key begins must not be parted
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


def _goes_on(inside: bool, lines: Iterable[str]) -> bool:  # noqa: FBT001 - it is the value that is computed here
    """Whether a private key goes on after some lines."""
    for line in lines:
        inside = keys.begins(line) or (inside and not keys.ENDS.search(line) and keys.goes_on(line))
    return inside


def _end(line: str, most: int) -> str:
    return line if len(line) <= most else "…" + line[len(line) - most + 1 :]
