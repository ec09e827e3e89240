"""Write text to this program's standard output or error, in whatever state those are, without ever raising."""

from __future__ import annotations

import io
import os
import select
import threading
from typing import Any

STANDARD = (0, 1, 2)
"""Descriptors of standard input, output and error."""


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
    try:
        _write(stream, text)
    except BaseException as error:
        if not _is_hindrance(error):
            raise


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; any object may be in its place.

    Example:
        >>> is_terminal(None), is_terminal(object())
        (False, False)
    """
    try:
        return bool(stream.isatty())
    except BaseException as error:
        if not _is_hindrance(error):
            raise
        return False


class Tolerant:
    """A stream in front of another one that may be in any state; what cannot be written is dropped.

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
        write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Everything is written at once."""

    def isatty(self) -> bool:
        """Whether the other one is a terminal."""
        return is_terminal(self._stream)

    def fileno(self) -> int:
        """The descriptor of the other one."""
        number: int = self._stream.fileno()
        return number


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


def _is_hindrance(error: BaseException) -> bool:
    """Whether an error is one of writing, and no Ctrl-C, which comes to the main thread only."""
    return isinstance(error, Exception) or threading.current_thread() is not threading.main_thread()


def _write(stream: Any, text: str) -> None:
    file = _file_below(stream)
    if file is not None:
        # Past its buffer: what does not get out would stay there, and make the interpreter exit with status 120.
        stream.flush()
        _write_all(file.fileno(), _encoded(text, stream.encoding, stream.errors))
        return
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
    file = getattr(stream.buffer, "raw", None)
    plain = "\n".encode(stream.encoding) == b"\n"
    return file if plain and isinstance(file, io.FileIO) else None


def _encoded(text: str, encoding: str, errors: str | None) -> bytes:
    try:
        return text.encode(encoding, errors or "strict")
    except (UnicodeError, LookupError):  # of a handler that is known to another program only
        return text.encode(encoding, "backslashreplace")


def _encoding(stream: Any) -> str:
    found = getattr(stream, "encoding", None)
    return found if isinstance(found, str) else "ascii"


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # a terminal or pipe that another program has made non-blocking
            room = select.poll()
            room.register(descriptor, select.POLLOUT)
            room.poll()
