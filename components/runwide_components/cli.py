"""The commands of maps and batches that run on an engine: ``submit``, ``status``, ``wait``, ``cancel`` and ``results``.

The ``runwide`` command finds them through the entry points of the package; it does not know this module.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runwide.cli import inputs
from runwide.cli import options as items_options
from runwide.errors import InputError
from runwide.spill import signing
from runwide_components.cli_configuration import (
    configuration_of,
    configuring,
    refuse_options_of_functions,
    refuse_options_of_pipelines,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide_components.batch import Batch
    from runwide_components.components import Components
    from runwide_components.engines.base import Engine

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# "General-purpose machine family" of Compute Engine: what a step has where it asks for nothing
_DEFAULT_MACHINE = "e2-standard-4, Vertex's default: 4 vCPUs, 2 cores"

_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["docker", "subprocess", "vertex", "kubeflow"]),
        help="Where it runs: in containers or subprocesses of this machine, on Vertex AI, on Kubeflow Pipelines.",
    ),
    click.option("--project", help="Vertex: the project."),
    click.option("--location", help="Vertex: the region."),
    click.option("--pipeline-root", help="Vertex, Kubeflow: where kfp itself writes."),
    click.option("--service-account", help="Vertex, Kubeflow: whom the steps run as."),
    click.option("--network", help="Vertex: full name of the VPC network."),
    click.option("--host", help="Kubeflow: URL of the server."),
    click.option("--namespace", help="Kubeflow: the user's namespace."),
    click.option("--experiment", help="Kubeflow: the experiment."),
)


_ENGINE_OPTIONS = (
    "project", "location", "pipeline_root", "service_account", "network", "host", "namespace", "experiment",
)  # fmt: skip
_on_error = click.option(
    "--on-error",
    type=click.Choice(["raise", "return"]),
    default="raise",
    help="Of a job; return: a component that fails for good leaves its items failed, and does not fail the run.",
)


def _with_engine(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def engine_from(engine: str | None, **options: Any) -> Engine | None:
    """The engine that the options of a command describe; None where none is named.

    Raises:
        InputError: An option is missing, or belongs to another engine.

    Example:
        >>> engine_from("subprocess", project=None)
        Local('subprocess')
    """
    from runwide_components.engines.registry import engine_of

    given = {name: value for name, value in options.items() if value is not None}
    if engine is None:
        if given:
            raise InputError(f"--{next(iter(given)).replace('_', '-')} is of no use without --engine")
        return None
    if engine in ("docker", "subprocess"):
        return engine_of({"engine": "local", "runner": engine, **given})
    return engine_of({"engine": engine, **given})


@click.command("submit")
@click.argument("what", metavar="FUNCTION_OR_PIPELINE")
@click.argument("over", metavar="ITEMS_OR_PARAMETERS", type=click.Path(path_type=str))
@click.option(
    "--store", envvar="RUNWIDE_STORE", help="gs://bucket/prefix, or a folder that all components see."
)
@click.option(
    "--components", type=click.IntRange(1), help="Of a function: how many components share the items."
)
@click.option(
    "--parallelism", type=click.IntRange(1), help="Of a function: how many of them run at the same time."
)
@click.option(
    "--workers", type=click.IntRange(1), help="Of a function: processes in each component; one per core."
)
@click.option("--timeout", type=float, help="Of a function: seconds that one attempt at one item may take.")
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
@_on_error
@click.option("--image", help="Of a function: image of the components.")
@click.option(
    "--code", multiple=True, metavar="NAME_OR_PATH", help="Of a function: own code to send as well."
)
@click.option("--requirements", metavar="FILE", help="Of a function: what each component installs first.")
@click.option("--name", help="Of a pipeline: name of the batch.")
@click.option(
    "--max-active", type=click.IntRange(1), default=8, help="Of a pipeline: runs under way at once."
)
@items_options.items_format
@items_options.items_types
@click.option("--dry-run", is_flag=True, help="Print what would be submitted, and submit nothing.")
@click.option("--wait/--no-wait", "wait", default=None, help="Of a function: whether to wait for its end.")
@configuring
@_with_engine
def submit_command(what: str, over: str, **options: Any) -> None:
    """Run a function over items on many components, or a pipeline for many sets of parameters.

    FUNCTION_OR_PIPELINE is package.module:function with ITEMS a .json, .jsonl, .csv or .parquet file, or the compiled .yaml
    of a pipeline with PARAMETERS a .csv or .jsonl file, or a .json file with a list or a grid. Prints the job's reference,
    or the table of runs.

    \b
    Example:
        runwide submit shop.scores:score items.jsonl --components 20 --store gs://bucket/runs \\
            --engine vertex --project shop --location europe-west1
        runwide submit forecast.yaml markets.csv --store gs://bucket/runs --max-active 8 --engine docker
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    store = options.pop("store")
    if not store:
        raise InputError("there is no store", hint="give --store gs://bucket/runs, or set RUNWIDE_STORE")
    engine = engine_from(options.pop("engine"), **{name: options.pop(name) for name in _ENGINE_OPTIONS})
    if _FUNCTION.fullmatch(what):
        _submit_function(what, over, store, engine, options)
    else:
        _submit_pipeline(what, over, store, engine, options)


