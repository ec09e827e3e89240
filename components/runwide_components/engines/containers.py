"""The containers of one local run: each is started under the run's label, and none outlives the run."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from importlib import import_module
from typing import Any

from runwide.errors import EngineError

LABEL = "runwide.run"
_START_SECONDS = 5.0  # for starts under way when the run ends; without a pull the engine takes well below one
_REMOVE_SECONDS = 3.0


class Containers:
    """Starts containers and removes them all, also those that the engine was about to make when it was told to.

    A request that creates a container is carried out by the engine even when its sender dies. So an end waits for the
    starts that are under way, and allows no further one.

    Args:
        run: The run, which is their label.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._changed = threading.Condition()
        self._starting = 0
        self._ended = False

    def start(self, client: Any, image: str, command: list[str], **options: Any) -> Any:
        """Start a container.

        Args:
            client: A client of docker-py.
            image: Its image.
            command: What it runs.
            **options: Of docker-py's ``containers.create``.

        Returns:
            The container, which the caller removes.

        Raises:
            DockerException: It cannot be started, or the run is over.
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
        """Let no further one start, and remove those that are there."""
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: not self._starting, _START_SECONDS)
        docker = docker_package()
        with closing(docker.from_env()) as client:
            deadline = time.monotonic() + _REMOVE_SECONDS
            while (there := self._there(client)) and time.monotonic() < deadline:
                for container in there:
                    # Its step may be removing it at this moment, which must not keep the others.
                    with suppress(docker.errors.APIError):
                        client.api.remove_container(container["Id"], force=True, v=True)

    def _there(self, client: Any) -> list[Any]:
        # Not the client's own list: it inspects each, and fails when one is gone by then.
        there: list[Any] = client.api.containers(all=True, filters={"label": f"{LABEL}={self._run}"})
        return there


def _started(client: Any, image: str, command: list[str], **options: Any) -> Any:
    """A container that runs; one that cannot is not left behind, as docker-py's own ``run`` leaves it."""
    errors = docker_package().errors
    try:
        container = client.containers.create(image, command, **options)
    except errors.ImageNotFound:
        client.images.pull(image)
        container = client.containers.create(image, command, **options)
    try:
        container.start()
    except errors.DockerException:
        with suppress(errors.APIError):  # the run's end may be removing it at this moment
            container.remove(force=True, v=True)
        raise
    return container


def docker_package() -> Any:
    """The docker package, by name: this repository has a folder ``docker``, which type checkers take for it.

    Raises:
        EngineError: It is not installed.
    """
    try:
        return import_module("docker")
    except ImportError as error:
        raise EngineError("the docker package is missing", hint="pip install 'runwide[docker]'") from error


def version_in(image: str) -> str | None:
    """The release of runwide in an image; None where it does not tell."""
    docker = docker_package()
    with closing(docker.from_env()) as client:
        try:
            said = client.containers.run(image, ["runwide", "--version"], remove=True, network_mode="none")
        except docker.errors.DockerException:
            return None
    return str(said.decode(errors="replace").strip().rpartition(" ")[2]) or None


def check_docker(image: str | None) -> None:
    """Make sure that an engine answers, and has an image where one is named.

    Raises:
        EngineError: It does not.
    """
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
        raise EngineError("the Docker engine has no such image", uri=image, hint=hint) from error
    except docker.errors.APIError as error:
        raise EngineError(f"the Docker engine refused: {error.explanation}", uri=image) from error
