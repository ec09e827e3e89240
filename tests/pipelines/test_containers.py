"""No container of a run outlives it, whenever its end comes."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from runwide_components.engines.local_steps import LABEL, Containers, docker_package

pytestmark = pytest.mark.docker


def left(engine, run):
    return engine.api.containers(all=True, filters={"label": f"{LABEL}={run}"})


@pytest.fixture
def run():
    """A label that no other test, nor another checkout's, has given."""
    return uuid.uuid4().hex


@pytest.mark.parametrize("delay", [0, 0.02, 0.1, 0.3])
def test_none_is_left_when_the_end_comes_while_they_are_started(engine, image, run, delay):
    containers = Containers(run)
    under_way = threading.Event()

    def start():
        under_way.set()
        with suppress(docker_package().errors.DockerException):
            containers.start(engine, image, ["sleep", "60"], network_mode="none")

    with ThreadPoolExecutor(3) as threads:
        starts = [threads.submit(start) for _ in range(3)]
        under_way.wait()
        time.sleep(delay)
        containers.remove_all()
        for each in starts:
            each.result()
    assert left(engine, run) == []


def test_no_container_is_started_after_the_end(engine, image, run):
    containers = Containers(run)
    containers.remove_all()
    with pytest.raises(docker_package().errors.DockerException, match="the run is over"):
        containers.start(engine, image, ["sleep", "60"])
    assert left(engine, run) == []


def test_a_container_that_cannot_be_started_is_not_left(engine, image, run):
    containers = Containers(run)
    with pytest.raises(docker_package().errors.DockerException, match="no-such-command"):
        containers.start(engine, image, [], entrypoint=["no-such-command"], network_mode="none")
    assert left(engine, run) == []
