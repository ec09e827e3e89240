"""Standard streams: lines written to them in any state, and whether a person watches."""

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

_ROOM_SECONDS = 0.01  # between two attempts if the system cannot wait for room


def write(stream: Any, text: str) -> None:
    r"""Write whole lines; characters that the stream cannot encode are escaped, and lines that fail are dropped.

    The stream may be closed, full, broken, None, or any object with a method ``write``.

    Args:
        stream: ``sys.stdout`` or ``sys.stderr``, or the object that the program has put there.
        text: Lines with their ends.

    Example:
        >>> import io
        >>> narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        >>> write(narrow, "naïve\n")
        >>> narrow.buffer.getvalue()
        b'na\\xefve\n'
        >>> write(None, "dropped\n")
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
    """Return whether tqdm shows a bar of text, which must be cleared before a line is written."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None or _forked_with_bars:
        return False
    with suppress(Exception):  # tqdm may have any version, and be imported in part
        return any(not bar.gui for bar in list(tqdm.tqdm._instances))  # noqa: SLF001 - it has no public name
    return False


def escaped(text: str) -> str:
    r"""Return text in which bytes that are not UTF-8 are escaped.

    Args:
        text: Decoded with ``surrogateescape``.

    Example:
        >>> print(escaped("a\udcff"))
        a\xff
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# control characters without tab and line feed, and characters that change the direction of text
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return text in which control characters are escaped, so that a terminal only shows it.

    Example:
        >>> printable("\x1b[2Jgone")
        '\\x1b[2Jgone'
    """
    return _UNSHOWN.sub(lambda found: repr(found[0])[1:-1], text)


def _attempt(call: Callable[..., object], *args: Any) -> bool:
    """Call a function that may fail for any reason; return whether it succeeded."""
    try:
        call(*args)
    except BaseException as error:
        if not is_hindrance(error):
            raise
        return False
    return True


def is_terminal(stream: Any) -> bool:
    """Return whether an object is a stream to a terminal.

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
    """A stream for a bar, which writes to another stream in any state and drops text that fails.

    It equals the other stream, since tqdm compares streams to find the bars that it must clear before a line.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """The encoding of the other stream, or ASCII."""
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
        """Do nothing: all text is written at once."""

    def isatty(self) -> bool:
        """Return whether the other stream is a terminal."""
        return is_terminal(self._stream)

    def fileno(self) -> int:
        """Return the descriptor of the other stream."""
        number: int = self._stream.fileno()
        return number


_forked_with_bars = False
"""Whether this is a fork of a process with bars: a thread there may have held tqdm's lock, which is never released here."""


def _note_fork() -> None:
    global _forked_with_bars  # noqa: PLW0603 - a fact about this process
    _forked_with_bars = has_bars()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)


def keep_standard_descriptors() -> None:
    """Open the null device as standard input, output or error if the program has closed one of them.

    Otherwise the next socket or pipe would get that number, and receive all writes to standard error.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, usually this one
            if opened != number:
                os.dup2(opened, number, inheritable=False)
                os.close(opened)


def is_hindrance(error: BaseException) -> bool:
    """Return whether an error is one of writing, and not a Ctrl-C, which only the main thread gets."""
    return isinstance(error, Exception) or threading.current_thread() is not threading.main_thread()


def write_all(descriptor: int, data: Any) -> None:
    """Write all bytes, even if a signal interrupts it, or another program has made the file non-blocking."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            _wait_for_room(descriptor)


def _wait_for_room(descriptor: int) -> None:
    if sys.platform == "win32":  # poll works with sockets only there
        time.sleep(_ROOM_SECONDS)
        return
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    room.poll()


def _write(stream: Any, text: str) -> None:
    file = _file_below(stream)
    if file is not None:
        # Past its buffer: text that fails would stay there, and make the interpreter exit with status 120.
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
    """Return the file of a stream that the interpreter made; None for other streams, and for encodings with a state."""
    if type(stream) is not io.TextIOWrapper:
        return None
    file = getattr(stream.buffer, "raw", stream.buffer)  # with PYTHONUNBUFFERED there is no buffer
    plain = "\n".encode(stream.encoding) == b"\n"
    return file if plain and isinstance(file, io.FileIO) else None


def _encoded(text: str, encoding: str, errors: str | None) -> bytes:
    with suppress(UnicodeError, LookupError):  # the error handler may be unknown here
        return text.encode(encoding, errors or "strict")
    return b"".join(_encoded_anyhow(line, encoding) for line in text.splitlines(keepends=True))


def _encoded_anyhow(line: str, encoding: str) -> bytes:
    try:
        return line.encode(encoding, "surrogateescape")  # keeps bytes that were not text unchanged
    except UnicodeError:
        return escaped(line).encode(encoding, "backslashreplace")


def _encoding(stream: Any) -> str:
    found = getattr(stream, "encoding", None)
    return found if isinstance(found, str) else "ascii"


def is_watched(stream: Any = None) -> bool:
    """Return whether a person sees this program's output at once, on a terminal or in a notebook.

    Args:
        stream: Standard output or error; None for standard error.
    """
    stream = sys.stderr if stream is None else stream
    return is_terminal(stream) or _in_notebook(stream)


def _in_notebook(stream: Any) -> bool:
    """Return whether a stream goes to a notebook; other programs load ipykernel too, and notebooks run in pods."""
    return type(stream).__module__.startswith("ipykernel.")


def follow_cells() -> None:
    """Send this thread's output to the notebook's running cell, instead of the cell that started the thread."""
    here = threading.get_ident()
    for stream in (sys.stdout, sys.stderr):
        # Attributes of ipykernel 6, which has no public way.
        for known in ("_thread_to_parent", "_thread_to_parent_header"):
            with suppress(Exception):
                getattr(stream, known).pop(here, None)
