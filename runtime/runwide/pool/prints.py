"""Lines that tasks print: marked with the task, kept for errors, and written before a call ends."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from runwide.redaction import Lines, marked
from runwide.streams import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runwide.pool.output import Output


_OPEN, _CLOSE = "\x1e", "\x1f"  # record and unit separator: texts do not have them
_FRAME = re.compile(f"{_OPEN}(?:item=(-?[0-9]+),attempt=([0-9]+)){_CLOSE}")
_CUT = re.compile(f"{_OPEN}[^{_CLOSE}\n]{{0,60}}$")


def frame_of(task: Mapping[str, int]) -> str:
    """Return the frame of a task; an empty text without a task."""
    return f"{_OPEN}item={task['item']},attempt={task['attempt']}{_CLOSE}" if task else ""


def unframed(line: str) -> tuple[str, dict[str, int]]:
    """Return a line without frames, and the task of the first frame; native code may have begun the line.

    Example:
        >>> unframed(frame_of({"item": 3, "attempt": 1}) + "hello")
        ('hello', {'item': 3, 'attempt': 1})
        >>> unframed("hello")
        ('hello', {})
    """
    found = _FRAME.search(line)
    if found is None:
        return line, {}
    return _FRAME.sub("", line), {"item": int(found[1]), "attempt": int(found[2])}


def is_framed(line: str) -> bool:
    """Return whether a line has a frame."""
    return _FRAME.search(line) is not None


def is_cut(line: str) -> bool:
    r"""Return whether a line ends within a frame.

    Example:
        >>> is_cut(frame_of({"item": 3, "attempt": 1})[:-1]), is_cut("hello")
        (True, False)
    """
    return _CUT.search(line) is not None


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
        inside = marked.key_begins(line) or (
            inside and not marked.KEY_ENDS.search(line) and marked.key_goes_on(line)
        )
    return inside


def _end(line: str, most: int) -> str:
    return line if len(line) <= most else "…" + line[len(line) - most + 1 :]


_SECONDS = 30.0
"""The longest delay: writing may be slow, and a log processor of the user's may wait for the end of this call."""


class Endings:
    """The ends of calls that wait for their printed lines, while the scheduler goes on.

    Args:
        ring: Wakes the scheduler. Any thread may call it.
    """

    def __init__(self, output: Output, ring: Callable[[], None]) -> None:
        self._output = output
        self._ring = ring
        self._waiting: list[_Ending] = []

    def __bool__(self) -> bool:
        """Return whether any end waits."""
        return bool(self._waiting)

    def finish(self, *steps: Callable[[], None], at_once: bool = False) -> None:
        """End a call: now if no line waits to be written, otherwise when the lines are written.

        Args:
            steps: The functions that end it, called on the scheduler's thread.
            at_once: Whether to end it now in any case.
        """
        ending = _Ending(steps, self._ring)
        if not at_once and self._output.after(ending.set_due):
            self._waiting.append(ending)
        else:
            ending.run()

    def look(self, *, last: bool = False) -> None:
        """Run the ends that need not wait any more; all of them with ``last``."""
        now = time.monotonic()
        for one in [one for one in self._waiting if last or one.is_due or now >= one.deadline]:
            self._waiting.remove(one)
            one.run()

    def patience(self) -> float | None:
        """Return the seconds until an end has waited for long enough."""
        deadlines = [one.deadline for one in self._waiting]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None


class _Ending:
    def __init__(self, steps: Sequence[Callable[[], None]], ring: Callable[[], None]) -> None:
        self._steps = steps
        self.deadline = time.monotonic() + _SECONDS
        self.is_due = False
        self._ring = ring

    def run(self) -> None:
        for step in self._steps:
            step()

    def set_due(self) -> None:
        """Note that all earlier lines are written."""
        self.is_due = True
        self._ring()
