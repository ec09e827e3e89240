"""The output of a command: results on standard output, files, and tables."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from runwide import log, streams
from runwide.errors import InputError
from runwide.redaction import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console, RenderableType
    from rich.table import Table


_OUT, _ERROR = 1, 2


@contextmanager
def alone() -> Iterator[Callable[[str], None]]:
    """Send all output of this process and its children to standard error while the block runs.

    Yield a function that writes a line to standard output.
    """
    out, error = sys.stdout, sys.stderr
    with ExitStack() as ending:
        # No program reads the output of tasks here, so each line may name its item.
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
        if error.errno == errno.EPIPE:  # the reader has closed the pipe, such as `head`
            raise
        raise click.ClickException(f"standard output cannot be written: {error.strerror}") from error


def _apart(stream: Any, ending: ExitStack) -> Any:
    """Point descriptor 1 to standard error, and return a stream to its former target.

    Args:
        stream: Standard output. A stream of another descriptor, as in a test, is returned unchanged.
    """
    if stream is None:  # standard output is closed
        return io.StringIO()
    try:
        if stream.fileno() != _OUT:
            return stream
        stream.flush()
        kept = os.dup(_OUT)
        os.dup2(_ERROR, _OUT)
    except (AttributeError, OSError, ValueError):  # the stream is no file, or standard error is closed
        return stream
    out = open(kept, "w", encoding=stream.encoding, errors=stream.errors)  # noqa: SIM115, PTH123 - closed at the end
    ending.callback(_restore, out)
    return out


def _restore(out: io.TextIOWrapper) -> None:
    os.dup2(out.fileno(), _OUT)
    with suppress(OSError):  # buffered output may not be writable
        out.close()


def _entries(stream: Any, severity: str, ending: ExitStack) -> Any:
    """Return a stream that writes each line as a JSON entry to another stream."""
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
            self._write_entry(line)
        return len(data)

    def close(self) -> None:
        if self._rest:
            self._write_entry(self._rest)
        self._rest = b""
        super().close()

    def _write_entry(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace")
        entry = log.print_line(text, severity=self._severity, hidden=self._hidden(text))
        if entry:
            streams.write(self._stream, entry)


def write_text(path: Path | None, text: str) -> None:
    """Write a text to a file, and create its folder if necessary; do nothing if the path is None."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"the output cannot be written ({error.strerror})", uri=str(path)) from error


_LOG_WIDTH = 160  # columns of a live view in a pipe or a file
_UNLIMITED = 1 << 20  # columns that no row needs: rich then wraps and cuts nothing


def console() -> Console:
    """Return a console on standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)


def width() -> int | None:
    """Return the number of columns of the terminal; None if standard output is a pipe or a file."""
    return console().width if sys.stdout.isatty() else None


def print_table(table: RenderableType) -> None:
    """Print a table; in a pipe or a file, each row is one line, without wrapping, cutting or spaces at its end."""
    from rich.console import Console

    if width() is not None:
        console().print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_UNLIMITED, highlight=False, color_system=None).print(table)
    for line in text.getvalue().removesuffix("\n").split("\n"):
        click.echo(line.rstrip())


def plain_table(*columns: str, header: bool = True) -> Table:
    """Return a table without lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", show_header=header)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
