"""The command `runwide submit`, which starts maps and batches on an engine.

``runwide`` finds it through an entry point of the package.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

import click

from runwide import prices
from runwide.cli import inputs
from runwide.cli import options as items_options
from runwide.cli.options import chosen, running
from runwide.errors import InputError
from runwide.options.record import COMPONENTS, SUBMIT, RunOptions
from runwide_components.cli_following import show
from runwide_components.cli_options import (
    ENGINE_OPTIONS,
    configuration_of,
    configuring,
    engine_from,
    on_error_option,
    refuse_options_of_functions,
    refuse_options_of_pipelines,
    with_engine,
)

if TYPE_CHECKING:
    from runwide_components.components import Components
    from runwide_components.engines.base import Engine
    from runwide_components.recorded import Place


# "General-purpose machine family" of Compute Engine: the default machine of a step
_DEFAULT = "e2-standard-4"
_DEFAULT_MACHINE = f"{_DEFAULT}, Vertex's default: 4 vCPUs, 2 cores"
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|[KMGTPE]i?)?")
_UNITS = {"": 1.0, "m": 1e-3} | {
    f"{letter}{i}": (1024.0 if i else 1000.0) ** (power + 1)
    for power, letter in enumerate("KMGTPE")
    for i in ("", "i")
}


def planned(what: str, items: int, wanted: Components) -> list[str]:
    """Return the plan of a map as lines of text."""
    place, count = wanted.place, min(wanted.components, items)
    at_once = min(place.parallelism or count, count)
    return [
        f"function     {what}",
        f"items        {items:,}, up to {ceil(items / count):,} in each component",
        f"components   {count}{_image(place)}, {at_once} at the same time",
        f"engine       {place.engine!r}, one pipeline run of {count} tasks",
        f"CPUs         {_cpus(place)}",
        f"steps        {wanted.configuration.travelling()}",
        f"cost         {_cost(place, at_once)}",
        f"store        {wanted.store}",
        f"requests     about {estimated_requests(count):,} of the store, 1 submission",
    ]


def estimated_requests(components: int) -> int:
    """Return the number of requests to the store of a first run without failures whose components end within a minute.

    Each shard makes seven; one more writes its pack, and two read it. A component that runs longer writes at most two more a
    minute. A test compares this with the requests to an emulator.
    """
    return 4 + 10 * components


def _image(place: Place) -> str:
    """Return the image of the components in words; empty for subprocesses."""
    return "" if place.engine.about().get("runner") == "subprocess" else f" of {place.image}"


def _cpus(place: Place) -> str:
    about, asked = place.engine.about(), place.resources.machine or place.resources.cpu
    if about["engine"] == "local" and (about.get("runner") == "subprocess" or not asked):
        return "the CPUs of this machine, for all components"
    return f"{asked or _DEFAULT_MACHINE} in each component"


def _cost(place: Place, at_once: int) -> str:
    """Return the price of an hour, in words. The duration is not known in advance."""
    if place.engine.about()["engine"] == "local":
        return "none: it runs on this machine"
    machine = machine_asked(place)
    hour = prices.total([prices.estimate(machine, 3600.0)] * at_once)
    table = prices.current()
    run = f", and {prices.money(table.run)} for the run" if machine.vertex else ""
    return f"about {prices.money(hour.dollars)} an hour{run} (an estimate: {hour.basis})" if hour else "none"


def machine_asked(place: Place) -> prices.Machine:
    """Return the machine on which a component would run, as far as its resources determine it."""
    asked = place.resources
    named = prices.machine_of(asked.machine_type or _DEFAULT)
    machine = named or prices.Machine(4, None, str(asked.machine_type).partition("-")[0])
    if asked.machine_type is None and (asked.cpu or asked.memory):
        vcpus = quantity(asked.cpu) if asked.cpu else machine.vcpus
        machine = prices.Machine(vcpus, quantity(asked.memory) / 2**30 if asked.memory else None)
    if asked.accelerator:
        machine = replace(machine, accelerator=asked.accelerator[0], accelerators=asked.accelerator[1])
    return replace(machine, spot=asked.spot, vertex=place.engine.about()["engine"] == "vertex")


def quantity(text: object) -> float:
    """Return a quantity in the form of Kubernetes as a number; 0 for an invalid one.

    Example:
        >>> quantity("8"), quantity("500m"), quantity("32G") / 1e9, quantity("512Mi") / 2**20
        (8.0, 0.5, 32.0, 512.0)
    """
    found = _QUANTITY.fullmatch(str(text))
    return float(found[1]) * _UNITS[found[2] or ""] if found else 0.0


_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@click.command("submit")
@click.argument("what", metavar="FUNCTION_OR_PIPELINE")
@click.argument("over", metavar="ITEMS_OR_PARAMETERS", type=click.Path(path_type=str))
@click.option(
    "--store", envvar="RUNWIDE_STORE", help="gs://bucket/prefix, or a folder that all components see."
)
@click.option(
    "--components", type=click.IntRange(1), help="Of a function: number of components that share the items."
)
@click.option(
    "--parallelism",
    type=click.IntRange(1),
    help="Of a function: number of components that run at the same time.",
)
@running(but=("retries",), of="Of a function")
@click.option(
    "--retries", type=click.IntRange(0), default=0, help="Further attempts at an item, or at a run."
)
@click.option("--cpu", help="Of a function: CPUs of each component, such as 8.")
@click.option("--memory", help="Of a function: memory of each component, such as 32G.")
@click.option(
    "--machine-type", help="Of a function, on Vertex: machine of each component, such as n2-standard-8."
)
@click.option("--spot", is_flag=True, help="Of a function, on Vertex: Spot capacity, with --machine-type.")
@click.option(
    "--shard-retries",
    type=click.IntRange(0),
    default=0,
    help="Of a function: restarts of a component that failed.",
)
@on_error_option
@click.option("--image", help="Of a function: image of the components.")
@click.option(
    "--code",
    multiple=True,
    metavar="NAME_OR_PATH",
    help="Of a function: code of the program to send as well.",
)
@click.option(
    "--requirements", metavar="FILE", help="Of a function: packages that each component installs first."
)
@click.option("--name", help="Of a pipeline: name of the batch.")
@click.option(
    "--max-active", type=click.IntRange(1), default=8, help="Of a pipeline: number of runs at the same time."
)
@click.option(
    "--reduce",
    metavar="MODULE:FUNCTION",
    help="Of a function: combines two results into one; the job then has one value.",
)
@items_options.items_format
@items_options.items_types
@click.option("--dry-run", is_flag=True, help="Print the plan, and submit nothing.")
@click.option(
    "--wait/--no-wait", "wait", default=None, help="Of a function: wait for its end, or return at once."
)
@configuring
@with_engine
def submit_command(what: str, over: str, **options: Any) -> None:
    """Run a function over items on many components, or a pipeline for many sets of parameters.

    FUNCTION_OR_PIPELINE is package.module:function, and ITEMS are as for runwide map. Or it is the compiled .yaml of a
    pipeline, and PARAMETERS is a .csv or .jsonl file, or a .json file with a list or a grid. The command prints the job's
    reference, or the table of runs.

    \b
    Example:
        runwide submit shop.scores:score items.jsonl --components 20 --store gs://bucket/runs \\
            --engine vertex --project shop --location europe-west1
        runwide submit forecast.yaml markets.csv --store gs://bucket/runs --max-active 8 --engine docker
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    store = options.pop("store")
    if not store:
        raise InputError("there is no store", hint="give --store gs://bucket/runs, or set RUNWIDE_STORE")
    engine = engine_from(options.pop("engine"), **{name: options.pop(name) for name in ENGINE_OPTIONS})
    if _FUNCTION.fullmatch(what):
        _submit_function(what, over, store, engine, options)
    else:
        _submit_pipeline(what, over, store, engine, options)


