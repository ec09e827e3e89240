"""Run the command of one step on this machine, in a subprocess or in a container, with its output in a file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from typing import IO, TYPE_CHECKING

from kfp.local import subprocess_task_handler

from runwide_components.engines.containers import docker_package
from runwide_components.engines.local_environment import ORDERED, for_subprocess
from runwide_components.engines.local_logs import StepLines, copy

if TYPE_CHECKING:
    from pathlib import Path

    from runwide_components.engines.local_run import Step

_LAST_SECONDS = 5.0  # for the last lines of a step; a process that it left running may print for longer


def in_subprocess(step: Step, log: IO[bytes], lines: StepLines, *, work: Path, home: Path) -> int:
    """Run a step's command on this machine, and return its exit code."""
    command = step.full_command
    if command[0] == "runwide":  # the one of this Python, not the first on PATH
        command = [sys.executable, "-c", "from runwide.cli import main; main()", *command[1:]]
    elif "kfp.dsl.executor_main" in " ".join(command):
        command = subprocess_task_handler.replace_python_executable(command, sys.executable)
    session = step.session
    environment = {
        **for_subprocess(os.environ, home),
        "TMPDIR": str(session.folder / "tmp"),  # each lightweight component of kfp leaves a temporary folder
        **step.environment(),
    }
    environment.pop("RUNWIDE_IMAGE", None)  # no image is used
    try:
        return _run(command, log, lines, cwd=work, environment=environment)
    except OSError as error:
        log.write(f"cannot start {command[0]}: {error}\n".encode())
        return 127  # as a shell returns for a missing command


def _run(
    command: list[str], log: IO[bytes], lines: StepLines, *, cwd: Path, environment: dict[str, str]
) -> int:
    if not lines.follows:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=cwd, env=environment
        )
        return process.wait()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd, env=environment
    )  # fmt: skip
    reader = threading.Thread(target=copy, args=(process.stdout, log, lines), daemon=True)
    reader.start()
    code = process.wait()
    reader.join(_LAST_SECONDS)
    return code


def in_container(step: Step, log: IO[bytes], lines: StepLines) -> int:
    """Run a step's command in a container of its image, and return its exit code."""
    docker = docker_package()
    session = step.session
    with closing(docker.from_env()) as client:
        mode = "rw,z" if "name=selinux" in client.info().get("SecurityOptions", []) else "rw"
        folders = (step.pipeline_root, *session.request.mounts)
        volumes = {folder: {"bind": folder, "mode": mode} for folder in folders}
        files = [
            *session.request.files.values(),
            *(session.request.key_files.values() if step.is_ours else ()),
        ]
        volumes |= {file: {"bind": file, "mode": "ro"} for file in files}
        try:
            container = session.containers.start(
                client,
                step.image,
                step.full_command,
                volumes=volumes,
                environment={"HOME": "/tmp", **ORDERED, **step.environment()},  # noqa: S108 - the image has no home for this user
                **step.runner.container_run_args,
            )
        except docker.errors.DockerException as error:
            log.write(f"cannot start a container of {step.image}: {error}\n".encode())
            return 125  # as `docker run` returns for a container that cannot start
        try:
            for chunk in container.logs(stream=True, follow=True):
                log.write(chunk)
                lines.add(chunk)
            lines.end()
            return int(container.wait()["StatusCode"])
        finally:
            container.remove(force=True, v=True)
