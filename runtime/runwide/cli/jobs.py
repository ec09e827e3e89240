"""The commands that run a job: ``map``, ``scatter``, ``gather``, ``rerun`` and ``replay``."""

from __future__ import annotations

import json
import pickle
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from runwide import job as jobs
from runwide.cli import dataset, executor, files, inputs, options, report, results
from runwide.cli.function_text import parted
from runwide.cli.secrets import set_secrets
from runwide.errors import InputError, RunwideError, TasksFailed
from runwide.host.threads import announce
from runwide.pool.preemption import leaves_on_sigterm
from runwide.records import Failure
from runwide.spill import signing

_LISTED = 5  # failures named in one line

_mended = click.option(
    "--function",
    metavar="MODULE:FUNCTION",
    help="Run this one in the place of the function that the job has stored.",
)


@click.command("map")
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("items", metavar="ITEMS_FILE", type=click.Path(path_type=Path))
@options.workers
@options.timeout
@options.retries
@options.items_format
@options.items_types
def map_command(
    function: str,
    items: Path,
    *,
    workers: int | None,
    timeout: float | None,
    retries: int,
    items_format: str | None,
    items_types: str | None,
) -> None:
    """Run a function over items on the cores of this machine; print one line of JSON per result, in order.

    ITEMS_FILE is a .json file with a list, a .jsonl file with one item per line, or .csv or .parquet with one per row.
    """
    from runwide.pool import imap

    announce()  # before the function's module is imported, which may ask
    failed: list[Failure] = []
    with results.alone() as write, leaves_on_sigterm():
        found = inputs.function_of(function)
        values = inputs.items_of_file(items, form=items_format, types=items_types)
        for result in imap(
            found, values, workers=workers, timeout=timeout, retries=retries, on_error="return"
        ):
            write(_as_json(result, failed))
    _complain(
        len(values), failed, hint="the results of the others were printed, null stands for a failed one"
    )


