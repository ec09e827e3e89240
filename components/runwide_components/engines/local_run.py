"""The process of one run on this machine: kfp.local with a step and a loop of ours.

kfp.local keeps its configuration, the handlers of the root logger and ``builtins.print`` in globals, and its threads change
them without a lock. It runs two iterations of a loop at a time and ignores ``parallelism``, rejects container components in
subprocesses, forgets the artifacts of container components, and takes a container that vanishes before its logs are read for
a success. So it has a process without other users of these globals, and a step and a loop of ours replace its own. `_patch`
replaces semi-private names of kfp; a test checks them against the installed kfp.
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
from kfp.local import (
    executor_input_utils,
    executor_output_utils,
    logging_utils,
    status,
    subprocess_task_handler,
    task_dispatcher,
)
from kfp.local.orchestrator import enhanced_dag_orchestrator
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from kfp.local.pip_install_manager import pip_install_manager

from runwide import __version__, settings
from runwide.json_text import json_of
from runwide.log import Log
from runwide_components.engines.local_handle import LOG_LINES, Request
from runwide_components.engines.local_logs import StepLines
from runwide_components.engines.local_steps import Containers, in_container, in_subprocess, version_in
from runwide_components.engines.local_surroundings import for_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def patch_optional() -> None:
    """Patch kfp.local: pass on None for a parameter without value and default, and nothing to a container.

    kfp.local 2.17 fails on an optional parameter without a default that was left out; other engines pass nothing on.
    """
    joined = OrchestratorUtils.join_user_inputs_and_defaults
    constructed = executor_input_utils.construct_executor_input

    def join(*, dag_arguments: dict[str, Any], dag_inputs_spec: Any) -> dict[str, Any]:
        nothing = _without_value(dag_inputs_spec, dag_arguments)
        return dict(joined(dag_arguments={**nothing, **dag_arguments}, dag_inputs_spec=dag_inputs_spec))

    def construct(*, arguments: dict[str, Any], **options: Any) -> Any:
        there = {name: value for name, value in arguments.items() if value is not None}
        made = constructed(arguments=there, **options)
        values = made.inputs.parameter_values
        for name in [name for name, value in values.items() if value.WhichOneof("kind") is None]:
            del values[name]
        return made

    OrchestratorUtils.join_user_inputs_and_defaults = join
    executor_input_utils.construct_executor_input = construct


def _without_value(spec: Any, arguments: dict[str, Any]) -> dict[str, None]:
    return {
        name: None
        for name, one in spec.parameters.items()
        if name not in arguments and one.is_optional and one.default_value.WhichOneof("kind") is None
    }


_log = Log("engine")
_KEYS = ("RUNWIDE_SIGNING_KEY", "RUNWIDE_SIGNING_KEY_SECRET")  # for runwide's own steps only
_WRONG_CALL = 2  # exit code of click
_UNKNOWN = re.compile(r"No such (?:option|command):? '?(-*[\w-]+)")
_REMOVALS = 20
_PARENT_SECONDS = 1.0  # between looks at whether the parent still runs


@dataclass
class Session:
    """The run of this process."""

    request: Request
    folder: Path
    at_once: int = 1
    failed: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)  # command -> its last failure
    lock: threading.Lock = field(default_factory=threading.Lock)
    # held while the process ends, so that it does not end while its folder is being removed
    ending: threading.Lock = field(default_factory=threading.Lock)
    started: int = 0
    containers: Containers = field(init=False)

    def __post_init__(self) -> None:
        self.containers = Containers(self.request.run)

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The steps that failed and did not succeed in a later attempt, in order."""
        return list(self.failed.values())

    @property
    def has_client(self) -> bool:
        """True as long as the client that asked for the run is there: it may have ended while kfp was imported."""
        return os.getppid() == self.request.parent

    def next_log(self, name: str) -> Path:
        """Return the path of a new log file for a step."""
        with self.lock:
            self.started += 1
            return self.folder / "logs" / f"{self.started:04d}-{re.sub(r'[^A-Za-z0-9]+', '-', name)}.log"

    @contextmanager
    def places(self, log: Path) -> Iterator[tuple[Path, Path]]:
        """Create an empty working directory and an empty home for one step, and remove them afterwards."""
        made = self.folder / "steps" / log.stem
        work, home = made / "work", made / "home"
        for folder in (work, home):
            folder.mkdir(parents=True)
        try:
            yield work, home
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Return the variables of each step; steps that run at the same time share the cores of this machine."""
        workers = str(max(1, self.request.cores // self.at_once))
        return {"RUNWIDE_WORKERS": workers, **for_all(os.environ), **self.request.files}

    def keys(self) -> dict[str, str]:
        """Return further variables of runwide's own steps, with the keys that sign and verify."""
        known = {name: text for name in _KEYS if (text := settings.value(name)) is not None}
        return {**known, **self.request.key_files}


