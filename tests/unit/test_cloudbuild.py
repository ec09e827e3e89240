"""cloudbuild.yaml names nothing that it does not say, and runs what it publishes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILT_IN = {"PROJECT_ID", "COMMIT_SHA"}


@pytest.fixture(scope="module")
def build() -> dict:
    return yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())


def test_every_substitution_has_a_default_and_is_used(build):
    declared = set(build["substitutions"])
    used = set(re.findall(r"\$\{(\w+)\}", yaml.safe_dump(build)))
    assert used == declared | (used & BUILT_IN)
    assert all(build["substitutions"].values())


def test_the_image_that_is_published_has_run_as_a_step_before(build):
    steps = {step["id"]: step for step in build["steps"]}
    assert list(steps) == ["last", "build", "try"]
    assert build["images"] == [steps["try"]["name"]]
    assert f"--tag={steps['try']['name']}" in steps["build"]["args"]


def test_the_build_is_the_one_that_make_image_calls(build):
    script = next(step for step in build["steps"] if step["id"] == "build")["args"][0]
    assert (ROOT / script).stat().st_mode & 0o111
    assert f"@{script}" in (ROOT / "Makefile").read_text()


def test_logs_need_no_bucket(build):
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"