@click.command("scatter")
@click.option("--function", metavar="MODULE:FUNCTION", help="A function that can be imported here.")
@click.option(
    "--function-file",
    type=click.Path(path_type=Path),
    help="A file with cloudpickle's bytes of it, or their base64.",
)
@click.option("--function-base64", metavar="TEXT", help="The same as base64, or as 'z:' and base64 of zlib.")
@click.option("--function-reference", metavar="REF", help="An object with the text of --function-base64.")
@click.option(
    "--pickled-by", metavar="VERSION", help="The Python that pickled the function, when not this one."
)
@click.option("--items-json", metavar="TEXT", help="A JSON list.")
@click.option(
    "--items-file",
    type=click.Path(path_type=Path),
    help="A .json file with a list, .jsonl with one item per line, or .csv or .parquet with one per row.",
)
@click.option(
    "--items-parameter", metavar="TEXT", help="A list parameter of a pipeline; whole numbers are ints."
)
@click.option(
    "--items-type", metavar="TYPE", default="list", help="Type of --items-parameter, such as list[float]."
)
@click.option(
    "--items-from",
    metavar="URI",
    help="A table (.jsonl, .json, .csv, .parquet, a folder of Parquet), a pattern of files such as "
    "gs://bucket/day/*.parquet, or the reference of another job's results.",
)
@options.items_format
@options.items_types
@click.option(
    "--executor-input",
    metavar="TEXT",
    help="What kfp puts in the place of {{$}}: metadata of the artifact of --items-from may tell its format.",
)
@click.option(
    "--store",
    metavar="URI",
    help="gs://bucket/prefix, or a directory that all components see.",
)
@click.option(
    "--shards",
    metavar="N|auto",
    help="Number of components that share the work; auto: as many as it is worth, by running some items here.",
)
@click.option(
    "--constants-json", metavar="TEXT", help="A JSON object of further keyword arguments of the function."
)
@click.option(
    "--constants-parameter",
    metavar="TEXT",
    help="The same as a dict parameter of a pipeline; whole numbers are ints.",
)
@click.option(
    "--constant",
    "typed",
    multiple=True,
    nargs=3,
    metavar="NAME KIND TEXT",
    help="One more keyword argument, from a pipeline parameter of KIND str, int, float, bool, list or dict, or such as "
    "list[float].",
)
@click.option(
    "--pickled",
    multiple=True,
    nargs=2,
    metavar="WHAT TEXT",
    help="The items, or the constants, as 'z:' and base64 of zlib of their pickle, or an object with that text.",
)
@click.option(
    "--composed",
    multiple=True,
    nargs=2,
    metavar="WHAT JSON",
    help="Text of --store, --shards or --items-from (WHAT: store, shards, items) with parameters in it.",
)
@click.option(
    "--given",
    multiple=True,
    nargs=2,
    metavar="NAME TEXT",
    help="A parameter of the pipeline that --pickled or --composed refer to.",
)
@click.option(
    "--run-id", metavar="ID", help="The pipeline's run, so that no other run is given this step's outputs."
)
@click.option("--job-out", type=click.Path(path_type=Path), help="Write the job's reference there as well.")
@click.option(
    "--run-key-out",
    type=click.Path(path_type=Path),
    help="Write a key there with which the shards of this run sign, or '-' where a signing key is set.",
)
@click.option(
    "--shards-out",
    type=click.Path(path_type=Path),
    help="Write the shards' indices there, as a JSON list of strings.",
)
@options.secret
def scatter_command(
    *,
    function: str | None,
    function_file: Path | None,
    function_base64: str | None,
    function_reference: str | None,
    pickled_by: str | None,
    items_json: str | None,
    items_file: Path | None,
    items_parameter: str | None,
    items_type: str,
    items_from: str | None,
    items_format: str | None,
    items_types: str | None,
    executor_input: str | None,
    store: str | None,
    shards: str | None,
    constants_json: str | None,
    constants_parameter: str | None,
    typed: tuple[tuple[str, str, str], ...],
    pickled: tuple[tuple[str, str], ...],
    composed: tuple[tuple[str, str], ...],
    given: tuple[tuple[str, str], ...],
    run_id: str | None,  # noqa: ARG001 - that it differs is all that it is for
    job_out: Path | None,
    shards_out: Path | None,
    run_key_out: Path | None,
    secrets: tuple[tuple[str, str], ...],
) -> None:
    """Spill a function and its items to a store; print the job's reference."""
    from runwide.cli import arguments, sizing, wire

    set_secrets(secrets)
    announce()
    wire.check_python(pickled_by)
    with results.alone() as write:
        values = arguments.Arguments.of(pickled, composed, given)
        place, wanted = values.text("store", store), values.text("shards", shards)
        if function_reference is not None:
            reference, places = parted(function_reference)
            function_base64 = wire.text_of(reference) + places
        dumped, name = inputs.pickled_function(
            function=function,
            file=function_file,
            text=function_base64,
            constants=values.constants(constants_json, constants_parameter, typed),
        )
        items = values.items(
            text=items_json, file=items_file, parameter=items_parameter, kind=items_type, source=items_from,
            table=arguments.Table(items_format, items_types, executor_input),
        )  # fmt: skip
        # it came with the command line, as this command did
        load = partial(pickle.loads, dumped)  # noqa: TID251
        size = sizing.size_of(wanted, load, items)
        count = min(size.shards, len(items))
        arguments.check_shards(count)
        reference = jobs.scatter_pickled(dumped, items, store=place, shards=size.shards, name=name)
        run_key = None if run_key_out is None else signing.new_run_key()
        if size.results:
            jobs.keep(reference, size.results, run_key=run_key)
        files.write(job_out, reference)
        files.write(run_key_out, run_key or "-")
        files.write(shards_out, json.dumps([str(index) for index in range(count)]))
        write(reference)


