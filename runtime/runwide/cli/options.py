"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from runwide.cli import formats

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