@dataclass
class Step:
    """One step, which replaces a task handler of kfp: it has the same arguments, and `run`."""

    session: Session
    image: str
    full_command: list[str]
    pipeline_root: str
    runner: Any
    env_vars: dict[str, str]

    def run(self) -> status.Status:
        """Run the step to its end, with its output in a file."""
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
            self.session.failed.pop(tuple(self.full_command), None)  # a later attempt succeeded
            return status.Status.SUCCESS
        _log.error("step.failed", step=name, seconds=seconds, exitcode=code)
        tail = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        self.session.failed[tuple(self.full_command)] = {
            "step": name, "exitcode": code, "log": "\n".join(tail), "path": path.name,
            "uri": job_of(self.full_command),
        }  # fmt: skip
        return status.Status.FAILURE

    def _other_release(self, log: str) -> str:
        """Return a message for an image whose release of runwide does not know an option; empty for other errors."""
        unknown = _UNKNOWN.search(log)
        if self.full_command[0] != "runwide" or unknown is None:
            return ""
        theirs = version_in(self.image) or "of another release"
        theirs = f"an earlier build of {theirs}" if theirs == __version__ else theirs
        return (
            f"runwide: EnvironmentMismatch: the image has runwide {theirs}, which does not know {unknown[1]}; this is "
            f"{__version__}: rebuild the image, or give one of this release in image= or RUNWIDE_IMAGE [{self.image}]\n"
        )

    @property
    def is_ours(self) -> bool:
        """True for runwide's own steps, and for steps of the author in the image of these."""
        return self.full_command[:1] == ["runwide"] or self.image in self.session.request.images

    def environment(self) -> dict[str, str]:
        """Return the variables of the step, besides the environment of its image or of this machine."""
        return {
            **self.session.environment(),
            **(self.session.keys() if self.is_ours else {}),
            **self.env_vars,
        }

    def _pip_lock(self) -> Any:
        """Return a lock for a step that starts with pip, as in kfp.local itself: such steps share one environment."""
        installs = any("pip install" in word for word in self.full_command)
        return pip_install_manager.managed_install(self.session.request.runner) if installs else nullcontext()

    def _start(self, log: IO[bytes], path: Path) -> int:
        request = self.session.request
        lines = StepLines(request.follow, step_name(self.full_command))
        if request.runner == "docker":
            return in_container(self, log, lines)
        with self.session.places(path) as (work, home):
            return in_subprocess(self, log, lines, work=work, home=home)


def step_name(command: list[str]) -> str:
    """Return the name of a step for logs and errors, from its command.

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
    """Return the job of one of runwide's own steps; None for any other step.

    Example:
        >>> job_of(["runwide", "gather", "/j/job.json#sha256=00"])
        '/j/job.json#sha256=00'
    """
    return command[2] if command[:2] in (["runwide", "shard"], ["runwide", "gather"]) else None


def main(folder: Path) -> None:
    """Run the request in a folder, and write ``result.json`` beside it."""
    request = Request(**json_of((folder / "request.json").read_text()))
    session = Session(request, folder)
    for name in ("logs", "root", "tmp"):
        (folder / name).mkdir()
    _end_with_client(session)
    try:
        result = _run(session)
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}", "failures": session.failures}
    with session.ending:
        if session.has_client:
            partial_path = folder / "result.json.partial"
            partial_path.write_text(json.dumps(result))
            partial_path.rename(folder / "result.json")
        else:
            _remove(folder)


def _run(session: Session) -> dict[str, Any]:
    request = session.request
    docker = request.runner == "docker"
    _patch(session)
    local.init(
        runner=local.DockerRunner(**request.options) if docker else local.SubprocessRunner(use_venv=False),
        pipeline_root=request.root or str(session.folder / "root"),
        workspace_root=str(session.folder / "workspace"),
    )
    pipeline = components.load_component_from_file(request.spec)
    return {
        "outputs": {name: _portable(value) for name, value in pipeline(**request.arguments).outputs.items()}
    }


def _patch(session: Session) -> None:
    """Replace the steps, the loop and the coloured output of kfp.local."""

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
    patch_optional()
    logging_utils.indented_print = nullcontext
    logging_utils.local_logger_context = nullcontext


def _with_artifacts(theirs: Callable[..., Any], *, executor_input: Any, executor_output: Any) -> Any:
    """Return the output of a step with all artifacts that it declares: kfp.local knows only those of kfp's own executor."""
    for name, artifact in executor_input.outputs.artifacts.items():
        if name not in executor_output.artifacts:
            executor_output.artifacts[name].CopyFrom(artifact)
    return theirs(executor_input=executor_input, executor_output=executor_output)


def _portable(value: Any) -> Any:
    """Return an output as JSON; an artifact by its name, URI and metadata."""
    if isinstance(value, dsl.Artifact):
        return {"name": value.name, "uri": value.uri, "metadata": value.metadata}
    return value


def _remove(folder: Path) -> None:
    """Remove the folder of a run whose steps still run; rename it first, so that they write nothing new into it."""
    gone = folder.with_name(f"{folder.name}.gone")
    with suppress(OSError):
        folder.rename(gone)
    for _ in range(_REMOVALS):
        # a step may have written into it meanwhile, and the run may have made its folder again
        for left in (gone, folder):
            shutil.rmtree(left, ignore_errors=True)
        if not gone.exists() and not folder.exists():
            return
        time.sleep(_PARENT_SECONDS / 10)


def _end_with_client(session: Session) -> None:
    """End the run with all its processes, on SIGTERM and when the parent has ended."""

    def leave() -> None:
        try:
            if session.request.runner == "docker":
                session.containers.remove_all()
        finally:
            os.killpg(0, signal.SIGKILL)

    def on_sigterm(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # not in this thread: it may be starting a container, which would never be registered
        threading.Thread(target=leave).start()

    def watch() -> None:
        while session.has_client:
            time.sleep(_PARENT_SECONDS)
        with session.ending:
            _remove(session.folder)  # the client is gone and cannot
            leave()

    signal.signal(signal.SIGTERM, on_sigterm)
    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
