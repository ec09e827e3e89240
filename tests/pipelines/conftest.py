"""Fixtures of the tests of pipelines: the local engine, once in subprocesses and once in containers of the image."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager

import pytest

from runwide.testing.plugin import gcs, gcs_server
from runwide_components import Local

__all__ = ["gcs", "gcs_server"]

REGISTRY = (
    "europe-west1-docker.pkg.dev/shop/runwide/runwide:0.1.0-py311"  # the local servers run no containers
)


@pytest.fixture(scope="session")
def image_of_this_python(engine, image) -> str:
    """The image, if functions of this Python can run in it: they travel as bytecode."""
    ask = ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    theirs = engine.containers.run(image, ask, remove=True).decode().strip()
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if theirs != ours:
        pytest.skip(f"functions of Python {ours} do not run in the image, which has {theirs}")
    return image


@pytest.fixture(params=["subprocess", pytest.param("docker", marks=pytest.mark.docker)])
def local(request, monkeypatch):
    """Make a local engine of each kind, with steps in the image under test."""
    if request.param == "docker":
        monkeypatch.setenv("RUNWIDE_IMAGE", request.getfixturevalue("image_of_this_python"))

    def make(**options) -> Local:
        return Local(request.param, **options)

    return make


@pytest.fixture
def meet(tmp_path):
    """A function that ends only when as many of it as were asked for run at the same time, and its folder."""
    folder = tmp_path / "meeting"
    folder.mkdir()

    def make(expected: int):
        place = str(folder)

        def meet_others(item):
            import time
            from pathlib import Path

            (Path(place) / str(item)).touch()
            deadline = time.monotonic() + 60
            while len(list(Path(place).iterdir())) < expected:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{item} waited for others that never came")
                time.sleep(0.02)
            return item

        return meet_others

    make.folder = folder
    return make


@pytest.fixture
def interrupted_once():
    """A block in which a Ctrl-C arrives in the main thread once something has begun."""

    @contextmanager
    def block(begun):
        left = threading.Event()

        def interrupt():
            try:
                while not begun():
                    if left.wait(0.05):
                        return
            finally:  # also after an error, which then fails the test instead of a block that waits for ever
                if not left.is_set():
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()

    return block


@pytest.fixture(scope="session")
def aiplatform():
    """Google's client, loaded once: that takes seconds."""
    from google.cloud import aiplatform

    return aiplatform


@pytest.fixture
def vertex_server(aiplatform, monkeypatch):
    """A server that speaks Vertex AI's API and runs what it is given."""
    from vertex_server import VertexServer

    monkeypatch.setenv("RUNWIDE_IMAGE", REGISTRY)
    with VertexServer() as server:
        yield server


@pytest.fixture
def vertex(vertex_server, gcs, monkeypatch):
    """Make engines that talk to that server, and whose pipeline root is on the emulator."""
    from runwide_components import Vertex

    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")  # its thread outlives a test

    def make(**options) -> Vertex:
        given = {"pipeline_root": f"{gcs}/root", "poll": (0.1, 0.5), **options}
        return Vertex(
            "shop",
            "europe-west1",
            api_endpoint=vertex_server.url,
            **given,
        )

    return make


@pytest.fixture
def kubeflow_server(monkeypatch):
    """A server that speaks the API of Kubeflow Pipelines and runs what it is given."""
    from kubeflow_server import KubeflowServer

    monkeypatch.setenv("RUNWIDE_IMAGE", REGISTRY)
    with KubeflowServer() as server:
        yield server


@pytest.fixture
def kubeflow(kubeflow_server, tmp_path):
    """Make engines that talk to that server, whose steps see the test's folder."""
    from runwide_components import Kubeflow

    def make(**options) -> Kubeflow:
        given = {"poll": (0.1, 0.5), "token": "secret", "mounts": [str(tmp_path)], **options}
        return Kubeflow(kubeflow_server.url, **given)

    return make
