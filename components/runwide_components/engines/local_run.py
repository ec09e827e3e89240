"""Runs one compiled pipeline through kfp.local, in a process of its own.

kfp.local keeps its configuration, the handlers of the root logger and ``builtins.print`` in globals, and its own
threads change them without a lock; it runs two iterations of a loop at a time whatever ``parallelism`` says, refuses
container components in subprocesses, forgets the artifacts of container components, and takes a container that
vanishes before its logs are read for a success. So it works here, where nobody else's globals are, and with a step and a
loop of ours in the place of its own: the semi-private names that this takes are all in `_adapt`, and a test holds them
against the kfp that is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kfp import components, dsl, local
from kfp.local import executor_output_utils, logging_utils, status, subprocess_task_handler, task_dispatcher
from kfp.local.orchestrator import enhanced_dag_orchestrator
from kfp.local.pip_install_manager import pip_install_manager

from runwide import __version__, settings
from runwide.log import Log
from runwide.parsing import json_of
from runwide_components.engines import left_out
from runwide_components.engines.containers import Containers, version_in
from runwide_components.engines.local_environment import for_all
from runwide_components.engines.local_logs import Teller
from runwide_components.engines.local_request import LOG_LINES, Request
from runwide_components.engines.local_steps import in_container, in_subprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = Log("engine")
_KEYS = ("RUNWIDE_SIGNING_KEY", "RUNWIDE_SIGNING_KEY_SECRET")  # for steps of ours alone
_WRONG_CALL = 2  # as click exits
_UNKNOWN = re.compile(r"No such (?:option|command):? '?(-*[\w-]+)")
_REMOVALS = 20
_PARENT_SECONDS = 1.0  # how often a run looks whether its parent is still there


@dataclass
class Session:
    """The run of this process.

    Args:
        request: What to do.
        folder: Where the request came from and the results go.
    """

    request: Request
    folder: Path
    at_once: int = 1
    failed: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)  # command -> its last failure
    lock: threading.Lock = field(default_factory=threading.Lock)
    started: int = 0
    containers: Containers = field(init=False)

    def __post_init__(self) -> None:
        self.containers = Containers(self.request.run)

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The steps that have failed for good so far, the first one first."""
        return list(self.failed.values())

    def next_log(self, name: str) -> Path:
        """A log file of its own for each step."""
        with self.lock:
            self.started += 1
            return self.folder / "logs" / f"{self.started:04d}-{re.sub(r'[^A-Za-z0-9]+', '-', name)}.log"

    @contextmanager
    def places(self, log: Path) -> Iterator[tuple[Path, Path]]:
        """Make the working directory and the home of one step, both empty, and remove them with it."""
        made = self.folder / "steps" / log.stem
        work, home = made / "work", made / "home"
        for folder in (work, home):
            folder.mkdir(parents=True)
        try:
            yield work, home
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """What a step is told: the cores of this machine are shared by the steps that run at the same time."""
        workers = str(max(1, self.request.cores // self.at_once))
        return {"RUNWIDE_WORKERS": workers, **for_all(os.environ), **self.request.files}

    def keys(self) -> dict[str, str]:
        """What a step of ours is told beside, to sign and to verify."""
        known = {name: text for name in _KEYS if (text := settings.value(name)) is not None}
        return {**known, **self.request.key_files}


@dataclass
class Step:
    """One step, in the place of a kfp task handler: the same arguments, and `run`."""

    session: Session
    image: str
    full_command: list[str]
    pipeline_root: str
    runner: Any
    env_vars: dict[str, str]

    def run(self) -> status.Status:
        """Run it to its end, with its output in a file."""
        name, started = step_name(self.full_command), time.monotonic()
        path = self.session.next_log(name)
        with path.open("wb") as log, self._pip_lock():
            code = self._start(log, path)
            if code == _WRONG_CALL and self.session.request.runner == "docker":
                log.flush()
                log.write(self._other_release(path.read_text(errors="replace")).encode())
        seconds = round(time.monotonic() - started, 3)
        if code == 0:
            _log.info("step.succeeded", step=name, seconds=seconds)
            self.session.failed.pop(tuple(self.full_command), None)  # it was started again, and well
            return status.Status.SUCCESS
        _log.error("step.failed", step=name, seconds=seconds, exitcode=code)
        tail = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        self.session.failed[tuple(self.full_command)] = {
            "step": name, "exitcode": code, "log": "\n".join(tail), "path": path.name,
            "uri": job_of(self.full_command),
        }  # fmt: skip
        return status.Status.FAILURE

    def _other_release(self, log: str) -> str:
        """What to say where the image's ``runwide`` does not know what this one asks of it."""
        unknown = _UNKNOWN.search(log)
        if self.full_command[0] != "runwide" or unknown is None:
            return ""
        theirs = version_in(self.image) or "of another release"
        theirs = f"an earlier build of {theirs}" if theirs == __version__ else theirs
        return (
            f"runwide: EnvironmentMismatch: the image has runwide, {theirs}, which does not know {unknown[1]}; this is "
            f"{__version__}: rebuild the image, or name one of this release with image= or RUNWIDE_IMAGE [{self.image}]\n"
        )

    @property
    def is_ours(self) -> bool:
        """Whether it is a step of ours, or one of the author's in the image of such steps."""
        return self.full_command[:1] == ["runwide"] or self.image in self.session.request.images

    def environment(self) -> dict[str, str]:
        """What it is told beside the environment of its image, or of this machine."""
        return {
            **self.session.environment(),
            **(self.session.keys() if self.is_ours else {}),
            **self.env_vars,
        }

    def _pip_lock(self) -> Any:
        """Steps that start with pip take turns, as in kfp.local itself: they share one environment."""
        installs = any("pip install" in word for word in self.full_command)
        return pip_install_manager.managed_install(self.session.request.runner) if installs else nullcontext()

    def _start(self, log: IO[bytes], path: Path) -> int:
        request = self.session.request
        teller = Teller(request.follow, step_name(self.full_command))
        if request.runner == "docker":
            return in_container(self, log, teller)
        with self.session.places(path) as (work, home):
            return in_subprocess(self, log, teller, work=work, home=home)


def step_name(command: list[str]) -> str:
    """What to call a step in logs and errors, from its command.

    Example:
        >>> step_name(["runwide", "shard", "gs://b/j/job.json#sha256=00", "3", "--manifest-out", "/x"])
        'shard 3'
        >>> step_name(["sh", "-c", "…", "--function_to_execute", "load"])
        'load'
    """
    if command[:2] == ["runwide", "shard"]:
        return f"shard {command[3]}"
    if command[:1] == ["runwide"]:
        return command[1]
    if "--function_to_execute" in command:
        return command[command.index("--function_to_execute") + 1]
    return Path(command[0]).name


def job_of(command: list[str]) -> str | None:
    """The job that a step of ours works on; None for any other step.

    Example:
        >>> job_of(["runwide", "gather", "/j/job.json#sha256=00"])
        '/j/job.json#sha256=00'
    """
    return command[2] if command[:2] in (["runwide", "shard"], ["runwide", "gather"]) else None


def main(folder: Path) -> None:
    """Run the request in a folder and write ``result.json`` beside it."""
    request = Request(**json_of((folder / "request.json").read_text()))
    session = Session(request, folder)
    for name in ("logs", "root", "tmp"):
        (folder / name).mkdir()
    _leave_when_told(session)
    try:
        result = _run(session)
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}", "failures": session.failures}
    partial_path = folder / "result.json.partial"
    partial_path.write_text(json.dumps(result))
    partial_path.rename(folder / "result.json")


def _run(session: Session) -> dict[str, Any]:
    request = session.request
    docker = request.runner == "docker"
    _adapt(session)
    local.init(
        runner=local.DockerRunner(**request.options) if docker else local.SubprocessRunner(use_venv=False),
        pipeline_root=request.root or str(session.folder / "root"),
        workspace_root=str(session.folder / "workspace"),
    )
    pipeline = components.load_component_from_file(request.spec)
    return {
        "outputs": {name: _portable(value) for name, value in pipeline(**request.arguments).outputs.items()}
    }


def _adapt(session: Session) -> None:
    """Put our step, our concurrency and no colours in the place of kfp.local's own."""

    class Loop(enhanced_dag_orchestrator.ParallelExecutor):  # type: ignore[misc]  # kfp has no types
        def __init__(self, _max_workers: int | None = None) -> None:
            self.conservative_max = self.max_workers = session.request.at_once

        def execute_parallel_tasks(self, tasks: Any, *args: Any, **kwargs: Any) -> Any:
            session.at_once = min(len(tasks), session.request.at_once)
            try:
                return super().execute_parallel_tasks(tasks, *args, **kwargs)
            finally:
                session.at_once = 1

    enhanced_dag_orchestrator.ParallelExecutor = Loop
    step: Callable[..., Step] = partial(Step, session)
    subprocess_task_handler.SubprocessTaskHandler = step
    if session.request.runner == "docker":
        task_dispatcher.docker_task_handler.DockerTaskHandler = step
    executor_output_utils.add_type_to_executor_output = partial(
        _with_artifacts, executor_output_utils.add_type_to_executor_output
    )
    left_out.adapt()
    logging_utils.indented_print = nullcontext
    logging_utils.local_logger_context = nullcontext


def _with_artifacts(theirs: Callable[..., Any], *, executor_input: Any, executor_output: Any) -> Any:
    """The output of a step with all artifacts that it was to write: kfp.local knows only those of kfp's own executor."""
    for name, artifact in executor_input.outputs.artifacts.items():
        if name not in executor_output.artifacts:
            executor_output.artifacts[name].CopyFrom(artifact)
    return theirs(executor_input=executor_input, executor_output=executor_output)


def _portable(value: Any) -> Any:
    """An output as JSON; an artifact by its name, URI and metadata."""
    if isinstance(value, dsl.Artifact):
        return {"name": value.name, "uri": value.uri, "metadata": value.metadata}
    return value


def _remove(folder: Path) -> None:
    """Remove the folder of a run that goes on: under another name, so that nothing new is written there."""
    gone = folder.with_name(f"{folder.name}.gone")
    with suppress(OSError):
        folder.rename(gone)
    for _ in range(_REMOVALS):
        shutil.rmtree(gone, ignore_errors=True)  # a step may have written to it meanwhile
        if not gone.exists():
            return
        time.sleep(_PARENT_SECONDS / 10)


def _leave_when_told(session: Session) -> None:
    """End with everything that was started, on SIGTERM and when the parent is gone."""

    def leave() -> None:
        try:
            if session.request.runner == "docker":
                session.containers.remove_all()
        finally:
            os.killpg(0, signal.SIGKILL)

    def told(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # not in this thread: a container whose start it has in hand could never become known
        threading.Thread(target=leave).start()

    def watch() -> None:
        # not the parent that it has now: the client may have ended while kfp was imported
        while os.getppid() == session.request.parent:
            time.sleep(_PARENT_SECONDS)
        _remove(session.folder)  # nobody else is left to do it
        leave()

    signal.signal(signal.SIGTERM, told)
    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
