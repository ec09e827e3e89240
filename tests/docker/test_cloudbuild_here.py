"""Builds run here as in Cloud Build: steps, pushed images, and a pipeline in the pushed image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.docker, pytest.mark.mounts]

ROOT = Path(__file__).parents[2]
# A build that tags and publishes the image under test, with the kinds of steps of cloudbuild.yaml.
SMALL = {
    "substitutions": {
        "_HOST": "nowhere",
        "_BUILD_NETWORK": "default",
        "_URI": "${_HOST}/${PROJECT_ID}/small",
    },
    "steps": [
        {
            "id": "tag",
            "name": "gcr.io/cloud-builders/docker",
            "entrypoint": "bash",
            "env": ["NETWORK=${_BUILD_NETWORK}"],
            "args": ["-euc", 'test "$$NETWORK" = host && docker tag IMAGE ${_URI}:1'],
        },
        {
            "id": "run",
            "name": "${_URI}:1",
            "entrypoint": "sh",
            "args": [
                "-euc",
                'test "$$(id -u)" = 1000 && test -e /workspace/cloudbuild.yaml && runwide doctor',
            ],
        },
    ],
    "images": ["${_URI}:1"],
    "options": {"dynamicSubstitutions": True},
}


@pytest.fixture
def carry_out(tmp_path, image):
    """Run a build, and return its result."""
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("tools/run-cloudbuild runs in the checkout's own environment, which `make` sets up")

    def run(build: dict | None, *words: str, seconds: int = 300) -> subprocess.CompletedProcess[str]:
        command: list = [ROOT / "tools" / "run-cloudbuild", *words]
        if build is not None:
            path = tmp_path / "cloudbuild.yaml"
            path.write_text(yaml.safe_dump(build).replace("IMAGE", image))
            command.append(path)
        environment = {key: value for key, value in os.environ.items() if key != "RUNWIDE_TESTS_PID"}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )

    return run


def left_behind(engine) -> list[str]:
    # One request, since other tests remove images meanwhile.
    tags = [tag for image in engine.api.images() for tag in image["RepoTags"] or ()]
    return [tag for tag in tags if tag.startswith("127.0.0.1:")]


def test_an_image_that_passes_is_pushed_and_a_pipeline_runs_in_it_by_its_digest(carry_out, engine):
    ran = carry_out(SMALL)
    assert ran.returncode == 0, ran.stderr
    said = [line for line in ran.stderr.splitlines() if line.startswith("cloudbuild: ")]
    assert any("pushed 127.0.0.1:" in line and "/runwide-local/small@sha256:" in line for line in said)
    assert "a pipeline of four components ran in 127.0.0.1:" in ran.stdout
    assert said[-1] == "cloudbuild: every step passed"
    assert left_behind(engine) == []


def test_a_step_that_fails_ends_the_build_and_no_image_is_pushed(carry_out, engine):
    failing = {"id": "fail", "name": "${_URI}:1", "entrypoint": "sh", "args": ["-c", "exit 7"]}
    ran = carry_out({**SMALL, "steps": [*SMALL["steps"], failing]})
    assert ran.returncode == 1
    assert "step fail failed with 7" in ran.stderr
    assert "pushed" not in ran.stderr
    assert left_behind(engine) == []


def test_an_image_that_no_step_has_made_is_a_failure_and_no_image_is_pushed(carry_out):
    ran = carry_out({**SMALL, "images": ["${_URI}:1", "${_URI}:2"]})
    assert ran.returncode == 1
    assert "no step has made 127.0.0.1:" in ran.stderr
    assert "pushed" not in ran.stderr


@pytest.mark.slow
def test_the_steps_of_cloudbuild_yaml_pass_here(carry_out, engine):
    ran = carry_out(None, "--advisories", str(ROOT / "tools" / "advisories-example.json"), seconds=3000)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-2000:]
    for step in ("check", "last", "build", "inside", "outside", "bill", "gate"):
        assert f"cloudbuild: step {step} done" in ran.stderr
    assert ran.stderr.splitlines()[-1] == "cloudbuild: every step passed"
    assert left_behind(engine) == []
