"""The `runwide` command: its group of commands, loaded when they are called, and its exit codes."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING

import click

from runwide import __version__, log
from runwide.errors import InputError, Preempted, RunwideError
from runwide.log import take_over_logging
from runwide.redaction import redacted
from runwide.streams import printable, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoints


# Each command with the module that defines it as `<command>_command`.
_COMMANDS = {
    "clean": "runwide.cli.ls",
    "cores": "runwide.cli.cores",
    "doctor": "runwide.cli.doctor",
    "gather": "runwide.cli.jobs",
    "keygen": "runwide.cli.keygen",
    "ls": "runwide.cli.ls",
    "map": "runwide.cli.jobs",
    "replay": "runwide.cli.jobs",
    "report": "runwide.cli.status",
    "rerun": "runwide.cli.jobs",
    "scatter": "runwide.cli.scatter",
    "shard": "runwide.cli.shard",
    "status": "runwide.cli.status",
}


# Entry points of commands in packages that the runtime does not know; read only if necessary.
_GROUP = "runwide.commands"
_WITH_ENGINES = frozenset({"status"})  # our commands that such a package may extend
_OF_PIPELINES = frozenset({"gather", "scatter", "shard"})
_MISTYPED = 0.8  # the likeness of a mistyped option to the meant one; click's suggestions need only 0.6


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted({*_COMMANDS, *(found.name for found in _others())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        home = _COMMANDS.get(cmd_name)
        if home is None or cmd_name in _WITH_ENGINES:
            other = next((found for found in _others() if found.name == cmd_name), None)
            if other is not None:
                further: click.Command = other.load()
                return further
        if home is None:
            return None
        command: click.Command = getattr(import_module(home), f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise _with_suggestion(error, args[0], self.list_commands(ctx)) from error


def _with_suggestion(error: click.UsageError, word: str, known: list[str]) -> click.UsageError:
    """Return the same error with the commands of similar names."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, 3, 0.5)
    if not near or "Did you mean" in error.message:
        return error
    return click.UsageError(f"{error.message} Did you mean {' or '.join(map(repr, near))}?", error.ctx)


def _others() -> EntryPoints:
    # importlib.metadata is slow to load, and most commands do not need it
    from importlib.metadata import entry_points

    return entry_points(group=_GROUP)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="runwide")
def cli() -> None:
    """Run a function on the real cores of this container, or as a shard of a larger job.

    \b
    Example:
        runwide cores
        runwide map mymodule:score items.jsonl
        runwide ls gs://bucket/runs
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines


def main(args: list[str] | None = None) -> None:
    """Run a command; an error of ours is one line on standard error, and an exit code that is not 0.

    Exit codes: 0 done, 1 failed, 2 invalid call, 130 interrupted by Ctrl-C, 143 stopped by SIGTERM.
    """
    _escape_missing_characters()
    with coded():
        take_over_logging()
        sys.exit(cli.main(args=args, prog_name="runwide", standalone_mode=False))


def _escape_missing_characters() -> None:
    """Make standard output escape characters that its encoding lacks, such as code page 1252, instead of raising."""
    stream = sys.stdout
    if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


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
    if isinstance(error, click.NoSuchOption) and _is_of_pipeline(error):
        text.write(
            f"runwide: this is {__version__}; a pipeline made by another release may use other options\n"
        )
    _say(text.getvalue())


def _is_of_pipeline(error: click.NoSuchOption) -> bool:
    """Return whether another release may have written the option: it is of a pipeline's command, and not mistyped."""
    from difflib import get_close_matches

    if error.ctx is None or error.ctx.info_name not in _OF_PIPELINES:
        return False
    return not get_close_matches(error.option_name, error.possibilities or (), 1, _MISTYPED)


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
