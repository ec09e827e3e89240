"""The command `scatter`, the first step of a pipeline."""

from __future__ import annotations

import json
import pickle
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runwide import job as jobs
from runwide.api.functions import first_of
from runwide.cli import inputs, options, output
from runwide.cli.encoding import parted
from runwide.cli.installing import install
from runwide.cli.scatter_arguments import AUTO
from runwide.cli.variables import composing
from runwide.errors import InputError
from runwide.host.threads import announce
from runwide.log import Log
from runwide.store import signing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@click.command("scatter")
@click.option("--function", metavar="MODULE:FUNCTION", help="A function that can be imported here.")
@click.option(
    "--function-file",
    type=click.Path(path_type=Path),
    help="A file with the function's pickle of cloudpickle, or its base64.",
)
@click.option(
    "--function-base64", metavar="TEXT", help="The pickle as base64, or as 'z:' and base64 of zlib."
)
@click.option(
    "--function-reference",
    metavar="REF",
    help="The reference of an object with the text of --function-base64.",
)
@click.option("--function-name", metavar="NAME", help="A name of a pickled function, for people.")
@click.option("--code", metavar="TEXT", help="The user's own modules that the function needs.")
@click.option(
    "--pickled-by",
    metavar="VERSION",
    help="The version of Python that pickled the function, if not this one.",
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
@options.items_artifacts
@options.items_format
@options.items_types
@click.option(
    "--executor-input",
    metavar="TEXT",
    help="The text that kfp writes for {{$}}: metadata of the artifact of --items-from may name its format.",
)
@click.option(
    "--store",
    metavar="URI",
    help="gs://bucket/prefix, or a folder that all components can access.",
)
@click.option(
    "--shards",
    metavar="N|auto",
    help="Number of components that share the work; auto: choose it by running some items in this step.",
)
@click.option(
    "--constants-json", metavar="TEXT", help="A JSON object of more keyword arguments of the function."
)
@click.option(
    "--constants-parameter",
    metavar="TEXT",
    help="More keyword arguments, from a dict parameter of a pipeline; whole numbers are ints.",
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
    help="Items or constants: 'z:' and base64 of zlib of their pickle, or the reference of an object with that text.",
)
@click.option(
    "--composed",
    multiple=True,
    nargs=2,
    metavar="WHAT JSON",
    help="The text of --store, --shards or --items-from (WHAT: store, shards, items) with parameters in it.",
)
@click.option(
    "--given",
    multiple=True,
    nargs=2,
    metavar="NAME TEXT",
    help="A parameter of the pipeline that --pickled or --composed contain.",
)
@click.option(
    "--run-id",
    metavar="ID",
    help="The id of the pipeline run, so that the engine's cache gives the outputs of this step to no other run.",
)
@click.option(
    "--job-out", type=click.Path(path_type=Path), help="Also write the job's reference to this file."
)
@click.option(
    "--run-key-out",
    type=click.Path(path_type=Path),
    help="Write a key to this file with which the shards of this run sign, or '-' if a signing key is set.",
)
@click.option(
    "--shards-out",
    type=click.Path(path_type=Path),
    help="Write the indices of the shards to this file, as a JSON list of strings.",
)
@click.option(
    "--reduced", is_flag=True, help="The pickled function has a reduction, so the result is one value."
)
@options.requirements
@click.option("--packages", metavar="JSON", help="The packages that the function needs, with their versions.")
@composing
def scatter_command(
    *,
    function: str | None,
    function_file: Path | None,
    function_base64: str | None,
    function_reference: str | None,
    function_name: str | None,
    code: str | None,
    pickled_by: str | None,
    items_json: str | None,
    items_file: Path | None,
    items_parameter: str | None,
    items_type: str,
    items_from: str | None,
    items_artifacts: str | None,
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
    run_id: str | None,
    job_out: Path | None,
    shards_out: Path | None,
    run_key_out: Path | None,
    reduced: bool,
    requirements: str | None,
    packages: str | None,
) -> None:
    """Write a function and its items to a store as a job; print the job's reference.

    \b
    Example:
        runwide scatter --function mymodule:score --items-file items.jsonl --store gs://bucket/runs --shards 20
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    from runwide.cli import scatter_arguments, wire

    install(requirements)
    announce()
    wire.check_python(pickled_by)
    wire.check_recorded(packages)
    with output.alone() as write:
        base = None if code is None else wire.code_used(code)
        values = scatter_arguments.Arguments.of(pickled, composed, given)
        place = scatter_arguments.shared(values.text("store", store), run_id)
        wanted = values.text("shards", shards)
        if function_reference is not None:
            reference, places = parted(function_reference)
            function_base64 = wire.object_of(reference).decode() + places
        chosen = inputs.pickled_function(
            function=function,
            file=function_file,
            text=function_base64,
            constants=values.constants(constants_json, constants_parameter, typed),
        )
        items = values.items(
            text=items_json, file=items_file, parameter=items_parameter, kind=items_type, source=items_from,
            artifacts=items_artifacts,
            table=scatter_arguments.Table(
                items_format, items_types, executor_input, store=None if wanted == scatter_arguments.AUTO else place
            ),
        )  # fmt: skip
        load = partial(pickle.loads, chosen.data)  # noqa: TID251 - as trusted as this command line
        size = size_of(wanted, load, items)
        count = min(size.shards, len(items))
        scatter_arguments.check_shards(count)
        reference = jobs.scatter_pickled(
            chosen.data,
            items,
            store=place,
            shards=size.shards,
            name=function_name or chosen.name,
            needs=chosen.needs,
            base=base,
            reduced=reduced,
        )
        run_key = None if run_key_out is None else signing.new_run_key()
        if size.results:
            jobs.keep(reference, size.results, run_key=run_key)
        output.write_text(job_out, reference)
        output.write_text(run_key_out, run_key or "-")
        output.write_text(shards_out, json.dumps([str(index) for index in range(count)]))
        write(reference)


log = Log("job")

_WORTH = 600.0
"""Seconds of work for which a component pays off: on Vertex AI, a machine takes two or three minutes to start."""

_MOST = 20
"""Most components: new projects have quotas of 20 to 42 CPUs ("Quotas and limits" of Vertex AI)."""

_SAMPLE_SECONDS = 20.0
_SAMPLE_ITEMS = 16


def components_for(seconds: float, *, items: int, workers: int) -> int:
    """Return for how many components some work is enough; ``seconds`` is the time of one item on one core.

    Example:
        >>> components_for(0.01, items=1000, workers=2), components_for(60, items=1000, workers=2)
        (1, 20)
        >>> components_for(6, items=1000, workers=2), components_for(3600, items=3, workers=2)
        (5, 3)
    """
    return max(1, min(items, _MOST, ceil(seconds * items / workers / _WORTH)))


@dataclass(frozen=True, slots=True)
class Size:
    """The number of shards of a job, and the results of the items that were measured, by index."""

    shards: int
    results: dict[int, Any] = field(default_factory=dict)


def size_of(text: str, function: Callable[[], Callable[[Any], Any]], items: Sequence[Any]) -> Size:
    """Return the number of shards that ``--shards`` asks for.

    With ``auto``, the function runs here over a sample of the items, for at most 20 seconds. The results are kept. An item
    that fails here, or does not finish in time, runs again in its shard.
    """
    if text == AUTO:
        return _measured(function(), items)
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"invalid --shards {text}", hint="give a number of 1 or more, or auto")
    return Size(int(text))


def _measured(function: Callable[[Any], Any], items: Sequence[Any]) -> Size:
    from runwide.host import cores
    from runwide.pool import outcomes

    workers = cores().count
    step = max(1, len(items) // _SAMPLE_ITEMS)
    sample = range(0, len(items), step)[:_SAMPLE_ITEMS]
    began, done, seconds, results = time.monotonic(), 0, 0.0, {}
    chosen = [items[index] for index in sample]
    with closing(
        outcomes(function, chosen, timeout=_SAMPLE_SECONDS, progress=False, initializer=first_of(function))
    ) as arriving:
        for outcome in arriving:
            done, seconds = done + 1, time.monotonic() - began
            if outcome.failure is None:
                results[sample[outcome.index]] = outcome.value
            if seconds > _SAMPLE_SECONDS:
                break
    busy = min(workers, len(sample))
    each = seconds * busy / max(1, done)
    count = components_for(each, items=len(items), workers=workers)
    log.info(
        "shards.chosen",
        shards=count,
        items=len(items),
        sampled=done,
        seconds_each=round(each, 4),
        workers=workers,
    )
    return Size(count, results)
