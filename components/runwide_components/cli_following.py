"""The commands that follow runs on an engine: `status`, `wait`, `cancel` and `results`."""

from __future__ import annotations

import csv
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from runwide.cli import options
from runwide.errors import InputError
from runwide.job.lookup import batch_of, find_job, reference_of
from runwide.options.checks import seconds
from runwide.records import Failure
from runwide.streams import printable
from runwide_components.cli_options import engine_from, on_error_option, with_engine

if TYPE_CHECKING:
    from runwide_components.batch import Batch
    from runwide_components.engines.base import Engine


def print_results(job: str, store: str | None = None) -> None:
    """Print a line of JSON for each result, and one on standard error for each failure; exit with 1 after a failure."""
    import runwide

    failed = 0
    for result in runwide.load(job, on_error="return", store=store, stream=True):
        is_failure = isinstance(result, Failure)
        failed += is_failure
        line = printable(str(result)) if is_failure else json.dumps(result, default=repr)
        click.echo(line, err=is_failure)
    if failed:
        sys.exit(1)


def show(batch: Batch) -> None:
    """Print the table of a batch's runs."""
    from runwide.cli.output import print_table

    print_table(batch)


def awaited(uri: str, engine: Engine | None, timeout: float | None) -> Batch:
    """Wait until all runs of a batch have ended.

    Args:
        engine: The engine of the runs; None for the engine that submitted each run.
    """
    from runwide.job.runner import looks
    from runwide_components.batch_records import status_of

    deadline = None if timeout is None else time.monotonic() + timeout
    for pause in looks(1.0, 30.0):
        found = status_of(uri, engine=engine)
        if all(run.state.ended for run in found):
            break
        if deadline is not None and time.monotonic() > deadline:
            raise InputError(f"the batch has not ended after {timeout:g} s: {found.summary()}", uri=uri)
        time.sleep(pause)
    return found


@click.command("status")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--watch", "watched", is_flag=True, help="Show a job until all its shards have finished.")
@options.store
@with_engine
def status_command(job: str, *, as_json: bool, watched: bool, store: str | None, **options: Any) -> None:
    """Show the progress of a job with the first items that failed, or the progress of a batch of runs.

    JOB is a job's reference, the URI of its folder, its id or the beginning of it, or its name. BATCH is its URI or name.

    \b
    Example:
        runwide status "$job" --watch
        runwide status scores --store gs://bucket/runs
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    batch = batch_of(job, store)
    if batch is None:
        from runwide.cli.status import show as show_job

        show_job(reference_of(job, store), as_json=as_json, watched=watched)
        return
    if watched:
        raise click.UsageError("--watch shows a job; for a batch, use runwide wait")
    from runwide_components.batch_records import status_of

    runs = status_of(batch, engine=engine_from(**options))
    if as_json:
        click.echo(json.dumps(runs.table(), default=str))
    else:
        show(runs)


def _seconds(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Reject a number that is no time to wait."""
    found: float | None = value if value is None else seconds(least_is_0=True)("timeout", value)
    return found


@click.command("wait")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--timeout", type=float, callback=_seconds, help="Seconds to wait.")
@on_error_option
@click.option("--image", help="Of a job: image of the components that are started again.")
@click.option("--requirements", metavar="FILE", help="Of a job: packages that these install first.")
@options.store
@with_engine
def wait_command(
    job: str,
    *,
    timeout: float | None,
    on_error: str,
    image: str | None,
    requirements: str | None,
    store: str | None,
    **options: Any,
) -> None:
    """Wait until all components of a job, or all runs of a batch, have ended.

    JOB is a job's reference, the URI of its folder, its id or the beginning of it, or its name. BATCH is its URI or name.
    Shards of a job that no longer run are started again, and the reference of the results is printed. If the record of the
    run is not signed, its engine's name and project are trusted, but no address, mount or image. Without the job's digest
    and without a signing key, nothing is started again.

    \b
    Example:
        runwide wait "$job"
        runwide wait gs://bucket/runs/batches/nightly --timeout 3600
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    engine = engine_from(**options)
    batch = batch_of(job, store)
    if batch is not None:
        show(awaited(batch, engine, timeout))
        return
    from runwide import job as jobs
    from runwide_components.runs import rejoin

    wanted = find_job(job, store)
    shards = rejoin(
        wanted.reference, vouched=wanted.vouched, engine=engine, image=image, timeout=timeout, on_error=on_error,
        requirements=requirements,
    )  # fmt: skip
    click.echo(jobs.finish(wanted.reference, shards))


@click.command("cancel")
@click.argument("job", metavar="JOB_OR_BATCH")
@options.store
@with_engine
def cancel_command(job: str, *, store: str | None, **options: Any) -> None:
    """Cancel the components of a job, or all runs of a batch; stored results are kept.

    JOB is a job's reference, the URI of its folder, its id or the beginning of it, or its name. BATCH is its URI or name.

    \b
    Example:
        runwide cancel "$job"
        runwide cancel scores --store gs://bucket/runs
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    engine = engine_from(**options)
    batch = batch_of(job, store)
    if batch is not None:
        from runwide_components.batch_records import cancel_all

        click.echo(f"{cancel_all(batch, engine=engine)} runs cancelled")
        return
    from runwide_components.runs import cancel

    click.echo("cancelled" if cancel(reference_of(job, store), engine=engine) else "it has ended already")


@click.command("results")
@click.argument("job", metavar="RESULT_OR_JOB_OR_BATCH")
@click.option("--csv", "as_csv", is_flag=True, help="Of a batch: print it as CSV.")
@options.store
@with_engine
def results_command(job: str, *, as_csv: bool, store: str | None, **options: Any) -> None:
    """Print one line of JSON per result of a job, in order, or per run of a batch.

    JOB is the reference of a job or of its results, the URI of its folder, its id or the beginning of it, or its name. BATCH
    is its URI or name.

    \b
    Example:
        runwide results "$job" > results.jsonl
        runwide results scores --store gs://bucket/runs
        runwide results gs://bucket/runs/batches/nightly --csv
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    batch = batch_of(job, store)
    if batch is None:
        if as_csv:
            raise InputError(
                "--csv is for a batch", hint="leave it out: results of a job are printed as lines of JSON"
            )

        print_results(job, store)
        return
    from runwide_components.batch_records import status_of

    rows = status_of(batch, engine=engine_from(**options)).table()
    if as_csv:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    for row in rows:
        click.echo(json.dumps(row, default=str))
