"""The command that shows what happened in a job, ``report``, and the live view of ``status``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runwide import job as jobs
from runwide.cli import files
from runwide.log import Log

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runwide.job import Status

_log = Log("cli")

_INTERVAL = 5.0  # seconds: one listing of the job each time
_LINES = 20  # unfinished shards that are listed


@click.command("report")
@click.argument("job")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where to write the page; report-JOB.html when not given."
)
@click.option("--metrics-out", type=click.Path(path_type=Path), help="Write the numbers there, as JSON.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
def report_command(job: str, *, out: Path | None, metrics_out: Path | None, opened: bool) -> None:
    r"""Make a page of what happened in JOB; print what it found and where the page is.

    \b
    Example:
        runwide report "$job" --open
    """
    from runwide.report import report

    found = report(job)
    path = found.save(out or f"report-{found.story.title}.html")
    files.write(metrics_out, json.dumps(found.metrics, indent=1))
    for finding in found.findings:
        click.echo(f"{finding.level.value:>8}  {finding.text} {finding.advice}".rstrip())
    click.echo(str(path))
    if opened:
        click.launch(path.resolve().as_uri())


def outputs(job: str, *, report_out: Path | None, metrics_out: Path | None) -> dict[str, float]:
    """Write a job's page and numbers where asked, as the step that ends a job does; parent folders are made.

    Returns:
        The numbers; none where neither is asked for, or the report cannot be made.
    """
    if report_out is None and metrics_out is None:
        return {}
    from runwide.report import report

    try:
        found = report(job)
        numbers = found.metrics
        if report_out is not None:
            found.save(report_out)
    except Exception as error:  # whatever it is: the results are there, and matter more
        _log.warning("report.failed", cause=f"{type(error).__name__}: {error}")
        return {}
    files.write(metrics_out, json.dumps(numbers))
    return numbers


def watch(job: str, *, interval: float = _INTERVAL) -> None:
    """Show how far a job is until all its shards have finished, or Ctrl-C is pressed."""
    from rich.live import Live

    from runwide.cli.tables import console

    with Live(console=console(), auto_refresh=False) as live:
        while True:
            found = jobs.status(job)
            live.update(picture(found), refresh=True)
            if found.finished == len(found.shards):
                return
            time.sleep(interval)


def picture(found: Status) -> RenderableType:
    """What is shown of a job's state: a bar for the whole, and a line for each shard that has not finished."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    from runwide.cli.tables import plain_table
    from runwide.report import words

    done = sum(shard.items for shard in found.shards if shard.finished)
    head = Text(f"{found.function} over {found.items:,} items · ")
    head.append(f"{found.finished} of {len(found.shards)} shards finished")
    if found.failed:
        head.append(f" · {words.count(found.failed, 'item')} failed", style="red")
    table = plain_table("shard", "items", "results packs stored")
    for shard in [shard for shard in found.shards if not shard.finished][:_LINES]:
        table.add_row(str(shard.index), f"{shard.items:,}", str(shard.chunks))
    if not table.row_count:
        return head
    return Group(head, ProgressBar(total=max(found.items, 1), completed=done, width=60), table)
