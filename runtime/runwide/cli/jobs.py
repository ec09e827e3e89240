"""The commands ``map``, ``gather``, ``rerun`` and ``replay``."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from runwide import job as jobs
from runwide.cli import dataset, executor, inputs, options, output, status
from runwide.cli.installing import install
from runwide.cli.options import chosen, running
from runwide.cli.variables import configured
from runwide.errors import InputError, RunwideError, TasksFailed
from runwide.host.threads import announce
from runwide.job.reference import quoted, resolve
from runwide.naming import kind_of
from runwide.outcomes import line_of
from runwide.records import Failure
from runwide.sigterm import leaves_on_sigterm

_LISTED = 5  # failures named in one line

_mended = click.option(
    "--function",
    metavar="MODULE:FUNCTION",
    help="Run this function instead of the one that the job has stored.",
)


@click.command("map")
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("items", metavar="ITEMS")
@running()
@options.reduce
@options.items_format
@options.items_types
def map_command(
    function: str,
    items: str,
    *,
    reduce: str | None,
    items_format: str | None,
    items_types: str | None,
    **words: Any,
) -> None:
    """Run a function over items on the cores of this machine; print one line of JSON per result, in order.

    ITEMS is a .json file with a list, a .jsonl file with one item per line, a .csv or .parquet file with one item per row,
    or the URI of such a file. A pattern of files means that the files are the items. A job means that its results are the
    items: give its reference, the URI of its folder, its id or its name (in RUNWIDE_STORE).

    \b
    Example:
        runwide map mymodule:score items.jsonl
        runwide map mymodule:score items.jsonl --reduce operator:add
        runwide map mymodule:score items.csv --items-types '{"zip": "str"}' --workers 2
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    from runwide.api import maps

    announce()  # before the function's module is imported: it may ask for the number of cores
    failed: list[Failure] = []
    with output.alone() as write, leaves_on_sigterm():
        found = inputs.function_of(function)
        values = inputs.items_named(items, form=items_format, types=items_types)
        if reduce is not None:
            fold = inputs.function_of(reduce)
            write(_as_json(maps.map(found, values, reduce=fold, **chosen(words)), failed))
            return
        for result in maps.imap(found, values, on_error="return", **chosen(words)):
            write(_as_json(result, failed))
    _raise_failed(len(values), failed, hint="the other results were printed, with null for each failed item")


