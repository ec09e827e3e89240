"""`runwide image` where there is no Docker engine, and what it refuses."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from click.testing import CliRunner

from runwide.errors import InputError
from runwide_components.image_command import Image, image_command

BASE = "europe-west1-docker.pkg.dev/shop/runwide/runwide:1.2.3-py311"
PUSH = "europe-west1-docker.pkg.dev/shop/images/packages:7"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with requirements, on a machine without docker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER", "/no/such/docker")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("runwide_components.image_command.OFTEN_AT", ())
    (tmp_path / "requirements.txt").write_text("nltk==3.9.1\n-c limits.txt\n")
    (tmp_path / "limits.txt").write_text("numpy<3\n")
    return tmp_path


def call(*words):
    return CliRunner().invoke(image_command, ["--requirements", "requirements.txt", *words])


def test_without_docker_the_line_for_cloud_build_is_printed_with_its_folder(elsewhere, monkeypatch):
    for name in ("PIP_CERT", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    done = call("--base", BASE, "--push", PUSH)
    assert done.exit_code == 1  # there is no image yet
    assert "no Docker engine answers" in done.stderr
    command, *words = shlex.split(done.stdout)
    assert (command, words[:2]) == ("gcloud", ["builds", "submit"])
    folder = elsewhere / words[2]
    build = yaml.safe_load((elsewhere / words[words.index("--config") + 1]).read_text())
    assert build["images"] == [PUSH]
    assert build["steps"][0]["args"] == ["build", "--tag", PUSH, "."]
    assert (folder / "Dockerfile").read_text().splitlines()[1] == f"FROM {BASE}"
    assert (folder / "requirements.txt").read_text() == "nltk==3.9.1\n"
    assert (folder / "constraints.txt").read_text() == "numpy<3\n"
    assert "Cloud Build does not get" not in done.stderr
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:hunter2@packages.example.com/simple")
    asked = call("--base", BASE, "--push", PUSH, "--cloud-build")
    assert (asked.exit_code, asked.stdout) == (0, done.stdout)
    assert "Cloud Build does not get PIP_INDEX_URL of this environment" in asked.stderr
    assert "hunter2" not in asked.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "keeps only images that it pushes"),
        (("--base", BASE, "--push", "shop"), "names no registry"),
        (("--base", BASE, "--push", "shop/packages:1", "--cloud-build"), "names no registry"),
        (("--push", PUSH), "an image of this machine"),
        (("--base", BASE, "--python", "3.12"), "--base has a Python already"),
        (("--push", PUSH, "--tag", "shop:1"), "--push and --tag both name the image"),
        (("--tag", "Not A Name"), "of an image; give one"),
        (("--python", "2.7"), "no image with Python 2.7"),
    ],
    ids=["no-push", "no-registry", "user", "local-base", "base-and-python", "push-and-tag", "name", "python"],
)
def test_what_makes_no_image_is_refused(words, message, elsewhere, monkeypatch):
    monkeypatch.delenv("RUNWIDE_IMAGE", raising=False)
    done = call(*words)
    assert isinstance(done.exception, InputError)
    assert re.search(message, str(done.exception))


def test_the_name_of_an_image_tells_its_contents():
    one, same, other = (Image(BASE, text).name for text in ("nltk==3.9.1", "nltk==3.9.1", "nltk==3.9.2"))
    assert one == same != other
    assert one.startswith("runwide-packages:")
    assert Image(BASE, "nltk", "localhost:5000/shop/packages").name.startswith(
        "localhost:5000/shop/packages:"
    )
    assert Image(BASE, "nltk", PUSH).name == PUSH
