"""The commands that follow runs on an engine: ``status``, ``wait``, ``cancel`` and ``results``."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import click

from runwide.cli import named
from runwide.errors import InputError
from runwide.job.found import batch_of
from runwide.job.found import find_job
from runwide.job.found import reference_of
from runwide_components.cli_engine import engine_from
from runwide_components.cli_engine import on_error_option
from runwide_components.cli_engine import with_engine
from runwide_components.shown import show


@click.command("status")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--watch", "watched", is_flag=True, help="Show a job until all its shards have finished.")
@named.store
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
    from runwide_components.standing import status_of

    runs = status_of(batch, engine=engine_from(**options))
    if as_json:
        click.echo(json.dumps(runs.table(), default=str))
    else:
        show(runs)


@click.command("wait")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--timeout", type=float, help="Seconds to wait.")
@on_error_option
@click.option("--image", help="Of a job: image of the components that are started again.")
@click.option("--requirements", metavar="FILE", help="Of a job: packages that these install first.")
@named.store
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
        from runwide_components.shown import awaited

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
@named.store
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
        from runwide_components.standing import cancel_all

        click.echo(f"{cancel_all(batch, engine=engine)} runs cancelled")
        return
    from runwide_components.runs import cancel

    click.echo("cancelled" if cancel(reference_of(job, store), engine=engine) else "it has ended already")


@click.command("results")
@click.argument("job", metavar="RESULT_OR_JOB_OR_BATCH")
@click.option("--csv", "as_csv", is_flag=True, help="Of a batch: print it as CSV.")
@named.store
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
        from runwide_components.shown import print_results

        print_results(job, store)
        return
    from runwide_components.standing import status_of

    rows = status_of(batch, engine=engine_from(**options)).table()
    if as_csv:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    for row in rows:
        click.echo(json.dumps(row, default=str))
