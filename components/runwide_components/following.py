"""The commands that follow what runs on an engine: ``status``, ``wait``, ``cancel`` and ``results``."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import click

from runwide.cli import named
from runwide.errors import InputError
from runwide.job.found import batch_of, found, reference_of
from runwide_components import cli_engine
from runwide_components.cli_engine import engine_from, with_engine
from runwide_components.shown import show


@click.command("status")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--watch", "watched", is_flag=True, help="Show a job until all its shards have finished.")
@named.store
@with_engine
def status_command(job: str, *, as_json: bool, watched: bool, store: str | None, **options: Any) -> None:
    """Show how far a job is, and the first items that failed; or how far a batch of runs is.

    JOB is a job's reference, the URI of its folder, its id, the start of that, or its name; BATCH its URI or name.

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
        raise click.UsageError("--watch shows a job; runwide wait shows a batch until it has ended")
    from runwide_components.standing import status_of

    runs = status_of(batch, engine=engine_from(**options))
    if as_json:
        click.echo(json.dumps(runs.table(), default=str))
    else:
        show(runs)


@click.command("wait")
@click.argument("job", metavar="JOB_OR_BATCH")
@click.option("--timeout", type=float, help="Seconds to wait.")
@cli_engine.on_error
@click.option("--image", help="Of a job: image of the components that are run again.")
@click.option("--requirements", metavar="FILE", help="Of a job: what these install first.")
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

    JOB is a job's reference, the URI of its folder, its id, the start of that, or its name; BATCH its URI or name. Of a
    job, shards that nobody runs any more are run again, and the reference of its results is printed. Where the record
    of its run is not signed, the engine's name and project are believed, and no address, mount or image. Without the job's
    digest, and without a signing key, nothing of it is run again.

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

    wanted = found(job, store)
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
    """Cancel the components of a job, or all runs of a batch; what they have stored is kept.

    JOB is a job's reference, the URI of its folder, its id, the start of that, or its name; BATCH its URI or name.

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

    JOB is a job's reference or that of its results, the URI of its folder, its id, the start of that, or its name; BATCH its
    URI or name.

    \b
    Example:
        runwide results "$job" > results.jsonl
        runwide results scores --store gs://bucket/runs
        runwide results gs://bucket/runs/batches/nightly --csv
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    batch = batch_of(job, store)
    if batch is None:
        if as_csv:
            raise InputError("--csv is for a batch", hint="results of a job are printed as JSON, one a line")
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