def _submit_function(
    what: str, over: str, store: str, engine: Engine | None, options: dict[str, Any]
) -> None:
    from runwide_components.components import Components
    from runwide_components.engines.local import Local
    from runwide_components.runs import ended, start
    from runwide_components.steps import JobOptions

    refuse_options_of_pipelines()
    if options["components"] is None:
        raise InputError("the number of components is missing", hint="give --components 20")
    items = inputs.items_of_file(Path(over), form=options["items_format"], types=options["items_types"])
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
    if options["dry_run"]:
        for line in planned(what, len(items), wanted):
            click.echo(line)
        return
    local = isinstance(wanted.place.engine, Local)
    if local and options["wait"] is False:
        raise InputError("a run on this machine ends with this command", hint="leave out --no-wait")
    from runwide import job as jobs

    given = inputs.pickled_function(function=what, file=None, text=None, constants=None)
    job = jobs.scatter_pickled(
        given.data, items, store=store, shards=wanted.components, name=given.name, needs=given.needs, whole=wanted.code,
    )  # fmt: skip
    click.echo(job)
    chosen = JobOptions(
        workers=options["workers"], timeout=options["timeout"], retries=options["retries"],
        on_error=options["on_error"], configuration=wanted.configuration, requirements=wanted.requirements,
    )  # fmt: skip
    run_key = signing.new_run_key()
    run = start(job, range(min(wanted.components, len(items))), wanted.place, chosen, run_key)
    if local or options["wait"]:
        shards = ended(job, run, on_error=options["on_error"], run_key=run_key)
        click.echo(jobs.finish(job, shards, run_key=run_key))
    else:
        click.echo(run.logs, err=True)
        run.leave()


def planned(what: str, items: int, wanted: Components) -> list[str]:
    """What a map would submit, in lines for people.

    Args:
        what: The function.
        items: How many.
        wanted: Where it would run.
    """
    place, count = wanted.place, min(wanted.components, items)
    at_once = min(place.parallelism or count, count)
    asked = place.resources.machine or place.resources.cpu or _DEFAULT_MACHINE
    return [
        f"function     {what}",
        f"items        {items:,}, up to {ceil(items / count):,} in each component",
        f"components   {count} of {place.image}, {at_once} at the same time",
        f"engine       {place.engine!r}, one pipeline run of {count} tasks",
        f"CPUs         {asked} in each component",
        f"steps        {wanted.configuration.travelling()}",
        f"store        {wanted.store}",
        f"requests     about {estimated_requests(count):,} of the store, 1 submission",
    ]


