"""The client's side of one run on this machine: start it, follow it, stop it, and report why it failed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError, StepFailed
from runwide.job.reference import quoted
from runwide.json_text import json_of
from runwide.streams import write
from runwide_components.engines import local_logs
from runwide_components.engines.base import RunState
from runwide_components.engines.local_surroundings import key

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self


LOG_LINES = 50
"""The number of lines of a step's log in its error."""


@dataclass(frozen=True, slots=True)
class Request:
    """The request for one run.

    Args:
        at_once: The largest number of iterations of a loop that run at the same time.
        cores: Physical cores that the steps share.
        run: Label of the run's containers.
        options: Options of docker-py's ``containers.run``.
        mounts: Folders that are mounted in the containers at the same path.
        root: Folder for the files of kfp itself; None for one that is removed with the run.
        files: Files that steps may read, by the variable that names each; in containers they have the same path.
        key_files: The same, for runwide's own steps only.
        images: Images of runwide's own steps.
        parent: Process id of the client; the run ends with it.
        follow: Descriptor to which each line of each step is written at once; None to write lines to files only.
    """

    spec: str
    arguments: dict[str, Any]
    runner: str
    at_once: int
    cores: int
    run: str
    options: dict[str, Any] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    root: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    key_files: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    parent: int = 0
    follow: int | None = None


_ERROR_LINE = re.compile(r"runwide: |[\w.]+(Error|Exception|Exit|Interrupt)\b")
_CANCEL_SECONDS = 10.0  # from asking a run to stop to killing it; Docker removes a container in about one


class LocalRun:
    """One run of a pipeline on this machine; see `Run`."""

    outlives_client = False

    def __init__(self, folder: Path, request: Request, *, logs: bool | str = True) -> None:
        self._folder = folder
        self._result: dict[str, Any] | None = None
        self._cancelled = False
        self._shows = logs is True
        self._kept: Path | None = None
        self._followed = local_logs.Followed() if logs == "all" else None
        try:
            self._process = self._started(request)
        finally:
            if self._followed is not None:
                self._followed.start()  # it ends with the run, or at once if there is none

    def _started(self, request: Request) -> subprocess.Popen[bytes]:
        descriptors = (self._followed.descriptor,) if self._followed else ()
        request = replace(request, follow=next(iter(descriptors), None), parent=os.getpid())
        (self._folder / "request.json").write_text(json.dumps(asdict(request)))
        with (self._folder / "run.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "runwide_components.engines.local_run", str(self._folder)],
                cwd=self._folder,  # -m looks for modules there first, and the client's folder may have a queue.py
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=descriptors,
                env={
                    **os.environ,
                    **key(),
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
            )

    @property
    def id(self) -> str:
        """The name of the run, which is the label ``runwide.run`` of its containers."""
        return self._folder.name

    @property
    def logs(self) -> str:
        """The folder of its logs, one file for each step; it is kept if the run fails."""
        return str(self._kept or self._folder / "logs")

    def state(self) -> RunState:
        """Return the current state."""
        if self._cancelled:
            return RunState.CANCELLED
        if self._process.poll() is None:
            return RunState.RUNNING
        return RunState.SUCCEEDED if "outputs" in self._read() else RunState.FAILED

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and return the outputs by name; see `Run.wait`."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"run {self.id} has not ended after {timeout} s") from None
        result = self._read()
        if self._followed is not None:
            self._followed.join()
        if self._cancelled:
            raise EngineError("the run was cancelled", uri=self.id)
        if "outputs" in result:
            outputs: dict[str, Any] = result["outputs"]
            return outputs
        self._keep_logs()
        error = _as_error(result, self._kept)
        if self._shows and isinstance(error, StepFailed):
            self._shows = False  # once
            write(sys.stderr, local_logs.shown(error.step, error.log, error.log_path))
        raise error

    def _keep_logs(self) -> None:
        """Move its logs to the folder where they are kept, if it has some and the disk has room."""
        logs = self._folder / "logs"
        if self._kept is None and logs.is_dir():
            with suppress(OSError):  # it must not hide why the run failed
                shutil.copy(self._folder / "run.log", logs / "run.log")
                self._kept = local_logs.keep(logs, self.id)

    def argument(self, name: str) -> Any:
        """Return an argument of the pipeline; see `Run.argument`."""
        return json_of((self._folder / "request.json").read_text())["arguments"].get(name)

    def cancel(self) -> None:
        """Stop the run with its processes and containers."""
        if self._process.poll() is not None:
            return
        self._cancelled = True
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_CANCEL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        if self._result is None:
            path = self._folder / "result.json"
            self._result = json_of(path.read_text()) if path.exists() else self._died()
        return self._result

    def _died(self) -> dict[str, Any]:
        log = "\n".join((self._folder / "run.log").read_text(errors="replace").splitlines()[-LOG_LINES:])
        return {"error": f"the run ended with exit code {self._process.returncode}", "log": log}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """End the run, and remove its files; logs of a failed run are kept."""
        self.cancel()
        if not self._cancelled and "outputs" not in self._read():
            self._keep_logs()
        if self._followed is not None:
            self._followed.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.returncode is None:
            warnings.warn(
                f"no caller waited for the run {self._folder.name}",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
            self.__exit__(None, None, None)


def _as_error(result: dict[str, Any], logs: Path | None = None) -> EngineError:
    """Return the error of a failed run, with the paths of its logs."""
    failures = result.get("failures", [])
    if not failures:
        log = result.get("log", "")
        hints = [_cause(log), f"its whole log is {logs / 'run.log'}" if logs and log else ""]
        return EngineError(result["error"], hint="; ".join(filter(None, hints)) or None)
    first = dict(failures[0])
    path = first.pop("path", None)
    first["log_path"] = str(logs / path) if logs and path else None
    others = f" (and {len(failures) - 1} other steps)" if failures[1:] else ""
    cause = f": {line}" if (line := _cause(first["log"])) else ""
    job = quoted(str(first.get("uri")))
    go_on = (
        f"finished work is kept; run the rest here: runwide rerun {job}; "
        f"or gather without it: runwide gather {job} --close"
    )
    message = f"{first['step']}{others} failed with exit code {first['exitcode']}{cause}"
    whole = f"its whole log is {first['log_path']}" if first["log_path"] else ""
    hints = [go_on if first.get("uri") else "", whole]
    return StepFailed(message, hint="; ".join(filter(None, hints)) or None, **first)


def _cause(log: str) -> str:
    """Return the line of a log with the cause: the last one that looks like an error, or the last one.

    In the log of a container, lines of standard output may come after later lines of standard error.
    """
    # lines of JSON are log lines
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("{")]
    return next(filter(_ERROR_LINE.match, reversed(lines)), lines[-1] if lines else "")
