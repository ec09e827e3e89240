"""The command that starts maps and batches on an engine, ``submit``, and the other commands on engines, from `following`.

The command ``runwide`` finds them through the entry points of the package.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from runwide.cli import inputs
from runwide.cli import options as items_options
from runwide.cli.run_options import chosen, running
from runwide.errors import InputError
from runwide.options import COMPONENTS, SUBMIT, RunOptions
from runwide_components.cli_configuration import (
    configuration_of,
    configuring,
    refuse_options_of_functions,
    refuse_options_of_pipelines,
)
from runwide_components.cli_engine import ENGINE_OPTIONS, engine_from, on_error_option, with_engine
from runwide_components.following import cancel_command, results_command, status_command, wait_command
from runwide_components.planned import estimated_requests
from runwide_components.shown import show

if TYPE_CHECKING:
    from runwide_components.engines.base import Engine

__all__ = [
    "cancel_command",
    "engine_from",
    "estimated_requests",
    "results_command",
    "status_command",
    "submit_command",
    "wait_command",
]

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
    from runwide_components.planned import planned

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
