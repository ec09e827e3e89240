"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runwide.options.checks import PER_GPU
from runwide.options.record import OPTIONS
from runwide.tables import formats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


items_format = click.option(
    "--items-format",
    type=click.Choice(formats.FORMATS),
    help="The format of the items; by default, metadata, name or content decide. files: the files of a pattern or a folder.",
)
items_types = click.option(
    "--items-types",
    metavar="TEXT",
    help='A JSON object with types of CSV columns, such as {"zip": "str"}: str, int, float or bool.',
)
items_artifacts = click.option(
    "--items-artifacts",
    metavar="NAME",
    help="An input in --executor-input that is a list of artifacts: their URIs, or with --items-format the rows of all.",
)
secret = click.option(
    "--secret",
    "secrets",
    multiple=True,
    nargs=2,
    metavar="VARIABLE SECRET",
    help="A variable for the function, with the value of the secret projects/P/secrets/S/versions/V.",
)
env = click.option(
    "--env",
    multiple=True,
    nargs=2,
    metavar="VARIABLE VALUE",
    help="A variable for the function, set before the function and its modules are loaded.",
)
env_text = click.option(
    "--env-text",
    multiple=True,
    metavar="TEXT",
    help="Variables as --env, written as NAME=VALUE&NAME=VALUE, quoted as in a URL; '-' for none.",
)
composed_env = click.option(
    "--composed-env",
    multiple=True,
    nargs=2,
    metavar="VARIABLE JSON",
    help="A variable whose value contains parameters of --given.",
)
env_out = click.option(
    "--env-out",
    type=click.Path(path_type=Path),
    help="Write the variables of --composed-env to this file, for --env-text of shards and gather.",
)
requirements = click.option(
    "--requirements-text",
    "requirements",
    metavar="TEXT",
    help="Requirements of pip, one a line, with -c before a constraint; installed into scratch, for this step only.",
)


def _or_none(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    return None if value in (None, "", "-") else value


reduce = click.option(
    "--reduce",
    metavar="MODULE:FUNCTION",
    help="An associative function that makes one result of two, such as operator:add; the result is then one value.",
)
run_key = click.option(
    "--run-key",
    metavar="KEY",
    callback=_or_none,
    help="The key of this pipeline run, which signs results if no signing key is set; '-' for none.",
)


class _Workers(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in the newest click
    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == PER_GPU or isinstance(value, int):
            return value
        return click.INT.convert(value, param, ctx)


_TYPES: dict[str, dict[str, Any]] = {
    "workers": {"type": _Workers(), "metavar": f"N|{PER_GPU}"},
    "number": {"type": int, "metavar": "N"},
    "seconds": {"type": float, "metavar": "SECONDS"},
    "size": {"metavar": "SIZE"},
    "switch": {"default": None},
    "function": {"metavar": "MODULE:FUNCTION"},
}


def names_on(*, but: Iterable[str] = ()) -> list[str]:
    """Return the names of the options that a command line can have, without those in ``but``.

    Example:
        >>> sorted(OPTIONS.keys() - set(names_on()))
        ['fresh', 'initargs', 'on_event']
    """
    return [name for name, option in OPTIONS.items() if option.word is not None and name not in but]


def running(*, but: Iterable[str] = (), of: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of a call to a command, which takes them as keywords; an option that is not given is None.

    Args:
        of: How the help of each begins, such as ``"Of a function"``.
    """

    def given(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names_on(but=but)):
            option = OPTIONS[name]
            word = f"--{name.replace('_', '-')}"
            if option.word == "switch":
                word += f"/--no-{name.replace('_', '-')}"
            text = f"{of}: {option.help[0].lower()}{option.help[1:]}" if of else option.help
            command = click.option(word, name, help=text, **_TYPES[option.word or ""])(command)
        return command

    return given


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call that a command was given, as keywords for calls in Python.

    Example:
        >>> chosen({"workers": 2, "timeout": None, "job": "…"})
        {'workers': 2}
    """
    found = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    if isinstance(found.get("initializer"), str):
        from runwide.cli.inputs import function_of

        found["initializer"] = function_of(found["initializer"])
    return found


store = click.option(
    "--store",
    envvar="RUNWIDE_STORE",
    metavar="STORE",
    help="The store of the job, if JOB is an id or a name; the default is RUNWIDE_STORE.",
)
