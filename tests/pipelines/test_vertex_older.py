"""Vertex by the older client, 1.x of google-cloud-aiplatform, beside Google's own pipeline components, which want that one.

They are in an environment of their own, made once from requirements-vertex1.lock.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.gcs,
    pytest.mark.xdist_group("vertex"),
]  # one process pays for the import of Google's client
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import runwide
import google_cloud_pipeline_components
from google.cloud import aiplatform
from kfp import dsl
from runwide.errors import EngineError, StepFailed
from runwide_components import Vertex, base_image, fan_out

assert aiplatform.__version__.startswith("1."), aiplatform.__version__
engine = Vertex("shop", "europe-west1", api_endpoint={url!r}, pipeline_root={root!r}, poll=(0.1, 0.5))


@dsl.component(base_image=base_image(), install_kfp_package=False)
def fail():
    raise RuntimeError("on purpose")


@dsl.pipeline(name="squares")
def squares(numbers: list, store: str) -> str:
    return fan_out(lambda x: x * x, numbers, components=2, store=store).output


arguments = {{"numbers": [1, 2, 3], "store": {store!r}}}
run = engine.submit(squares, arguments, name="nightly")
assert engine.submit(squares, arguments, name="nightly").id == run.id
print(runwide.load(run.wait(120)["Output"]), engine.attach("nightly").state().value)
try:
    engine.submit(squares, {{**arguments, "numbers": [4]}}, name="nightly")
except EngineError as error:
    print(error.message)
try:
    engine.submit(fail, name="failing").wait(60)
except StepFailed as error:
    print(error.message)
"""


@pytest.fixture(scope="module")
def older() -> Path:
    """The Python of an environment with the older client; made where the lock or this Python is another one."""
    lock = ROOT / "requirements-vertex1.lock"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode() + str(ROOT).encode()).hexdigest()[:16]
    made = ROOT / ".cache" / f"vertex1-{digest}"
    if not (made / "ready").exists():
        subprocess.run(["make", "-s", ".venv-lock/bin/uv"], cwd=ROOT, check=True)
        uv, python = ROOT / ".venv-lock/bin/uv", ["--python", made / "bin/python"]
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, made], check=True)
        subprocess.run([uv, "pip", "install", "-q", *python, "--require-hashes", "-r", lock], check=True)
        subprocess.run([uv, "pip", "install", "-q", *python, "--no-deps", "-e", ROOT], check=True)
        (made / "ready").touch()
    subprocess.run(
        [ROOT / ".venv-lock/bin/uv", "pip", "check", "-q", "--python", made / "bin/python"], check=True
    )
    return made / "bin/python"


def test_a_program_runs_with_the_older_client_beside_googles_own_components(
    older, vertex_server, gcs, tmp_path
):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(url=vertex_server.url, root=f"{gcs}/root", store=f"{gcs}/jobs"))
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [older, program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results, refused, failed = done.stdout.splitlines()
    assert results == "[1, 4, 9] succeeded"
    assert "with another pipeline or other arguments" in refused
    assert "fail failed: " in failed
    assert "RuntimeError: on purpose" in failed
