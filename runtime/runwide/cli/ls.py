"""The commands for the jobs of a store: `ls` and `clean`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from runwide import job as jobs
from runwide import settings, words
from runwide.cli import inputs, options
from runwide.errors import InputError, StoreNotWritable
from runwide.job.listing import State, as_json, jobs_of
from runwide.job.lookup import folder_of
from runwide.job.reference import quoted
from runwide.prices import money
from runwide.streams import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

    from runwide.job.listing import Listed, Listing


_LIMIT = 100
_FOLDED = {"name": 24, "function": 32}  # columns of a terminal whose longer texts have several lines
_NARROW = 12  # their least width
_FEWER = (
    "cost",
    "size",
    "function",
    "age",
    "items",
    "name",
    "state",
)  # the order in which columns are left out
_GAP = 2  # spaces between columns
_STYLES = {State.FAILURES: "red", State.DAMAGED: "red", State.RUNNING: "green", State.INCOMPLETE: "yellow"}
_SHOWN = 5  # folders named in one line


@click.command("ls")
@click.argument("store", required=False)
@click.option(
    "--json", "json_lines", is_flag=True, help="Print a line with one JSON object for each job and batch."
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=_LIMIT,
    show_default=True,
    help="How many of the newest jobs to look at; 0 for all.",
)
def ls_command(store: str | None, *, json_lines: bool, limit: int) -> None:
    """List the jobs of a store, the newest first, and its batches.

    STORE is gs://bucket/prefix or a folder; the default is RUNWIDE_STORE. An unfinished job is running if something was
    written there in the last 10 minutes, and incomplete otherwise; no engine is asked, unlike in runwide wait. Costs are
    estimates from list prices (RUNWIDE_PRICES).

    \b
    Example:
        runwide ls gs://bucket/runs
        runwide ls gs://bucket/runs --json --limit 0 | jq 'select(.state == "incomplete").reference'
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    store = store or settings.read().store
    if not store:
        raise InputError("no store was given", hint="give its URI, or set RUNWIDE_STORE")
    found = jobs_of(store, limit=limit or None)
    if json_lines:
        for one in found.jobs:
            click.echo(json.dumps({"kind": "job", **as_json(one)}))
        for name in found.batches:
            click.echo(json.dumps({"kind": "batch", "name": name, "uri": f"{found.uri}/batches/{name}"}))
    left_out = () if json_lines else _show(found)
    if left_out:
        columns = f"{words.count(len(left_out), 'column')} {words.verb(len(left_out), 'does', 'do')} not fit"
        click.echo(f"{columns}: {', '.join(left_out)}; see them with --json or in a wider terminal", err=True)
    for line in notes(found, costs="cost" not in left_out):
        click.echo(printable(line), err=True)


def notes(found: Listing, *, costs: bool = True) -> Iterable[str]:
    """Yield lines for people about the contents of a store that the table does not show.

    Args:
        costs: Whether costs are shown, which need a note.
    """
    if not found.jobs and not found.batches:
        yield f"no jobs in {found.uri}"
    for one in found.jobs:
        if one.state is State.DAMAGED:
            yield f"{one.uri} cannot be read: {one.cause}; remove it with: runwide clean {quoted(one.uri)}"
    if found.others:
        shown = ", ".join(found.others[:_SHOWN]) + (", …" if len(found.others) > _SHOWN else "")
        yield f"other folders: {shown}"
    if found.older:
        yield f"{found.older:,} older jobs are not shown: --limit 0 shows all"
    bases = dict.fromkeys(note for one in found.jobs if one.cost for note in one.cost.basis.split("; "))
    if bases and costs:
        yield f"costs are estimates: {'; '.join(bases)}"


def _show(found: Listing) -> Sequence[str]:
    """Print the jobs and batches; return the columns that do not fit into the terminal."""
    from runwide.cli import output

    left_out: Sequence[str] = ()
    if found.jobs:
        width = output.width()
        rows = _rows(found.jobs)
        columns = list(rows[0]) if width is None else fitting(rows, width)
        left_out = [name for name in rows[0] if name not in columns]
        styles = [_STYLES.get(one.state, "") for one in found.jobs]
        output.print_table(_table(rows, columns, styles, folded=width is not None))
    for name in found.batches:
        click.echo(f"batch {printable(name)}: runwide status {quoted(f'{found.uri}/batches/{name}')}")
    return left_out


def _rows(jobs: Iterable[Listed]) -> list[dict[str, str]]:
    """Return the texts of each job by column."""
    now = time.time()
    return [
        {
            "job": one.id,
            "name": printable(one.name),
            "age": age(now - one.created),
            "function": printable(one.function.rpartition(":")[2]),  # --json has its module as well
            "items": "" if one.state is State.DAMAGED else f"{one.items:,}",
            "state": state_text(one),
            "size": words.size(one.bytes) if one.bytes else "",
            "cost": money(one.cost.dollars) if one.cost else "",
        }
        for one in jobs
    ]


def fitting(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Return the columns that fit into a terminal; always the first one.

    Example:
        >>> rows = [{"job": "a-1", "name": "n" * 90, "state": "finished"}]
        >>> fitting(rows, 80), fitting(rows, 20)
        (['job', 'name', 'state'], ['job', 'state'])
    """
    from rich.cells import cell_len

    widths = {
        name: min(
            max(cell_len(name), *(cell_len(row[name]) for row in rows)), _NARROW if name in _FOLDED else width
        )
        for name in rows[0]
    }
    for name in _FEWER:
        if sum(widths.values()) + _GAP * (len(widths) - 1) <= width:
            break
        widths.pop(name, None)
    return list(widths)


def _table(
    rows: Iterable[Mapping[str, str]], columns: Sequence[str], styles: Iterable[str], *, folded: bool
) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        left = name in ("job", "name", "function", "state")
        table.add_column(
            name,
            justify="left" if left else "right",
            no_wrap=name not in _FOLDED and len(columns) > 1,  # rich narrows only columns that may wrap
            overflow="fold",
            max_width=_FOLDED.get(name) if folded else None,
        )
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*(Text(row[name], style if name == "state" else "") for name in columns))
    return table


def state_text(one: Listed) -> str:
    """Return the state of a job in a few words."""
    if one.state is State.FAILURES:
        return f"{one.failed:,} failed"
    if one.state in (State.RUNNING, State.INCOMPLETE):
        return f"{one.state.value} {one.finished}/{one.shards}"
    return one.state.value if one.gathered or one.state is not State.FINISHED else "finished, not gathered"


def age(seconds: float) -> str:
    """Return a duration in its largest unit.

    Example:
        >>> age(5), age(300), age(7200), age(3 * 86400)
        ('5 s', '5 min', '2 h', '3 d')
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


@click.command("clean")
@click.argument("job", metavar="JOB_OR_STORE", required=False)
@click.option(
    "--older-than", metavar="AGE", help="Delete all jobs of a store that are older, such as 7d, 12h or 30m."
)
@click.option("--yes", is_flag=True, help="Delete without asking.")
@options.store
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
