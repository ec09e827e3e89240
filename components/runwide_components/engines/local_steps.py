"""Run the command of one step on this machine, in a subprocess or in a container."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from kfp.local import subprocess_task_handler

from runwide.errors import EngineError
from runwide_components.engines.local_logs import StepLines, copy
from runwide_components.engines.local_surroundings import ORDERED, for_subprocess

if TYPE_CHECKING:
    from pathlib import Path

    from runwide_components.engines.local_run import Step


LABEL = "runwide.run"
_START_SECONDS = 5.0  # for starts in progress when the run ends; without a pull Docker needs well below one
_REMOVE_SECONDS = 3.0


class Containers:
    """Starts containers, and removes all of them, even if Docker is just creating one.

    Docker finishes a request that creates a container even when its sender dies. So `remove_all` waits for starts in
    progress, and allows no new ones.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._changed = threading.Condition()
        self._starting = 0
        self._ended = False

    def start(self, client: Any, image: str, command: list[str], **options: Any) -> Any:
        """Start a container.

        Returns:
            The container, which the caller removes.

        Raises:
            DockerException: The container cannot be started, or the run is over.
        """
        with self._changed:
            if self._ended:
                raise docker_package().errors.DockerException("the run is over")
            self._starting += 1
        try:
            return _started(client, image, command, labels={LABEL: self._run}, **options)
        finally:
            with self._changed:
                self._starting -= 1
                self._changed.notify_all()

    def remove_all(self) -> None:
        """Refuse further starts, and remove all containers of the run."""
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: not self._starting, _START_SECONDS)
        docker = docker_package()
        with closing(docker.from_env()) as client:
            deadline = time.monotonic() + _REMOVE_SECONDS
            while (found := self._existing(client)) and time.monotonic() < deadline:
                for container in found:
                    # its step may remove it at the same moment; the others still have to go
                    with suppress(docker.errors.APIError):
                        client.api.remove_container(container["Id"], force=True, v=True)

    def _existing(self, client: Any) -> list[Any]:
        # the client's own list inspects each container, and fails when one has just been removed
        found: list[Any] = client.api.containers(all=True, filters={"label": f"{LABEL}={self._run}"})
        return found


def _started(client: Any, image: str, command: list[str], **options: Any) -> Any:
    """Start a container; remove it if it cannot start, which docker-py's own ``run`` does not do."""
    errors = docker_package().errors
    try:
        container = client.containers.create(image, command, **options)
    except errors.ImageNotFound:
        client.images.pull(image)
        container = client.containers.create(image, command, **options)
    try:
        container.start()
    except errors.DockerException:
        with suppress(errors.APIError):  # `remove_all` may remove it at the same moment
            container.remove(force=True, v=True)
        raise
    return container


def docker_package() -> Any:
    """Import the docker package by name: type checkers would take this repository's folder ``docker`` for it."""
    try:
        return import_module("docker")
    except ImportError as error:
        raise EngineError(
            "the docker package is not installed", hint="pip install 'runwide[docker]'"
        ) from error


def version_in(image: str) -> str | None:
    """Return the release of runwide in an image; None if the image does not report one."""
    docker = docker_package()
    with closing(docker.from_env()) as client:
        try:
            said = client.containers.run(image, ["runwide", "--version"], remove=True, network_mode="none")
        except docker.errors.DockerException:
            return None
    return str(said.decode(errors="replace").strip().rpartition(" ")[2]) or None


def check_docker(image: str | None) -> None:
    """Check that Docker answers, and has an image."""
    docker = docker_package()
    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        hint = 'start Docker, or use Local("subprocess")'
        raise EngineError(f"no Docker engine answers: {error}", hint=hint) from error
    with closing(client):
        if image is not None:
            _check_image(docker, client, image)


def _check_image(docker: Any, client: Any, image: str) -> None:
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound as error:
        hint = "build or pull it, or name another one with RUNWIDE_IMAGE"
        raise EngineError("Docker does not have this image", uri=image, hint=hint) from error
    except docker.errors.APIError as error:
        raise EngineError(f"Docker refused: {error.explanation}", uri=image) from error


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
