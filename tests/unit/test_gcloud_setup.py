"""The set-up of a Google Cloud project gives only the rights that are used, with commands that gcloud knows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "docker" / script, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    printed = run("gcloud-setup", "--dry-run", PROJECT="my-project").stdout
    return [shlex.split(line) for line in printed.splitlines() if line.startswith("gcloud ")]


@pytest.fixture(scope="module")
def releases() -> list[list[str]]:
    # The commit is an argument: in Cloud Build, where these tests run too, the upload has no history.
    ran = run("release", "--dry-run", PROJECT="my-project", REVISION=COMMIT)
    assert ran.returncode == 0, ran.stderr
    return [shlex.split(line) for line in ran.stdout.splitlines()]


def bucket(commands: list[list[str]], name: str) -> list[str]:
    return next(
        words for words in commands if words[1:4] == ["storage", "buckets", "create"] and name in words[4]
    )


def roles(commands: list[list[str]], account: str) -> set[tuple[str, str]]:
    """Return the rights of an account: each resource and role."""
    bindings = [words for words in commands if "add-iam-policy-binding" in words]
    return {
        (words[words.index("add-iam-policy-binding") + 1], word.partition("roles/")[2])
        for words in bindings
        if any(account in word for word in words)
        for word in words
        if word.startswith("--role=")
    }


def test_a_dry_run_calls_nothing(tmp_path):
    (tmp_path / "gcloud").write_text("#!/bin/sh\ntouch called\n")
    (tmp_path / "gcloud").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = run("gcloud-setup", "--dry-run", PROJECT="my-project", PATH=path)
    assert ran.returncode == 0
    assert not (tmp_path / "called").exists()
    assert not (ROOT / "called").exists()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"PROJECT": ""}, "PROJECT must be the id"),
        ({"PROJECT": "x; rm -rf"}, "PROJECT must be the id"),
        ({"PROJECT": "my-project", "DAYS": "0"}, "not a number of days"),
        ({"PROJECT": "my-project", "SPILL": "one", "ROOT_OF_PIPELINES": "one"}, "two buckets"),
    ],
)
def test_invalid_variables_are_refused_in_one_line(environment, reason):
    ran = run("gcloud-setup", "--dry-run", **environment)
    assert ran.returncode == 1
    assert reason in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_the_store_is_private_with_uniform_access_and_a_lifecycle(commands):
    words = bucket(commands, "-runwide-spill")
    assert {
        "--uniform-bucket-level-access",
        "--public-access-prevention",
        "--soft-delete-duration=0",
    } <= set(words)
    assert any(word.startswith("--lifecycle-file=") for words in commands for word in words)


def test_the_account_that_builds_may_write_only_images_and_logs(commands):
    assert roles(commands, "runwide-builder") == {
        ("my-project", "logging.logWriter"),
        ("runwide", "artifactregistry.writer"),
        ("gs://my-project_cloudbuild", "storage.objectViewer"),
    }


def test_the_account_that_runs_pipelines_may_use_objects_of_two_buckets_and_read_images(commands):
    assert roles(commands, "runwide-runner") == {
        ("my-project", "aiplatform.user"),
        ("runwide", "artifactregistry.reader"),
        ("gs://my-project-runwide-spill", "storage.objectUser"),
        ("gs://my-project-runwide-root", "storage.objectUser"),
        ("gs://my-project-runwide-root", "storage.legacyBucketReader"),
    }


def test_no_account_gets_a_right_on_the_whole_project_that_it_does_not_need(commands):
    given = {role for account in ("builder", "runner") for _, role in roles(commands, f"runwide-{account}")}
    assert not [role for role in given if re.search(r"\b(owner|editor)$|[aA]dmin", role)]


def test_a_release_is_one_build_for_each_python_and_latest_is_the_default_one(releases):
    given = [
        dict(pair.split("=", 1) for pair in words[-1].partition("=")[2].split(",")) for words in releases
    ]
    assert {(one["_PYTHON"], one["_ALSO"]) for one in given} == {
        ("py310", "latest-py310"),
        ("py311", "latest"),
        ("py312", "latest-py312"),
        ("py313", "latest-py313"),
    }
    assert {one["COMMIT_SHA"] for one in given} == {COMMIT}


def test_gcloud_knows_every_command_and_every_option(commands, releases, tmp_path):
    gcloud = shutil.which("gcloud")
    if not gcloud:
        pytest.skip("there is no gcloud here to ask")
    (tmp_path / "lifecycle.json").write_text("{}")
    # gcloud checks the words before it looks for an account. Here it has no account and no network.
    nobody = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(tmp_path / "config"),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    nobody.pop("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", None)
    kinds = {
        tuple(re.sub(r"=.*", "", word) for word in words if word.startswith("--") or word.isalpha()): words
        for words in [*commands, releases[0], ["gcloud", "storage", "buckets", "list", "--of-no-command=1"]]
    }
    codes = {}
    for words in kinds.values():
        ran = subprocess.run(
            [gcloud, *words[1:]],
            env=nobody,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        codes[" ".join(words)] = (ran.returncode, ran.stderr)
    wrong = {command: said for command, (code, said) in codes.items() if code == 2}
    assert list(wrong) == ["gcloud storage buckets list --of-no-command=1"]
    for command, (code, said) in codes.items():
        assert code == 2 or "do not currently have an active account" in said, (command, said)
