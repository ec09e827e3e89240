"""The option of the store in which a command looks for a job."""

from __future__ import annotations

import click

store = click.option(
    "--store",
    envvar="RUNWIDE_STORE",
    metavar="STORE",
    help="The store of the job, if JOB is an id or a name; the default is RUNWIDE_STORE.",
)
