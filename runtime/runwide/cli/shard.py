"""The command `shard`, which runs one shard in a component.

A failed component may make an engine stop all others, and the outputs of a loop with a failed component are undefined. So
if a pipeline accepts failed items, its shards always succeed: items that a shard could not run are recorded as failed,
like items that raised.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from runwide import job as jobs
from runwide import log
from runwide.cli import options, output
from runwide.cli.options import chosen, running
from runwide.cli.variables import configured
from runwide.errors import EnvironmentMismatch, InputError, Preempted, StepFailed, TooManyFailures
from runwide.host.threads import announce
from runwide.job.reference import resolve
from runwide.json_text import json_of
from runwide.log import held
from runwide.redaction import Lines, shortened
from runwide.sigterm import leaves_on_sigterm
from runwide.streams import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


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
@options.store
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
        run_supervised(job, index, manifest_out, given)
        return
    announce()
    with output.alone() as write, leaves_on_sigterm(), held():
        reference = jobs.shard(job, index, rerun_failed=rerun_failed, run_key=run_key, attempt=attempt, **run)
        output.write_text(manifest_out, jobs.short_reference(index, reference))
        write(reference)


_log = log.Log("cli")

_PARENT_SECONDS = 1.0
_STARTS = 2  # a killed process runs once more: one death may be bad luck, two are not
_CAUSE = 300  # characters
_LINES = 20
_WRONG_CALL = 2  # the exit code of an InputError
_ENVIRONMENT = "runwide: EnvironmentMismatch: "
_PACKAGES = f"{_ENVIRONMENT}the function needs packages"  # a message of `runwide.job.environment`
_STOPPED = "runwide: TooManyFailures: "
_READ_SECONDS = 5.0
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d \[\w+\] ")
_CHILD = f"from {__name__} import child; child()"


def run_supervised(job: str, index: int, manifest_out: Path | None, options: Mapping[str, Any]) -> None:
    """Run a shard; if it fails permanently, record its items as failed. Print the reference of the shard.

    Args:
        manifest_out: A file for the shard's reference in its short form.
    """
    words = [*_words({**options, "manifest_out": manifest_out}), "--", job, str(index)]
    error = failure_of(words, index)
    if error is not None:
        reference = jobs.close(job, index, error, run_key=options.get("run_key"))
        output.write_text(manifest_out, jobs.short_reference(index, reference))
        click.echo(reference)


def _words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line; 0 is kept, so that the command rejects it."""
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    return [
        name if value is True else f"{name}={value}"
        for name, value in given.items()
        if value is not None and value is not False
    ]


def failure_of(words: Sequence[str], index: int) -> StepFailed | None:
    """Run ``runwide shard`` in a child process; return the error if it fails permanently.

    Raises:
        Preempted: SIGTERM came, and was passed to the child; the engine may start the shard again.
        InputError: The call is invalid, and would be for every other shard.
        EnvironmentMismatch: Packages that the function needs are missing, here and in every other shard.
        TooManyFailures: All components together have more failed items than the limit.
    """
    code, said = 0, ""
    for start in range(1, _STARTS + 1):
        code, said = _ended(words)
        if code == 0:
            return None
        if code == Preempted.code:
            raise Preempted("stopped by SIGTERM; finished results are kept", hint="run it again to go on")
        if code == _WRONG_CALL:
            raise InputError(said.removeprefix("runwide: ") or "the call of runwide shard is invalid")
        if said.startswith(_STOPPED):
            raise TooManyFailures(said.removeprefix(_STOPPED))
        if said.startswith(_PACKAGES):
            raise EnvironmentMismatch(said.removeprefix(_ENVIRONMENT))
        _log.warning("shard.died", shard=index, exitcode=code, start=start, cause=shortened(said, _CAUSE))
        if code > 0:  # it would fail again
            break
    how = f"exit code {code}" if code > 0 else f"signal {-code}, {_STARTS} times"
    return StepFailed(
        f"shard {index} ended with {how}{f': {shortened(said, _CAUSE)}' if said else ''}",
        step=f"shard {index}", exitcode=code,
    )  # fmt: skip


def _ended(words: Sequence[str]) -> tuple[int, str]:
    """Run the child once; return its exit code, negative for a signal, and the reason from its standard error."""
    kept: deque[str] = deque(maxlen=_LINES)
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        reader = threading.Thread(target=_copy_stderr, args=(process.stderr, kept), daemon=True)
        reader.start()
        with _sigterm_goes_to(process):
            code = process.wait()
        reader.join(_READ_SECONDS)  # processes that a task has started may keep the stream open for longer
    return code, _reason(kept)


def _reason(lines: Iterable[str]) -> str:
    """Return the line with the reason of a failure, which may be a log entry of JSON.

    Example:
        >>> _reason(["Killed", '{"message": "runwide: InputError: no", "severity": "ERROR"}', "bye"])
        'runwide: InputError: no'
        >>> _reason(["free(): invalid pointer", ""])
        'free(): invalid pointer'
    """
    said = [line for line in map(_message, lines) if line]
    errors = [line for line in said if line.startswith("runwide: ")]
    return (errors or said or [""])[-1]


def _message(line: str) -> str:
    """Return a line that is no log line, or the message of a log entry of an error; else an empty text."""
    try:
        entry = json_of(line)
        return str(entry["message"]) if entry["severity"] == "ERROR" else ""
    except (ValueError, KeyError, TypeError):
        return "" if line.startswith("{") or _LOG_LINE.match(line) else line


def _copy_stderr(stream: IO[bytes], kept: deque[str]) -> None:
    """Copy a stream to our standard error, and keep its last lines."""
    hidden = Lines()
    for line in stream:
        text = line.decode(errors="backslashreplace")
        if log.is_collected():  # the last words of a killed process are no JSON
            plain = text.rstrip("\r\n")
            text = log.print_line(plain, severity="WARNING", hidden=hidden(plain))
        write(sys.stderr, text)
        kept.append(line.decode(errors="replace").strip())


@contextmanager
def _sigterm_goes_to(process: subprocess.Popen[Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def child() -> None:
    """Run the shard in this child process, which ends with its parent."""
    from runwide.cli import main

    threading.Thread(target=_end_with, args=(os.getppid(),), name="runwide-watch", daemon=True).start()
    main(["shard", *sys.argv[1:]])


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)  # its workers end too
