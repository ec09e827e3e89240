"""Exit codes of commands; an error of ours is one line on standard error."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from io import StringIO
from typing import TYPE_CHECKING

import click

from runwide import __version__, log
from runwide.errors import InputError, Preempted, RunwideError
from runwide.redaction import redacted
from runwide.writing import printable, write

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_WRONG_CALL = 2
_FULL = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EFBIG,
)  # errors of standard output, which has no file name


@contextmanager
def coded() -> Iterator[None]:
    """Exit with the code that `runwide.cli.main` lists if the block raises our error or click's, or is interrupted."""
    try:
        yield
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except click.Abort as error:
        _exit("Aborted!", _INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else 1)
    except KeyboardInterrupt:
        _exit("Aborted!", _INTERRUPTED)
    except RunwideError as error:
        _exit(f"runwide: {type(error).__name__}: {error}", _code(error))
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _drop_output()
        _exit(f"Error: standard output cannot be written: {error.strerror}", 1)


def _drop_output() -> None:
    """Discard buffered output: the interpreter would fail again when it flushes at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _show(error: click.ClickException) -> None:
    text = StringIO()
    error.show(text)
    if isinstance(error, click.NoSuchOption):
        text.write(
            f"runwide: this is {__version__}; a pipeline made by another release may use other options\n"
        )
    _say(text.getvalue())


def _code(error: RunwideError) -> int:
    if isinstance(error, Preempted):
        return Preempted.code
    return _WRONG_CALL if isinstance(error, InputError) else 1


def _exit(line: str, code: int) -> None:
    _say(f"{line}\n")
    sys.exit(code)


def _say(text: str) -> None:
    """Write a text to standard error without secrets; as one log entry if a log collector reads it."""
    text = printable(redacted(text))
    if log.is_collected():
        with suppress(Exception):  # an incomplete installation
            from runwide.log import chain  # loading it takes 0.1 seconds

            text = f"{chain.last(text.rstrip(), 'ERROR')}\n"
    write(sys.stderr, text)