def estimated_requests(components: int) -> int:
    """Requests to the store of a first run without failures whose components end within a minute.

    Seven are made by each shard, one more pack is written for it, and two read it back; a component that runs for longer
    writes two more a minute at most. A test holds this against what an emulator is asked.

    Args:
        components: How many.
    """
    return 4 + 10 * components


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
        _show(plan)
        new = sum(not run.reused for run in plan)
        click.echo(
            f"{batch.uri}: {new} of {len(plan)} runs would be submitted, {min(new, batch.max_active)} at a time"
        )
        click.echo(f"engine       {batch.engine!r}")
        click.echo(f"requests     about {1 + 3 * new:,} of the store, {new:,} submissions")
        return
    click.echo(batch.uri)
    found = batch.map(sets, on_error="return")
    _show(found)
    if found.failed:
        sys.exit(1)


@click.command("status")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--watch", "watched", is_flag=True, help="Show a job until all its shards have finished.")
@_with_engine
@click.pass_context
def status_command(
    context: click.Context, /, job: str, *, as_json: bool, watched: bool, **options: Any
) -> None:
    """Show how far a job or a batch of runs is."""
    if not _is_batch(job):
        from runwide.cli.housekeeping import status_command as of_job

        context.invoke(of_job, job=job, as_json=as_json, watched=watched)
        return
    if watched:
        raise click.UsageError("--watch shows a job; runwide wait shows a batch until it has ended")
    from runwide_components.standing import status_of

    found = status_of(job, engine=engine_from(**options))
    if as_json:
        click.echo(json.dumps(found.table(), default=str))
    else:
        _show(found)


@click.command("wait")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--timeout", type=float, help="Seconds to wait.")
@_on_error
@click.option("--image", help="Of a job: image of the components that are run again.")
@click.option("--requirements", metavar="FILE", help="Of a job: what these install first.")
@_with_engine
def wait_command(
    job: str,
    *,
    timeout: float | None,
    on_error: str,
    image: str | None,
    requirements: str | None,
    **options: Any,
) -> None:
    """Wait until all components of a job, or all runs of a batch, have ended.

    Of a job, shards that nobody runs any more are run again, and the reference of its results is printed. Where the record
    of its run is not signed, the engine's name and project are believed, and no address, mount or image.
    """
    engine = engine_from(**options)
    if _is_batch(job):
        from runwide_components.shown import awaited

        _show(awaited(job, engine, timeout))
        return
    from runwide import job as jobs
    from runwide_components.runs import rejoin, resolved

    job, vouched = resolved(job)
    shards = rejoin(
        job, vouched=vouched, engine=engine, image=image, timeout=timeout, on_error=on_error,
        requirements=requirements,
    )  # fmt: skip
    click.echo(jobs.finish(job, shards))


@click.command("cancel")
@click.argument("job", metavar="JOB_OR_BATCH")
@_with_engine
def cancel_command(job: str, **options: Any) -> None:
    """Cancel the components of a job, or all runs of a batch; what they have stored is kept."""
    engine = engine_from(**options)
    if _is_batch(job):
        from runwide_components.standing import cancel_all

        click.echo(f"{cancel_all(job, engine=engine)} runs cancelled")
        return
    from runwide_components.runs import cancel

    click.echo("cancelled" if cancel(job, engine=engine) else "it has ended already")


@click.command("results")
@click.argument("job", metavar="RESULT_OR_JOB_OR_BATCH")
@click.option("--csv", "as_csv", is_flag=True, help="Of a batch: print it as CSV.")
@_with_engine
def results_command(job: str, *, as_csv: bool, **options: Any) -> None:
    """Print one line of JSON per result of a job, in order, or per run of a batch."""
    if not _is_batch(job):
        from runwide_components.shown import print_results

        print_results(job)
        return
    from runwide_components.standing import status_of

    rows = status_of(job, engine=engine_from(**options)).table()
    if as_csv:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    for row in rows:
        click.echo(json.dumps(row, default=str))


def _show(batch: Batch) -> None:
    from runwide.cli.tables import console

    console().print(batch)


def _is_batch(text: str) -> bool:
    return "#" not in text and "/batches/" in text