def _submit_function(
    what: str, over: str, store: str, engine: Engine | None, options: dict[str, Any]
) -> None:
    from runwide.job.chained import chain_if
    from runwide_components.components import Components
    from runwide_components.engines.local import Local

    refuse_options_of_pipelines()
    if options["components"] is None:
        raise InputError("the number of components is missing", hint="give --components 20")
    if options["items_format"] is None:
        over = inputs.job_meant(over, store) or over
    items: Any = chain_if(over, store) or inputs.items_named(
        over, form=options["items_format"], types=options["items_types"]
    )
    wanted = Components(
        options["components"], store=store, engine=engine,
        image=options["image"], parallelism=options["parallelism"], cpu=options["cpu"], memory=options["memory"],
        machine_type=options["machine_type"], spot=options["spot"], shard_retries=options["shard_retries"],
        **configuration_of(options),
        code=options["code"],
        requirements=options["requirements"],
    )  # fmt: skip
    inputs.look_here()
    wanted.check()
    function = inputs.function_of(what)
    reduce = options["reduce"] and inputs.function_of(options["reduce"])
    if options["dry_run"]:
        for line in planned(what, len(items), wanted):
            click.echo(line)
        return
    local = isinstance(wanted.place.engine, Local)
    if local and options["wait"] is False:
        raise InputError(
            "a run on this machine ends with this command, so --no-wait would end it",
            hint="leave out --no-wait",
        )
    from runwide import job as jobs

    waits = local or bool(options["wait"])
    run_options = RunOptions.on(COMPONENTS if waits else SUBMIT, chosen(options))
    submitted = wanted.submitted(
        function, items, run_options, name=None, reuse=None, on_error=options["on_error"], reduce=reduce
    )
    job, run = submitted.job, submitted.run
    click.echo(job)
    if waits:
        shards = wanted.manifests(submitted, run_options, options["on_error"])
        click.echo(jobs.finish(job, shards, run_key=submitted.run_key))
    elif run is not None:
        click.echo(run.logs, err=True)
        run.leave()


def _submit_pipeline(
    what: str, over: str, store: str, engine: Engine | None, options: dict[str, Any]
) -> None:
    from runwide_components.pipelines import Pipelines

    refuse_options_of_functions()
    inputs.refuse_table_options(
        options["items_format"],
        options["items_types"],
        hint="leave them out: a pipeline's parameters have its types",
    )
    batch = Pipelines(
        what, engine=engine, store=store, name=options["name"],
        max_active=options["max_active"], retries=options["retries"],
    )  # fmt: skip
    sets = over if over.endswith((".csv", ".jsonl")) else inputs.json_file(over)
    if options["dry_run"]:
        plan = batch.plan(sets)
        show(plan)
        new = sum(not run.reused for run in plan)
        click.echo(
            f"{batch.uri}: {new} of {len(plan)} runs would be submitted, {min(new, batch.max_active)} at a time"
        )
        click.echo(f"engine       {batch.engine!r}")
        click.echo(f"requests     about {1 + 3 * new:,} of the store, {new:,} submissions")
        return
    click.echo(batch.uri)
    ended = batch.map(sets, on_error="return")
    show(ended)
    if ended.failed:
        sys.exit(1)
