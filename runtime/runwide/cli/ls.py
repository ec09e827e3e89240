"""The command that lists what is in a store: ``ls``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from runwide import settings
from runwide.errors import InputError
from runwide.job.listing import State, as_json, jobs_of
from runwide.job.reference import quoted
from runwide.prices import money
from runwide.report import words
from runwide.writing import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from runwide.job.listing import Listed, Listing

_LIMIT = 100
_SHRINK = {"name": 24, "function": 32}  # columns whose texts may be cut, and their widths
_WIDE = 120  # columns of a terminal in which all of a job has room
_STYLES = {State.FAILURES: "red", State.DAMAGED: "red", State.RUNNING: "green", State.INCOMPLETE: "yellow"}
_SHOWN = 5  # folders that are no jobs


@click.command("ls")
@click.argument("store", required=False)
@click.option(
    "--json", "json_lines", is_flag=True, help="Print one object of JSON a line for each job and batch."
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

    STORE is gs://bucket/prefix or a folder; RUNWIDE_STORE when left out. A job is running if something was written there
    in the last 10 minutes, and incomplete if not: nobody is asked who runs it, as runwide wait does. Costs are estimates
    from list prices (RUNWIDE_PRICES).

    \b
    Example:
        runwide ls gs://bucket/runs
        runwide ls gs://bucket/runs --json --limit 0 | jq 'select(.state == "incomplete").reference'
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    store = store or settings.read().store
    if not store:
        raise InputError("there is no store to list", hint="give its URI, or set RUNWIDE_STORE")
    found = jobs_of(store, limit=limit or None)
    if json_lines:
        for one in found.jobs:
            click.echo(json.dumps({"kind": "job", **as_json(one)}))
        for name in found.batches:
            click.echo(json.dumps({"kind": "batch", "name": name, "uri": f"{found.uri}/batches/{name}"}))
    else:
        _show(found)
    for line in notes(found):
        click.echo(printable(line), err=True)


def notes(found: Listing) -> Iterable[str]:
    """What is in a store beside the jobs that are shown, in lines for people.

    Args:
        found: What is there.
    """
    if not found.jobs and not found.batches:
        yield f"no jobs in {found.uri}"
    for one in found.jobs:
        if one.state is State.DAMAGED:
            yield f"{one.uri} cannot be read: {one.cause}; remove it with: runwide clean {quoted(one.uri)}"
    if found.others:
        shown = ", ".join(found.others[:_SHOWN]) + (", …" if len(found.others) > _SHOWN else "")
        yield f"passed over, no jobs of runwide: {shown}"
    if found.older:
        yield f"{found.older:,} older jobs were not looked at: --limit 0 shows all"
    costs = dict.fromkeys(note for one in found.jobs if one.cost for note in one.cost.basis.split("; "))
    if costs:
        yield f"costs are estimates: {'; '.join(costs)}"


def _show(found: Listing) -> None:
    from runwide.cli.tables import console

    out = console()
    if found.jobs:
        out.print(_table(found.jobs, width=out.width))
    for name in found.batches:
        out.print(
            f"batch {printable(name)}: runwide status {quoted(f'{found.uri}/batches/{name}')}", soft_wrap=True
        )


def _table(jobs: Iterable[Listed], *, width: int) -> Table:
    """A row for each job; on a narrow terminal without what matters less, so that an id can be copied."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    now = time.time()
    rows: list[dict[str, str | Text]] = [
        {
            "job": one.id,
            "name": printable(one.name),
            "age": age(now - one.created),
            "function": printable(one.function.rpartition(":")[2]),  # JSON has its module as well
            "items": "" if one.state is State.DAMAGED else f"{one.items:,}",
            "state": Text(said(one), style=_STYLES.get(one.state, "")),
            "size": words.size(one.bytes) if one.bytes else "",
            "cost": money(one.cost.dollars) if one.cost else "",
        }
        for one in jobs
    ]
    columns = [name for name in rows[0] if width >= _WIDE or name not in ("function", "size", "cost")]
    longest = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    room = width - 2 * (len(columns) - 1) - sum(longest[name] for name in columns if name not in _SHRINK)
    for name in columns:
        if name in _SHRINK:
            longest[name] = max(
                4, min(longest[name], _SHRINK[name], room // (2 if "function" in columns else 1))
            )
        left = name in ("job", "state", *_SHRINK)
        table.add_column(
            name, justify="left" if left else "right", overflow="ellipsis", no_wrap=True, width=longest[name]
        )
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


def said(one: Listed) -> str:
    """The state of a job in a few words.

    Args:
        one: The job.
    """
    if one.state is State.FAILURES:
        return f"{one.failed:,} failed"
    if one.state in (State.RUNNING, State.INCOMPLETE):
        return f"{one.state.value} {one.finished}/{one.shards}"
    return one.state.value if one.gathered or one.state is not State.FINISHED else "finished, not gathered"


def age(seconds: float) -> str:
    """How long ago something was, in its largest unit.

    Example:
        >>> age(5), age(300), age(7200), age(3 * 86400)
        ('5 s', '5 min', '2 h', '3 d')
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
