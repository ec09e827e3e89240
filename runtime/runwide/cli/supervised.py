"""A shard in a process of its own, so that what ends it for good becomes an outcome of its items and not the end of the run.

One failed component may cut all others of a pipeline short, and what an engine hands on of a loop in which one has failed
is not defined. So a pipeline that wants to go on without some items has its shards end well in any case: the items that a
shard could not run are recorded as failed, as those are that raised.
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
from typing import IO, TYPE_CHECKING, Any

import click

from runwide import job as jobs
from runwide import log
from runwide.cli import files
from runwide.errors import EnvironmentMismatch, InputError, Preempted, StepFailed, TooManyFailures
from runwide.parsing import json_of
from runwide.redaction import Lines, shortened
from runwide.writing import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_log = log.Log("cli")

_PARENT_SECONDS = 1.0
_STARTS = 2  # a process that is killed runs again once: one death may be bad luck, two are not
_CAUSE = 300  # characters
_LINES = 20
_WRONG_CALL = 2  # as the command exits with an InputError
_ENVIRONMENT = "runwide: EnvironmentMismatch: "
_PACKAGES = f"{_ENVIRONMENT}the function needs packages"  # as `runwide.job.environment` says
_STOPPED = "runwide: TooManyFailures: "
_READ_SECONDS = 5.0
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d \[\w+\] ")
_CHILD = "from runwide.cli.supervised import child; child()"


def shard(job: str, index: int, manifest_out: Path | None, options: Mapping[str, Any]) -> None:
    """Run a shard, or end it with its items failed; print its reference and write it where asked.

    Args:
        job: The job's reference.
        index: The shard.
        manifest_out: File for its reference in short form.
        options: Those of `runwide.job.shard`, and where requirements are installed.
    """
    words = [*_words({**options, "manifest_out": manifest_out}), "--", job, str(index)]
    error = failure_of(words, index)
    if error is not None:
        reference = jobs.close(job, index, error, run_key=options.get("run_key"))
        files.write(manifest_out, jobs.short_reference(index, reference))
        click.echo(reference)


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options as a command line has them. A 0 is one: the command says what is wrong with it."""
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    return [
        name if value is True else f"{name}={value}"
        for name, value in given.items()
        if value is not None and value is not False
    ]


def failure_of(words: Sequence[str], index: int) -> StepFailed | None:
    """Run ``runwide shard`` with these words in a process of its own; why it failed for good, if it did.

    Args:
        words: What stands behind ``runwide shard``.
        index: The shard, for the error.

    Raises:
        Preempted: SIGTERM came, and was handed on: whoever sent it may start the shard again.
        InputError: The call is wrong, and would be for every other shard.
        EnvironmentMismatch: It has not the packages that the function needs, likewise.
        TooManyFailures: All components together have more failed items than are accepted.
    """
    code, said = 0, ""
    for start in range(1, _STARTS + 1):
        code, said = _ended(words)
        if code == 0:
            return None
        if code == Preempted.code:
            raise Preempted("stopped by SIGTERM; what had finished is kept", hint="run it again to go on")
        if code == _WRONG_CALL:
            raise InputError(said.removeprefix("runwide: ") or "the call of runwide shard is wrong")
        if said.startswith(_STOPPED):
            raise TooManyFailures(said.removeprefix(_STOPPED))
        if said.startswith(_PACKAGES):
            raise EnvironmentMismatch(said.removeprefix(_ENVIRONMENT))
        _log.warning("shard.died", shard=index, exitcode=code, start=start, cause=shortened(said, _CAUSE))
        if code > 0:  # it has said why, and would again
            break
    how = f"exit code {code}" if code > 0 else f"signal {-code}, {_STARTS} times"
    return StepFailed(
        f"shard {index} ended with {how}{f': {shortened(said, _CAUSE)}' if said else ''}",
        step=f"shard {index}", exitcode=code,
    )  # fmt: skip


def _ended(words: Sequence[str]) -> tuple[int, str]:
    """Exit code of one start, negative for a signal, and the line of its standard error that says why."""
    kept: deque[str] = deque(maxlen=_LINES)
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        reader = threading.Thread(target=_pass_on, args=(process.stderr, kept), daemon=True)
        reader.start()
        with _sigterm_goes_to(process):
            code = process.wait()
        reader.join(_READ_SECONDS)  # what a task has started may hold the stream open for longer
    return code, _reason(kept)


def _reason(lines: Iterable[str]) -> str:
    """Return the line that says why a shard has failed, which may be an entry for a log collector.

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
    """Return a line that is no log line; of an entry of the log, its message if that is an error's."""
    try:
        entry = json_of(line)
        return str(entry["message"]) if entry["severity"] == "ERROR" else ""
    except (ValueError, KeyError, TypeError):
        return "" if line.startswith("{") or _LOG_LINE.match(line) else line


def _pass_on(stream: IO[bytes], kept: deque[str]) -> None:
    """Copy a stream to our standard error, and keep its last lines."""
    hidden = Lines()
    for line in stream:
        text = line.decode(errors="backslashreplace")
        if log.is_collected():  # a process that is killed says so in text
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
    """Be the process that runs the shard; it ends with the one that started it."""
    from runwide.cli import main

    threading.Thread(target=_end_with, args=(os.getppid(),), name="runwide-watch", daemon=True).start()
    main(["shard", *sys.argv[1:]])


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)  # its workers end with it
