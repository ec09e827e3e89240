"""The ``runwide`` command: each command in its own module, loaded when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from runwide import __version__
from runwide.errors import InputError, Preempted, RunwideError
from runwide.log import take_over_logging

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it

# command name -> module that defines it, under a function of the same name
_COMMANDS = {
    "clean": "runwide.cli.jobs",
    "cores": "runwide.cli.cores",
    "doctor": "runwide.cli.doctor",
    "gather": "runwide.cli.jobs",
    "map": "runwide.cli.jobs",
    "replay": "runwide.cli.jobs",
    "report": "runwide.cli.report",
    "rerun": "runwide.cli.jobs",
    "scatter": "runwide.cli.jobs",
    "shard": "runwide.cli.shard",
    "status": "runwide.cli.jobs",
}


# where packages that the runtime does not know say which commands they have; read only where it is needed
_GROUP = "runwide.commands"
_WITH_ENGINES = frozenset({"status"})  # commands of ours that such a package may answer in more cases


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


def _others() -> EntryPoints:
    # loading this takes longer than all that a shard needs of this module
    from importlib.metadata import entry_points

    return entry_points(group=_GROUP)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="runwide")
def cli() -> None:
    r"""Run a function on the real cores of this container, or as a shard of a larger job.

    \b
    Example:
        runwide cores
        runwide map mymodule:score items.jsonl
    """


def main(args: list[str] | None = None) -> Any:
    """Run the command line; errors of ours are one line on standard error and a non-zero exit.

    Exit codes: 0 done, 1 failed, 2 the call was wrong, 130 interrupted by Ctrl-C, 143 stopped by SIGTERM.
    """
    try:
        take_over_logging()
        sys.exit(cli.main(args=args, prog_name="runwide", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort as error:
        click.echo("Aborted!", err=True)
        sys.exit(_INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else 1)
    except RunwideError as error:
        click.echo(f"runwide: {type(error).__name__}: {error}", err=True)
        sys.exit(_status(error))


def _status(error: RunwideError) -> int:
    if isinstance(error, Preempted):
        return Preempted.code
    return 2 if isinstance(error, InputError) else 1
