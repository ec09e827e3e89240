"""The command ``runwide cores``: the cores of this machine for CPU-bound work."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runwide.errors import InputError
from runwide.host import Cores, cgroup, cores, hypervisor, space
from runwide.host.measuring import gains, recording, team
from runwide.host.tree import Tree
from runwide.json_text import json_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from runwide.host.cgroup import Throttling
    from runwide.host.hypervisor import Steal
    from runwide.host.measuring.gains import Verdict


@click.command("cores")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--workers", type=click.IntRange(min=1), help="Override the count, as workers= does.")
@click.option(
    "--measure",
    "measured",
    is_flag=True,
    help="Run a CPU-bound function on 1, 2, … workers (≤ 20 s on 8 CPUs).",
)
@click.option(
    "--function", metavar="MODULE:NAME", default="", help="Measure this function, not the built-in loop."
)
@click.option(
    "--item",
    "items",
    multiple=True,
    metavar="JSON",
    help="An argument to call the function with; may be repeated.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the files of /proc and /sys that were read to this file.",
)
@click.option(
    "--from",
    "recorded",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Count the cores of a recorded machine.",
)
def cores_command(
    *,
    as_json: bool,
    workers: int | None,
    measured: bool,
    function: str,
    items: tuple[str, ...],
    record: Path | None,
    recorded: Path | None,
) -> None:
    """Show the physical cores that this process may use, and how they are counted.

    \b
    Example:
        runwide cores
        runwide cores --measure --function mymodule:score --item '{"route": "JFK-LAX"}'
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    _check(measured=measured, function=function, items=items, recorded=recorded)
    if recorded is not None:
        with tempfile.TemporaryDirectory(prefix="runwide-", dir=space.temporary()) as scratch:
            root = recording.unpack(recorded.read_text(encoding="utf-8"), scratch)
            _show(cores(workers=workers, root=root), Tree(root), as_json=as_json)
        return
    if record is not None:
        record.write_text(recording.record(source="recorded by `runwide cores --record`"), encoding="utf-8")
    counted = cores(workers=workers)
    result = _measure(counted, function, items, quiet=as_json) if measured else None
    _show(counted, Tree("/"), as_json=as_json, measured=result)


def _check(*, measured: bool, function: str, items: tuple[str, ...], recorded: Path | None) -> None:
    if (function or items) and not measured:
        raise InputError("--function and --item need --measure", hint="add --measure")
    if items and not function:
        raise InputError("--item needs --function", hint="add --function module:name")
    if function and not all(function.partition(":")):
        raise InputError(
            f"{function!r} is not of the form module:name", hint="write the module, a colon, the name"
        )
    if measured and recorded is not None:
        raise InputError("a recorded machine cannot be measured", hint="leave out --measure or --from")
    for item in items:
        try:
            json_of(item)
        except ValueError:
            raise InputError(
                f"--item {item!r} is not JSON", hint="quote text twice: --item '\"text\"'"
            ) from None


@dataclass(frozen=True, slots=True)
class _Measured:
    verdict: Verdict
    stolen: float | None


def _measure(counted: Cores, function: str, items: tuple[str, ...], *, quiet: bool) -> _Measured:
    from rich.console import Console
    from rich.progress import Progress

    usable = min(counted.usable, counted.logical)
    screen = Console(stderr=True)
    with team.Team(counted.logical, function=function, items=items) as members:
        todo = gains.plan(counted.logical, usable, budget=gains.BUDGET, call=members.call)
        if todo.duration > gains.BUDGET and not quiet:
            screen.print(f"one call takes {members.call:.1f} s: measuring takes about {todo.duration:.0f} s")
        before = hypervisor.steal()
        with Progress(console=screen, transient=True, disable=quiet) as bar:
            task = bar.add_task("measuring")
            samples = team.run(
                members, todo, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        after = hypervisor.steal()
    verdict = gains.judge(samples, logical=counted.logical, quota=counted.quota, cpu_bound=not function)
    return _Measured(verdict, after.since(before).share if after and before else None)


def _show(counted: Cores, tree: Tree, *, as_json: bool, measured: _Measured | None = None) -> None:
    throttled, stolen = cgroup.throttling(tree), hypervisor.steal(tree)
    if as_json:
        click.echo(json.dumps(_plain(counted, throttled, stolen, measured), indent=2))
        return
    from runwide.cli.output import console, print_table

    screen = console()
    print_table(_steps(counted))
    _show_pressure(screen, counted, throttled, stolen)
    for problem in counted.problems:
        screen.print(f"note: {problem}", style="yellow", markup=False, soft_wrap=True)
    if measured:
        print_table(_readings(measured.verdict))
        if measured.stolen is not None:
            screen.print(f"stolen while measuring: {measured.stolen:.1%} of CPU time", markup=False)
        screen.print(_measured(measured.verdict, counted), markup=False, soft_wrap=True)
    screen.print(counted.advice, style="bold", markup=False, soft_wrap=True)


def _plain(
    counted: Cores, throttled: Throttling | None, stolen: Steal | None, measured: _Measured | None
) -> dict[str, Any]:
    return {
        **counted.as_dict(),
        "throttling": asdict(throttled) if throttled else None,
        "steal": {**asdict(stolen), "share": stolen.share} if stolen else None,
        "measured": {**asdict(measured.verdict), "stolen": measured.stolen} if measured else None,
    }


def _steps(counted: Cores) -> Table:
    from runwide.cli.output import plain_table

    table = plain_table("step", "says", "cut", "left", "source")
    for step in counted.steps:
        cut = str(-step.cut) if step.cut > 0 else f"+{-step.cut}" if step.cut else ""
        table.add_row(step.name, step.value, cut, f"{step.left} {step.unit}", step.source)
    return table


def _show_pressure(
    screen: Console, counted: Cores, throttled: Throttling | None, stolen: Steal | None
) -> None:
    host = counted.hypervisor
    trust = f"its report of shared cores is {'reliable' if host.truthful else 'not guaranteed'}"
    screen.print(
        f"virtual machine: {host.name}, {trust}" if host.name else "no hypervisor is seen",
        markup=False,
        soft_wrap=True,
    )
    if throttled and throttled.throttled:
        times = f"{throttled.throttled} of {throttled.periods} periods, {throttled.seconds:.1f} CPU-seconds"
        screen.print(
            f"held back by its CPU limit in {times} since it started ({throttled.source})",
            markup=False,
            soft_wrap=True,
        )
    if stolen:
        screen.print(
            f"stolen by the hypervisor since boot: {stolen.share:.1%} of CPU time (/proc/stat)",
            markup=False,
            soft_wrap=True,
        )


def _readings(verdict: Verdict) -> Table:
    from runwide.cli.output import plain_table

    table = plain_table("workers", "calls/s", "spread", "speed-up")
    for reading in verdict.readings:
        rate = f"{reading.median:,.0f}" if reading.median >= 100 else f"{reading.median:.3g}"  # noqa: PLR2004 - digits
        table.add_row(str(reading.workers), rate, f"{reading.spread:.0%}", f"{reading.speedup:.2f}")
    return table


def _measured(verdict: Verdict, counted: Cores) -> str:
    if verdict.recommended is None:
        return f"Measured: {verdict.reason}; use the count below."
    if verdict.recommended == counted.count:
        return f"Measured: {verdict.recommended} workers, as counted: {verdict.reason}."
    return (
        f"Measured: {verdict.recommended} workers, where {counted.count} are counted: {verdict.reason}; "
        f"set RUNWIDE_WORKERS={verdict.recommended} to use it."
    )
