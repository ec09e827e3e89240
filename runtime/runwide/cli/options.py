"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

from runwide.cli import formats

items_format = click.option(
    "--items-format",
    type=click.Choice(formats.FORMATS),
    help="What the items are read as, whatever metadata, name and content say; files: the files of a pattern or a folder.",
)
items_types = click.option(
    "--items-types",
    metavar="TEXT",
    help='A JSON object with the type of columns of CSV: {"zip": "str"}, or int, float, bool; others by their values.',
)
items_artifacts = click.option(
    "--items-artifacts",
    metavar="NAME",
    help="An input of --executor-input that is a list of artifacts: their URIs, or with --items-format the rows of all.",
)
secret = click.option(
    "--secret",
    "secrets",
    multiple=True,
    nargs=2,
    metavar="VARIABLE SECRET",
    help="A variable for the function, with the value of projects/P/secrets/S/versions/V of Secret Manager.",
)
env = click.option(
    "--env",
    multiple=True,
    nargs=2,
    metavar="VARIABLE VALUE",
    help="A variable for the function, set before it or any of its modules is loaded.",
)
env_text = click.option(
    "--env-text",
    multiple=True,
    metavar="TEXT",
    help="Such variables as NAME=VALUE&NAME=VALUE, quoted as in a URL; '-' for none.",
)
composed_env = click.option(
    "--composed-env",
    multiple=True,
    nargs=2,
    metavar="VARIABLE JSON",
    help="A variable whose value has parameters of --given in it.",
)
env_out = click.option(
    "--env-out",
    type=click.Path(path_type=Path),
    help="Write the variables of --composed-env there, as --env-text of the shards and the gather has them.",
)

requirements = click.option(
    "--requirements-text",
    "requirements",
    metavar="TEXT",
    help="Requirements of pip, one a line, with -c in front of a constraint: installed for this step alone, into scratch.",
)


def _or_none(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    return None if value in (None, "", "-") else value


reduce = click.option(
    "--reduce",
    metavar="MODULE:FUNCTION",
    help="Makes one result of two, and is associative, such as operator:add: the result is one value.",
)
run_key = click.option(
    "--run-key",
    metavar="KEY",
    callback=_or_none,
    help="A key of this run of the pipeline, with which results are signed where no signing key is set; '-' for none.",
)
