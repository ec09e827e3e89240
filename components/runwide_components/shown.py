"""Output of the commands ``results`` and ``wait``."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from runwide.errors import InputError
from runwide.records import Failure
from runwide.writing import printable

if TYPE_CHECKING:
    from runwide_components.batch import Batch
    from runwide_components.engines.base import Engine


def print_results(job: str, store: str | None = None) -> None:
    """Print a line of JSON for each result, and one on standard error for each failure; exit with 1 after a failure.

    Args:
        job: A job or its results, as for `runwide.load`.
        store: The store in which to look for an id or a name.
    """
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
    from runwide.cli.tables import console

    console().print(batch)


def awaited(uri: str, engine: Engine | None, timeout: float | None) -> Batch:
    """Wait until all runs of a batch have ended.

    Args:
        uri: The URI of the batch.
        engine: The engine of the runs; None for the engine that submitted each run.
        timeout: Seconds to wait; None to wait without a limit.

    Raises:
        InputError: Some runs have not ended after the timeout.
    """
    from runwide.job.runner import looks
    from runwide_components.standing import status_of

    deadline = None if timeout is None else time.monotonic() + timeout
    for pause in looks(1.0, 30.0):
        found = status_of(uri, engine=engine)
        if all(run.state.ended for run in found):
            break
        if deadline is not None and time.monotonic() > deadline:
            raise InputError(f"the batch has not ended after {timeout:g} s: {found.summary()}", uri=uri)
        time.sleep(pause)
    return found
