"""The commands that look at jobs and clean up after them: ``status`` and ``clean``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from runwide import job as jobs
from runwide.cli import inputs, report
from runwide.errors import InputError, StoreNotWritable
from runwide.spill import windows
from runwide.writing import printable


@click.command("status")
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--watch", "watched", is_flag=True, help="Show it until all shards have finished.")
def status_command(job: str, *, as_json: bool, watched: bool) -> None:
    """Show how far a job is."""
    if watched:
        report.watch(job)
    found = jobs.status(job)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    click.echo(f"{found.uri}\n{printable(found.function)} over {found.items} items, made {found.created}")
    state = "gathered" if found.gathered else "not gathered"
    click.echo(
        f"{found.finished} of {len(found.shards)} shards finished, {found.failed} items failed, "
        f"{state}, {found.bytes / 2**20:.1f} MiB stored"
    )
    for shard in found.shards:
        if not shard.finished:
            click.echo(f"  shard {shard.index}: {shard.items} items, {shard.chunks} chunks stored")


@click.command("clean")
@click.argument("job", metavar="JOB_OR_STORE")
@click.option(
    "--older-than", metavar="AGE", help="Delete all jobs of a store that are older: 7d, 12h or 30m."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean_command(job: str, *, older_than: str | None, yes: bool) -> None:
    """Delete everything of a job from its store: its items, its results, its manifests.

    \b
    Example:
        runwide clean gs://bucket/runs/a-20261124t231308-36c13f7040d35a90
        runwide clean --older-than 7d gs://bucket/runs
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    uri = windows.slashed(job).partition("#")[0].removesuffix("/job.json")
    found = [uri] if older_than is None else jobs.older(job, seconds=inputs.seconds(older_than))
    refused: list[StoreNotWritable] = []
    for one in found:
        if not yes and not _agreed(f"Delete everything below {one} ?"):
            raise InputError(f"nothing of {one} was deleted", hint="answer y, or say --yes")
        try:
            click.echo(f"deleted {jobs.clean(one)} objects below {one}")
        except StoreNotWritable as error:  # the other jobs are not kept by it
            refused.append(error)
    if refused:
        raise refused[0]
    if not found:
        click.echo("nothing is that old")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # a Ctrl-C, or there is nobody to ask
        click.echo(err=True)
        return False
