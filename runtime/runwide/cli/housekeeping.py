"""The command ``clean``, which deletes jobs."""

from __future__ import annotations

import click

from runwide import job as jobs
from runwide.cli import inputs, named
from runwide.errors import InputError, StoreNotWritable
from runwide.job.found import folder_of


@click.command("clean")
@click.argument("job", metavar="JOB_OR_STORE", required=False)
@click.option(
    "--older-than", metavar="AGE", help="Delete all jobs of a store that are older, such as 7d, 12h or 30m."
)
@click.option("--yes", is_flag=True, help="Delete without asking.")
@named.store
def clean_command(job: str | None, *, older_than: str | None, yes: bool, store: str | None) -> None:
    """Delete all objects of a job from its store: items, results and manifests.

    JOB is a job's reference, the URI of its folder, its id, the start of its id, or its name.

    \b
    Example:
        runwide clean gs://bucket/runs/a-20261124t231308-36c13f7040d35a90
        runwide clean scores --store gs://bucket/runs --yes
        runwide clean --older-than 7d gs://bucket/runs
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    job = job or (store if older_than is not None else None)
    if not job:
        raise InputError("no job was given", hint="give a job, or --older-than and a store")
    found = (
        [folder_of(job, store)] if older_than is None else jobs.older(job, seconds=inputs.seconds(older_than))
    )
    refused: list[StoreNotWritable] = []
    for one in found:
        if not yes and not _agreed(f"Delete everything below {one} ?"):
            raise InputError(f"nothing of {one} was deleted", hint="answer y, or give --yes")
        try:
            click.echo(f"deleted {jobs.clean(one)} objects below {one}")
        except StoreNotWritable as error:  # first delete the other jobs
            refused.append(error)
    if refused:
        raise refused[0]
    if not found:
        click.echo("no job is that old")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C, or the end of standard input
        click.echo(err=True)
        return False
