"""The commands that show one job: `status` and `report`."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runwide import job as jobs
from runwide import words
from runwide.cli import options, output
from runwide.job.reference import quoted
from runwide.log import Log
from runwide.redaction import shortened
from runwide.streams import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from runwide.job.housekeeping import ShardStatus, Status
    from runwide.job.progress import Progress
    from runwide.records import Failure


_LINES = 20  # unfinished shards that are listed


@click.command("status")
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", "watched", is_flag=True, help="Show the progress until all shards have finished.")
@options.store
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
        watched: First show a live view, until all shards have finished.
    """
    if watched:
        watch(job)
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


_log = Log("cli")

_INTERVAL = 3.0  # seconds; each look lists the job's objects once, and reads each new chunk
_CAUSES, _CAUSE = 5, 200  # errors that are shown, and characters of one


@click.command("report")
@click.argument("job")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the page to this file; the default is report-JOB.html.",
)
@click.option(
    "--metrics-out", type=click.Path(path_type=Path), help="Write the numbers to this file, as JSON."
)
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@options.store
def report_command(
    job: str, *, out: Path | None, metrics_out: Path | None, opened: bool, store: str | None
) -> None:
    """Write a page about JOB; print its findings and the path of the page.

    JOB is a job's reference, the URI of its folder, its id, the start of its id, or its name.

    \b
    Example:
        runwide report "$job" --open
        runwide report scores --store gs://bucket/runs --metrics-out numbers.json
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    from runwide._report import report

    found = report(job, store=store)
    path = found.save(out or f"report-{found.story.title}.html")
    output.write_text(metrics_out, json.dumps(found.metrics, indent=1))
    for finding in found.findings:
        click.echo(printable(f"{finding.level.value:>8}  {finding}"))
    click.echo(str(path))
    if opened:
        click.launch(path.resolve().as_uri())


def outputs(job: str, *, report_out: Path | None, metrics_out: Path | None) -> dict[str, float]:
    """Write the page and the numbers of a job to files, for the last step of a job.

    Return the numbers; none if there are no files to write, or if the report fails.
    """
    if report_out is None and metrics_out is None:
        return {}
    from runwide._report import report

    try:
        found = report(job)
        numbers = found.metrics
        if report_out is not None:
            found.save(report_out)
    except Exception as error:  # a report that fails must not fail the job
        _log.warning("report.failed", cause=f"{type(error).__name__}: {error}")
        return {}
    output.write_text(metrics_out, json.dumps(numbers))
    return numbers


def watch(job: str, *, interval: float = _INTERVAL) -> None:
    """Show the progress of a job until all its shards have finished, or the user presses Ctrl-C."""
    from rich.live import Live

    from runwide.cli.output import console
    from runwide.job.progress import Progress

    with Progress(job) as progress, Live(console=console(), auto_refresh=False) as live:
        pace, causes = Pace(), Causes()
        while True:
            causes.add(progress.look())
            live.update(picture(progress, pace.at(progress.done, time.monotonic()), causes), refresh=True)
            if not progress.unfinished:
                return
            time.sleep(interval)


class Pace:
    """The number of items per second since the first look.

    Example:
        >>> pace = Pace()
        >>> pace.at(100, 10.0), pace.at(400, 40.0)
        (0.0, 10.0)
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def at(self, done: int, now: float) -> float:
        """Return the pace at a time; 0 if it is not known yet."""
        if self._first is None:
            self._first = done, now
        before, began = self._first
        return (done - before) / (now - began) if now > began else 0.0


class Causes:
    """Counts of failures by their message."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, failures: Sequence[Failure]) -> None:
        """Count more failures."""
        for failure in failures:
            self.counts[shortened(f"{failure.type}: {failure.message}", _CAUSE)] += 1


def picture(progress: Progress, pace: float = 0.0, causes: Causes | None = None) -> RenderableType:
    """Return the live view of a job: a bar for the job, causes of failures, and a bar for each unfinished shard."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    from runwide import words
    from runwide.cli.output import plain_table

    about, done = progress.about, progress.done
    unfinished = progress.unfinished
    head = Text(f"{printable(about.function_name)} over {about.count:,} items \N{MIDDLE DOT} {done:,} done, ")
    head.append(f"{about.shards - len(unfinished)} of {about.shards} shards finished")
    if progress.failed:
        head.append(f" \N{MIDDLE DOT} {words.count(progress.failed, 'item')} failed", style="red")
    if pace > 0 and unfinished:
        left = words.seconds((about.count - done) / pace)
        head.append(f" \N{MIDDLE DOT} {pace:,.3g} a second, {left} to go", style="dim")
    parts: list[RenderableType] = [head]
    for cause, count in causes.counts.most_common(_CAUSES) if causes is not None else ():
        line = f"  {count:,} {words.TIMES} {printable(cause)}"
        parts.append(Text(line, style="red", overflow="ellipsis", no_wrap=True))
    if unfinished:
        bar = ProgressBar(total=max(about.count, 1), completed=done, width=60)
        parts.append(Padding(bar, (0, 0, 1, 0)))  # the padding ends the bar's line
        table = plain_table("shard", "", "items")
        for index, (ended, items) in [*zip(unfinished, progress.by_shard(), strict=True)][:_LINES]:
            table.add_row(
                str(index), ProgressBar(total=items, completed=ended, width=30), f"{ended:,} of {items:,}"
            )
        if len(unfinished) > _LINES:
            table.add_row("\N{HORIZONTAL ELLIPSIS}", "", f"and {len(unfinished) - _LINES} more")
        parts.append(table)
    return Group(*parts)