@click.command("gather")
@click.argument("job")
@click.option(
    "--shards-json", metavar="TEXT", help="A JSON list of the references of the shards, in any order."
)
@click.option(
    "--result-out",
    type=click.Path(path_type=Path),
    help="Also write the reference of the results to this file.",
)
@click.option(
    "--report-out",
    type=click.Path(path_type=Path),
    help="Write the job's page to this file, as runwide report does.",
)
@click.option(
    "--metrics-out",
    type=click.Path(path_type=Path),
    help="Write the job's numbers to this file, as a JSON object.",
)
@click.option(
    "--executor-input",
    metavar="TEXT",
    help="The text that kfp writes for {{$}}; with it, the numbers become metadata of the step's artifacts.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "return"]),
    default="raise",
    help="raise: failed items fail this command; return: they do not.",
)
@click.option(
    "--close",
    is_flag=True,
    help="Close the shards that have not finished: their items count as failed. These shards must not be running.",
)
@click.option(
    "--min-success",
    type=click.FloatRange(0, 1),
    default=1.0,
    help="With --on-error raise: the share of items that must have succeeded; 1 for all.",
)
@click.option(
    "--dataset-out",
    type=click.Path(path_type=Path),
    help="Write the results to this file, one per line or row, with null for each failed item.",
)
@click.option(
    "--dataset-format",
    type=click.Choice(dataset.FORMATS),
    default="jsonl",
    help="The format of --dataset-out: JSON lines or Parquet.",
)
@options.store
@options.run_key
@options.requirements
@configured
def gather_command(
    job: str,
    *,
    store: str | None,
    shards_json: str | None,
    result_out: Path | None,
    report_out: Path | None,
    metrics_out: Path | None,
    executor_input: str | None,
    on_error: str,
    close: bool,
    min_success: float,
    dataset_out: Path | None,
    dataset_format: str,
    run_key: str | None,
    requirements: str | None,
) -> None:
    """Check that every item has ended exactly once, write the manifest of the results, and print its reference.

    `runwide.load` of this reference returns the results. JOB is a job's reference, the URI of its folder, its id, the start
    of its id, or its name.

    \b
    Example:
        runwide gather "$job"
        runwide gather scores --store gs://bucket/runs --on-error return --dataset-out scores.jsonl
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    install(requirements)
    job = jobs.reference_of(job, store)
    shards = None if shards_json is None else inputs.references_of(shards_json)
    if close:
        shards = jobs.close_unfinished(job, shards)
    reference = jobs.finish(job, shards, run_key=run_key)
    count, failed = jobs.failures(reference)
    numbers = status.outputs(job, report_out=report_out, metrics_out=metrics_out)
    executor.write_output(executor_input, numbers, {"dataset": {"format": dataset_format}})
    if on_error == "raise" and count - len(failed) < min_success * count:
        _raise_failed(
            count,
            failed,
            uri=reference,
            hint=f"the others are finished: runwide gather {quoted(job)} --on-error return, then "
            f"runwide.load({reference!r}, on_error='return')",
        )
    output.write_text(result_out, reference)
    click.echo(reference)
    if dataset_out is not None:  # last: if it fails, the results are stored already
        dataset.write_results(dataset_out, dataset_format, reference)


@click.command("rerun")
@click.argument("job")
@running()
@_mended
@options.store
def rerun_command(job: str, *, function: str | None, store: str | None, **words: Any) -> None:
    """Run the failed and unfinished items of a job again on this machine.

    The command prints the references of the shards as JSON, for gather --shards-json. JOB is a job's reference, the URI of
    its folder, its id, the start of its id, or its name.

    \b
    Example:
        runwide rerun "$job" --function mymodule:score
        runwide rerun scores --store gs://bucket/runs --workers 1
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    announce()
    job = resolve(job, store, runs=True)
    with output.alone() as write, leaves_on_sigterm():
        mended = None if function is None else inputs.function_of(function)
        references = jobs.rerun(job, function=mended, **chosen(words))
        write(json.dumps([jobs.short_reference(index, one) for index, one in enumerate(references)]))


@click.command("replay")
@click.argument("job")
@click.argument("item", type=int)
@click.option("--pdb", "debug", is_flag=True, help="Enter the debugger where the function raises.")
@_mended
@options.store
def replay_command(job: str, item: int, *, debug: bool, function: str | None, store: str | None) -> None:
    """Run one ITEM of a job in this process, from its stored bytes; print its result, and store nothing.

    JOB is a job's reference, the URI of its folder, its id, the start of its id, or its name.

    \b
    Example:
        runwide replay "$job" 4711 --pdb
        runwide replay scores 4711 --store gs://bucket/runs --function mymodule:score
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    announce()
    job = resolve(job, store, runs=True)
    try:
        with nullcontext(click.echo) if debug else output.alone() as write:  # a debugger has the terminal
            mended = None if function is None else inputs.function_of(function)
            write(repr(jobs.replay(job, item, function=mended)))
    except RunwideError:
        raise
    except Exception as error:
        if debug:
            import pdb  # noqa: T100 - the user asked for it

            pdb.post_mortem(error.__traceback__)
        raise


def _as_json(result: Any, failed: list[Failure]) -> str:
    if isinstance(result, Failure):
        failed.append(result)
        return "null"
    try:
        return json.dumps(result)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{kind_of(result)} is not JSON: {error}", hint="return plain data from the function"
        ) from error


def _raise_failed(count: int, failed: list[Failure], *, uri: str | None = None, hint: str) -> None:
    if failed:
        failed = sorted(failed, key=lambda failure: failure.index)  # they came shard by shard
        named = "; ".join(line_of(failure) for failure in failed[:_LISTED]) + (
            "; …" if len(failed) > _LISTED else ""
        )
        raise TasksFailed(
            f"{len(failed)} of {count} items failed: {named}", failures=failed, uri=uri, hint=hint
        )
