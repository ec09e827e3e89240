"""The command ``shard``, which a component of a pipeline runs; it loads nothing that only other commands need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runwide import job as jobs
from runwide.cli import files, named, options, results, supervised
from runwide.cli.configured import configured
from runwide.cli.run_options import chosen, running
from runwide.host.threads import announce
from runwide.job.reference import resolve
from runwide.log import held
from runwide.sigterm import leaves_on_sigterm


@click.command("shard")
@click.argument("job")
@click.argument("index", type=int)
@running(but=("initializer",))
@click.option("--rerun-failed", is_flag=True, help="Also run items again that have failed before.")
@click.option(
    "--manifest-out",
    type=click.Path(path_type=Path),
    help="Write the shard's reference to this file, in its short form.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "return"]),
    default="raise",
    help="return: if the shard fails permanently, its remaining items count as failed, and this command succeeds.",
)
@options.run_key
@options.requirements
@named.store
@click.option("--installed-at", hidden=True)  # set by the parent process that supervises this one
@click.option("--attempt", hidden=True)  # set by the engine's run of all shards
@configured
def shard_command(
    job: str,
    index: int,
    *,
    rerun_failed: bool,
    manifest_out: Path | None,
    on_error: str,
    run_key: str | None,
    requirements: str | None,
    store: str | None,
    installed_at: str | None,
    attempt: str | None,
    **words: Any,
) -> None:
    """Run shard INDEX of a job on the cores of this machine; print the shard's reference.

    A second run computes only results that are not stored yet. Failed items are recorded, and gather reports them. JOB is a
    job's reference, the URI of its folder, its id, the start of its id, or its name.

    \b
    Example:
        runwide shard "$job" 0
        runwide shard scores 0 --store gs://bucket/runs --rerun-failed
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if requirements or installed_at:
        from runwide.cli.installing import install

        installed_at = install(requirements, installed_at)
    job = resolve(job, store, runs=True)
    run = chosen(words)
    if on_error == "return":
        given = {
            **run, "no_progress": run.pop("progress", None) is False, "rerun_failed": rerun_failed, "run_key": run_key,
            "installed_at": installed_at, "attempt": attempt,
        }  # fmt: skip
        supervised.run(job, index, manifest_out, given)
        return
    announce()
    with results.alone() as write, leaves_on_sigterm(), held():
        reference = jobs.shard(job, index, rerun_failed=rerun_failed, run_key=run_key, attempt=attempt, **run)
        files.write_text(manifest_out, jobs.short_reference(index, reference))
        write(reference)
