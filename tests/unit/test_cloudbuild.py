"""cloudbuild.yaml defines all names that it uses, tests the image that it publishes, and is read as Cloud Build reads it."""

from __future__ import annotations

import re
from pathlib import Path

import cloudbuild
import pytest
import yaml

ROOT = Path(__file__).parents[2]


SUBMITTED = {"PROJECT_ID": "project", "BUILD_ID": "1"}  # what `gcloud builds submit` knows
TRIGGERED = {**SUBMITTED, "COMMIT_SHA": "c0ffee", "SHORT_SHA": "c0f", "TAG_NAME": "1.2.3"}


@pytest.fixture
def build() -> dict:
    return yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())


# the file


def test_its_defaults_are_enough_for_gcloud_builds_submit(build):
    plan = cloudbuild.plan(build, {}, SUBMITTED)
    uri = "europe-west1-docker.pkg.dev/project/runwide/runwide"
    assert plan.images == [f"{uri}:dev-py311", f"{uri}:dev"]
    assert all(re.fullmatch(r"[\w./-]+(:[\w.-]+)?", step.image) for step in plan.steps)


def test_a_trigger_may_name_the_tag_and_the_python(build):
    given = {"_TAG": "1.2.3", "_PYTHON": "py313", "_ALSO": "latest-py313"}
    plan = cloudbuild.plan(build, given, TRIGGERED)
    assert [image.rpartition(":")[2] for image in plan.images] == ["1.2.3-py313", "latest-py313"]
    made = next(step for step in plan.steps if step.id == "build")
    assert "REVISION=c0ffee" in made.env
    assert "PYTHON=py313" in made.env


def test_the_published_image_was_checked_built_run_listed_and_judged_before(build):
    plan = cloudbuild.plan(build, {}, SUBMITTED)
    steps = {step.id: step for step in plan.steps}
    assert list(steps) == ["check", "last", "build", "inside", "outside", "bill", "gate"]
    published = plan.images[0]
    assert steps["inside"].image == published
    assert f"RUNWIDE_IMAGE={published}" in steps["outside"].env
    assert published in steps["bill"].args[-1]
    name = next(word for word in steps["build"].env if word.startswith("NAME="))[5:]
    tags = next(word for word in steps["build"].env if word.startswith("TAGS="))[5:].split()
    assert [f"{name}:{tag}" for tag in tags] == plan.images


def test_no_step_pushes_so_that_cloud_build_attests_the_origin_of_the_image(build):
    assert not re.search(r"\bpush\b", yaml.safe_dump(build["steps"]))
    assert build["options"]["requestedVerifyOption"] == "VERIFIED"


def test_the_build_is_the_one_that_make_image_calls(build):
    script = next(step for step in build["steps"] if step["id"] == "build")["args"][0]
    assert (ROOT / script).stat().st_mode & 0o111
    assert f"@{script}" in (ROOT / "Makefile").read_text()


def test_files_that_the_steps_name_exist(build):
    named = set(re.findall(r"(?<![\w./-])(?:docker|tests|\.ci)/[\w./-]+", yaml.safe_dump(build["steps"])))
    assert {"docker/build", "docker/audit.py", ".ci/venv", "tests/unit"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_logs_need_no_bucket(build):
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"


# reading it


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"substitutions": {"_UNUSED": "x"}}, "unused substitutions: _UNUSED"),
        ({"steps": [{"name": "${_NOBODY}"}]}, "without a value: _NOBODY"),
        ({"substitutions": {"_A": "$_B", "_B": "$_A x"}}, "in a circle"),
        ({"steps": [{"name": "x", "waitFor": ["-"]}]}, "not supported here: waitFor"),
        ({"artifacts": {}}, "not supported here: artifacts"),
    ],
)
def test_a_build_that_cloud_build_or_the_runner_cannot_run_is_refused(change, reason):
    build = {"steps": [{"name": "image"}], "options": {"dynamicSubstitutions": True}, **change}
    with pytest.raises(cloudbuild.BuildError, match=re.escape(reason)):
        cloudbuild.plan(build, {}, {})


def test_a_substitution_that_the_file_does_not_name_is_refused(build):
    with pytest.raises(cloudbuild.BuildError, match="does not name: _TAGG"):
        cloudbuild.plan(build, {"_TAGG": "1"}, SUBMITTED)


def test_substitutions_of_triggers_are_empty_without_a_trigger(build):
    made = next(step for step in cloudbuild.plan(build, {}, SUBMITTED).steps if step.id == "build")
    assert "REVISION=" in made.env


def test_a_substitution_may_name_another_one_and_two_dollars_are_one():
    build = {
        "substitutions": {"_A": "${_B}/x", "_B": "y"},
        "steps": [{"name": "$_A", "args": ["$$HOME ${_A} $lower"]}],
        "options": {"dynamicSubstitutions": True},
    }
    step = cloudbuild.plan(build, {"_B": "z"}, {}).steps[0]
    assert (step.image, step.args) == ("z/x", ["$HOME z/x $lower"])
