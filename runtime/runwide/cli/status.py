"""The command ``status``, which shows the progress of a job."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import click

from runwide import job as jobs
from runwide import words
from runwide.cli import named, report
from runwide.job.reference import quoted
from runwide.writing import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide.job.housekeeping import ShardStatus, Status

_LINES = 20  # unfinished shards that are listed


@click.command("status")
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", "watched", is_flag=True, help="Show the progress until all shards have finished.")
@named.store
def status_command(job: str, *, as_json: bool, watched: bool, store: str | None) -> None:
    """Show the progress of a job, and the first items that failed.

    JOB is a job's reference, the URI of its folder, its id, the start of its id, or its name.

    \b
    Example:
        runwide status "$job" --watch
        runwide status scores --store gs://bucket/runs
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    show(jobs.reference_of(job, store), as_json=as_json, watched=watched)


def show(job: str, *, as_json: bool, watched: bool) -> None:
    """Print the progress of a job.

    Args:
        job: The reference of the job.
        as_json: Print JSON.
        watched: First show a live view, until all shards have finished.
    """
    if watched:
        report.watch(job)
    found = jobs.status(job)
    if as_json:
        click.echo(json.dumps({**asdict(found), "failures": [asdict(one) for one in found.failures]}))
        return
    for line in lines(found):
        click.echo(printable(line))


def lines(found: Status) -> Iterator[str]:
    r"""Yield the lines for people about the progress of a job.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-lines", shards=2)
        >>> print(*[line for line in lines(runwide.status(job))][1:4], sep="\n")
        builtins:abs over 2 items, made ...
        0 of 2 shards finished, 0 items failed, not gathered, ... stored
          shards 0 to 1: 2 items, nothing stored
    """
    yield found.uri
    made = f"{found.created[:19].replace('T', ' ')} UTC"
    yield f"{found.function} over {words.count(found.items, 'item')}, made {made}"
    state = "gathered" if found.gathered else "not gathered"
    yield (
        f"{found.finished} of {len(found.shards)} shards finished, {found.failed:,} items failed, "
        f"{state}, {found.bytes / 2**20:.1f} MiB stored"
    )
    yield from _unfinished(found.shards)
    for one in found.failures:
        yield f"  item {one.item}: {one.error}"
    if found.failed > len(found.failures):
        yield f"  … and {found.failed - len(found.failures):,} more failed items"
    yield from _next(found)


def _unfinished(shards: tuple[ShardStatus, ...]) -> Iterator[str]:
    """Yield a line for each unfinished shard; neighbours that have stored nothing share a line."""
    rows, unfinished = [], [one for one in shards if not one.finished]
    # Neighbours have the same difference of index and position.
    for _, some in groupby(
        enumerate(unfinished),
        key=lambda pair: (pair[1].index, "") if pair[1].chunks else (pair[1].index - pair[0], "none"),
    ):
        first, *others = (one for _, one in some)
        items = words.count(first.items + sum(one.items for one in others), "item")
        stored = f"{words.count(first.chunks, 'chunk')} stored" if first.chunks else "nothing stored"
        name = f"shards {first.index} to {others[-1].index}" if others else f"shard {first.index}"
        rows.append(f"  {name}: {items}, {stored}")
    yield from rows[:_LINES]
    if len(rows) > _LINES:
        yield f"  … and {len(rows) - _LINES} more"


def _next(found: Status) -> Iterator[str]:
    """Yield the commands that may come next, ready to copy."""
    job = quoted(found.reference)
    if found.finished < len(found.shards):
        yield f"wait for it, and run stopped shards again: runwide wait {job}"
    if found.failures:
        yield f"debug an item that failed: runwide replay {job} {found.failures[0].item} --pdb"
    if found.finished == len(found.shards) and not found.gathered:
        yield f"gather the results: runwide gather {job}"
    if found.finished == len(found.shards) and found.gathered:
        yield f"read the results: runwide results {job}"
