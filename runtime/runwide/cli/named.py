"""How a job is named on a command line, and the option for where its name is looked for."""

from __future__ import annotations

import click

store = click.option(
    "--store",
    envvar="RUNWIDE_STORE",
    metavar="STORE",
    help="Where the job lies, if JOB is an id or a name; RUNWIDE_STORE when not given.",
)