@click.command("gather")
@click.argument("job")
@click.option(
    "--shards-json", metavar="TEXT", help="A JSON list of what the shards printed or wrote, in any order."
)
@click.option(
    "--result-out", type=click.Path(path_type=Path), help="Write the result's reference there as well."
)
@click.option(
    "--report-out",
    type=click.Path(path_type=Path),
    help="Write the page of what happened there, as runwide report does.",
)
@click.option(
    "--metrics-out", type=click.Path(path_type=Path), help="Write its numbers there, as a JSON object."
)
@click.option(
    "--executor-input",
    metavar="TEXT",
    help="What kfp puts in the place of {{$}}: the engine is then told of the artifacts, with the numbers as metadata.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "return"]),
    default="raise",
    help="Whether failed items fail this command.",
)
@click.option(
    "--close",
    is_flag=True,
    help="End the shards that have not finished: their items count as failed. They must not run any more.",
)
@click.option(
    "--min-success",
    type=click.FloatRange(0, 1),
    default=1.0,
    help="Share of the items that must have succeeded, with --on-error raise; 1 for all.",
)
@click.option(
    "--dataset-out",
    type=click.Path(path_type=Path),
    help="Write the results there, one a line or row; null stands for a failed item.",
)
@click.option(
    "--dataset-format", type=click.Choice(dataset.FORMATS), default="jsonl", help="JSON lines, or Parquet."
)
def gather_command(
    job: str,
    *,
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
) -> None:
    """Check that every item has ended exactly once, write the result's manifest, print its reference.

    `runwide.load` of it gives the results.
    """
    shards = None if shards_json is None else inputs.strings(shards_json, "--shards-json")
    if close:
        shards = jobs.close_unfinished(job, shards)
    reference = jobs.finish(job, shards)
    count, failed = jobs.failures(reference)
    numbers = report.outputs(job, report_out=report_out, metrics_out=metrics_out)
    executor.tell(executor_input, numbers, {"dataset": {"format": dataset_format}})
    if on_error == "raise" and count - len(failed) < min_success * count:
        _complain(
            count,
            failed,
            uri=reference,
            hint="the others are finished: runwide gather --on-error return, then runwide.load(…, on_error='return')",
        )
    files.write(result_out, reference)
    click.echo(reference)
    if dataset_out is not None:  # last: whatever is wrong with it, the results are there
        _write_dataset(dataset_out, dataset_format, reference)


def _write_dataset(path: Path, form: str, reference: str) -> None:
    try:
        dataset.write(path, jobs.load(reference, on_error="return"), form)
    except InputError as error:
        error.hint = "; ".join(
            filter(None, (error.hint, f"the results themselves are stored: runwide.load({reference!r})"))
        )
        raise


@click.command("rerun")
@click.argument("job")
@options.workers
@options.timeout
@options.retries
@_mended
def rerun_command(
    job: str, *, workers: int | None, timeout: float | None, retries: int, function: str | None
) -> None:
    """Run the failed items of a job again on this machine, and what its shards have not finished.

    Prints the shards' references as JSON, for gather --shards-json.
    """
    announce()
    with results.alone() as write, leaves_on_sigterm():
        mended = None if function is None else inputs.function_of(function)
        references = jobs.rerun(job, function=mended, workers=workers, timeout=timeout, retries=retries)
        write(json.dumps([jobs.short_reference(index, one) for index, one in enumerate(references)]))


@click.command("replay")
@click.argument("job")
@click.argument("item", type=int)
@click.option("--pdb", "debug", is_flag=True, help="Enter the debugger where the item raises.")
@_mended
def replay_command(job: str, item: int, *, debug: bool, function: str | None) -> None:
    """Run one ITEM of a job in this process, from its exact verified bytes; print what it returns, write nothing."""
    announce()
    try:
        with nullcontext(click.echo) if debug else results.alone() as write:  # a debugger has the terminal
            mended = None if function is None else inputs.function_of(function)
            write(repr(jobs.replay(job, item, function=mended)))
    except RunwideError:
        raise
    except Exception as error:
        if debug:
            import pdb  # noqa: T100 - asked for

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
            f"a {type(result).__name__} is not JSON: {error}", hint="return plain data from the function"
        ) from error


def _complain(count: int, failed: list[Failure], *, uri: str | None = None, hint: str) -> None:
    if failed:
        named = "; ".join(map(str, failed[:_LISTED])) + ("; …" if len(failed) > _LISTED else "")
        raise TasksFailed(
            f"{len(failed)} of {count} items failed: {named}", failures=failed, uri=uri, hint=hint
        )
