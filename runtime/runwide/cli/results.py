"""Standard output of a command is its results alone: what the user's code prints meanwhile goes to standard error."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from runwide import log
from runwide.redaction import Lines
from runwide.writing import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OUT, _ERROR = 1, 2


@contextmanager
def alone() -> Iterator[Callable[[str], None]]:
    """Send everything that is printed while the block runs to standard error, in this process and in those it starts.

    Yields:
        What writes a line to standard output.
    """
    out, error = sys.stdout, sys.stderr
    with ExitStack() as ending:
        # Nobody asks for a task's output as it was printed here.
        ending.enter_context(log.items_always_named())
        results = _apart(out, ending)
        ending.callback(setattr, sys, "stdout", out)
        ending.callback(setattr, sys, "stderr", error)
        if log.is_collected():
            sys.stdout, sys.stderr = _entries(error, "INFO", ending), _entries(error, "WARNING", ending)
        else:
            sys.stdout = error
        yield lambda line: _put(line, results)


def _put(line: str, results: Any) -> None:
    try:
        click.echo(line, file=results)
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever reads has enough
            raise
        raise click.ClickException(f"standard output cannot be written: {error.strerror}") from error


def _apart(stream: Any, ending: ExitStack) -> Any:
    """Point descriptor 1 to standard error, and return a stream to where it pointed before.

    Args:
        stream: Standard output. One that is not of that descriptor, as in a test, is returned as it is.
        ending: Undoes it.
    """
    if stream is None:  # it was closed
        return io.StringIO()
    try:
        if stream.fileno() != _OUT:
            return stream
        stream.flush()
        kept = os.dup(_OUT)
        os.dup2(_ERROR, _OUT)
    except (AttributeError, OSError, ValueError):  # it is no file, or standard error is closed
        return stream
    out = open(kept, "w", encoding=stream.encoding, errors=stream.errors)  # noqa: SIM115, PTH123 - closed at the end
    ending.callback(_restore, out)
    return out


def _restore(out: io.TextIOWrapper) -> None:
    os.dup2(out.fileno(), _OUT)
    with suppress(OSError):  # of what could not be written
        out.close()


def _entries(stream: Any, severity: str, ending: ExitStack) -> Any:
    """Return a stream whose lines become entries of JSON on another one."""
    lines: Any = _Entries(stream, severity)
    made = io.TextIOWrapper(lines, "utf-8", "backslashreplace", line_buffering=True)
    ending.callback(made.close)
    return made


class _Entries(io.RawIOBase):
    def __init__(self, stream: Any, severity: str) -> None:
        super().__init__()
        self._stream = stream
        self._severity = severity
        self._hidden = Lines()
        self._rest = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            self._say(line)
        return len(data)

    def close(self) -> None:
        if self._rest:
            self._say(self._rest)
        self._rest = b""
        super().close()

    def _say(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace")
        entry = log.print_line(text, severity=self._severity, hidden=self._hidden(text))
        if entry:
            write(self._stream, entry)
