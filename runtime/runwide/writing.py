"""Write text to this program's standard output or error, in whatever state those are, without ever raising."""

from __future__ import annotations

import io
import os
import re
import select
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD = (0, 1, 2)
"""Descriptors of standard input, output and error."""

_ROOM_SECONDS = 0.01  # between two attempts where nothing tells of room


def write(stream: Any, text: str) -> None:
    r"""Write whole lines; what the stream cannot encode is escaped, and what cannot be written at all is dropped.

    The stream may be closed, full, broken, None, or any object with a method ``write``.

    Args:
        stream: ``sys.stdout`` or ``sys.stderr``, or what the program has put there.
        text: Lines with their ends.

    Example:
        >>> import io
        >>> narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        >>> write(narrow, "naïve\n")
        >>> narrow.buffer.getvalue()
        b'na\\xefve\n'
        >>> write(None, "nobody reads this\n")
    """
    if not has_bars():
        _attempt(_write, stream, text)
        return
    aside = sys.modules["tqdm"].tqdm.external_write_mode(file=stream)
    stands_aside = _attempt(aside.__enter__)
    _attempt(_write, stream, text)
    if stands_aside:
        _attempt(aside.__exit__, None, None, None)


def has_bars() -> bool:
    """Return whether tqdm shows a bar of text, which a line must not be written into."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None or _forked_with_bars:
        return False
    with suppress(Exception):  # it may be of any version, and half imported
        return any(not bar.gui for bar in list(tqdm.tqdm._instances))  # noqa: SLF001 - it has no other name
    return False


def escaped(text: str) -> str:
    r"""Return text in which bytes that are no UTF-8 are escaped.

    Args:
        text: Decoded with ``surrogateescape``.

    Example:
        >>> print(escaped("a\udcff"))
        a\xff
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# control characters but the tab and the end of a line, and what turns the direction of text
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return text in which nothing tells a terminal to do more than show it.

    Args:
        text: Of somebody else's: an exception's message, a name.

    Example:
        >>> printable("\x1b[2Jgone")
        '\\x1b[2Jgone'
    """
    return _UNSHOWN.sub(lambda found: repr(found[0])[1:-1], text)


def _attempt(call: Callable[..., object], *args: Any) -> bool:
    """Call what may fail for any reason; whether it did not."""
    try:
        call(*args)
    except BaseException as error:
        if not is_hindrance(error):
            raise
        return False
    return True


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; any object may be in its place.

    Example:
        >>> is_terminal(None), is_terminal(object())
        (False, False)
    """
    try:
        return bool(stream.isatty())
    except BaseException as error:
        if not is_hindrance(error):
            raise
        return False


class Tolerant:
    """A stream for a bar, in front of another one that may be in any state; what cannot be written is dropped.

    It equals the other one, as tqdm asks to find the bars that are in the way of a line.

    Args:
        stream: As for `write`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """The encoding of the other one, as far as that has any."""
        return _encoding(self._stream)

    def write(self, text: str) -> int:
        """Write text."""
        _attempt(_write, self._stream, text)
        return len(text)

    def __eq__(self, other: object) -> bool:
        return other is self._stream or (isinstance(other, Tolerant) and other._stream is self._stream)

    def __hash__(self) -> int:
        return hash(id(self._stream))

    def flush(self) -> None:
        """Everything is written at once."""

    def isatty(self) -> bool:
        """Whether the other one is a terminal."""
        return is_terminal(self._stream)

    def fileno(self) -> int:
        """The descriptor of the other one."""
        number: int = self._stream.fileno()
        return number


_forked_with_bars = False
"""Whether this is a fork of a process with bars: one of its threads may have held tqdm's lock, which is never released."""


def _note_fork() -> None:
    global _forked_with_bars  # noqa: PLW0603 - a fact about this process
    _forked_with_bars = has_bars()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)


def keep_standard_descriptors() -> None:
    """Open the null device as standard input, output or error where the program has closed one of them.

    Otherwise the next socket or pipe would get that number, and take what anybody writes to standard error.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, mostly this one
            if opened != number:
                os.dup2(opened, number, inheritable=False)
                os.close(opened)


def is_hindrance(error: BaseException) -> bool:
    """Whether an error is one of writing, and no Ctrl-C, which comes to the main thread only."""
    return isinstance(error, Exception) or threading.current_thread() is not threading.main_thread()


def write_all(descriptor: int, data: Any) -> None:
    """Write all bytes, also where a signal comes in between or another program has made the file non-blocking."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            _wait_for_room(descriptor)


def _wait_for_room(descriptor: int) -> None:
    if sys.platform == "win32":  # which tells it of sockets alone
        time.sleep(_ROOM_SECONDS)
        return
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    room.poll()


def _write(stream: Any, text: str) -> None:
    file = _file_below(stream)
    if file is not None:
        # Past its buffer: what does not get out would stay there, and make the interpreter exit with status 120.
        stream.flush()
        write_all(file.fileno(), _encoded(text, stream.encoding, stream.errors))
        return
    text = escaped(text)
    try:
        stream.write(text)
    except UnicodeError:
        encoding = _encoding(stream)
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()


def _file_below(stream: Any) -> io.FileIO | None:
    """The file below a stream of the interpreter's own; None for others, and where a write depends on earlier ones."""
    if type(stream) is not io.TextIOWrapper:
        return None
    file = getattr(stream.buffer, "raw", stream.buffer)  # with PYTHONUNBUFFERED there is nothing between
    plain = "\n".encode(stream.encoding) == b"\n"
    return file if plain and isinstance(file, io.FileIO) else None


def _encoded(text: str, encoding: str, errors: str | None) -> bytes:
    with suppress(UnicodeError, LookupError):  # of a handler that is known to another program only
        return text.encode(encoding, errors or "strict")
    return b"".join(_encoded_anyhow(line, encoding) for line in text.splitlines(keepends=True))


def _encoded_anyhow(line: str, encoding: str) -> bytes:
    try:
        return line.encode(encoding, "surrogateescape")  # bytes that were no text are as they came
    except UnicodeError:
        return escaped(line).encode(encoding, "backslashreplace")


def _encoding(stream: Any) -> str:
    found = getattr(stream, "encoding", None)
    return found if isinstance(found, str) else "ascii"
