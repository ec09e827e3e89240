"""`runwide image` builds an image with more packages, and pushes it; without such an image, steps install them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
import wheels
from click.testing import CliRunner

import runwide
from runwide.cli.commands import coded
from runwide_components.image_command import image_command

pytestmark = [pytest.mark.docker, pytest.mark.mounts]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index on this machine with one package, which pip uses."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheels.written(folder, "tiny_fixture", "1.0", "VALUE = 7")
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)
    with wheels.index(folder) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        yield url


def called(*words):
    """Run the command as the program does; return its exit code and its output."""

    def run():
        with coded():
            image_command.main(args=list(words), standalone_mode=False)

    runner = CliRunner()
    with runner.isolation() as (out, err, _):
        try:
            run()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        return code, out.getvalue().decode(), err.getvalue().decode()


def test_an_image_with_more_packages_is_built_pushed_and_run(image, engine, index, tmp_path):
    from cloudbuild import registry

    if shutil.which("docker-registry") is None:
        if os.environ.get("RUNWIDE_REQUIRE_DOCKER") == "1":
            pytest.fail("there is no docker-registry: apt-get install docker-registry", pytrace=False)
        pytest.skip("there is no docker-registry: apt-get install docker-registry")
    (tmp_path / "requirements.txt").write_text("tiny_fixture==1.0\n-c limits.txt\n")
    (tmp_path / "limits.txt").write_text("tiny_fixture<2\n")
    given = ("--requirements", str(tmp_path / "requirements.txt"), "--base", image)
    with registry() as host:
        code, printed, shown = called(*given, "--push", f"{host}/shop/packages")
        assert code == 0, shown
        assert "Successfully installed tiny_fixture-1.0" in shown  # the progress of the build
        (uri,) = printed.splitlines()
        assert re.fullmatch(rf"{re.escape(host)}/shop/packages@sha256:[0-9a-f]{{64}}", uri)
        code = "import tiny_fixture, runwide; print(runwide.map(lambda x: x * tiny_fixture.VALUE, [1, 2], workers=1))"
        for options in ([], ["-u", "4321:0", "--read-only"]):
            ran = subprocess.run(
                ["docker", "run", "--rm", "--network", "none", *options, uri, "python3", "-c", code],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ran.stdout == "[7, 14]\n", ran.stderr
        assert engine.images.get(uri).attrs["Config"]["User"] == "1000"
        for tag in [tag for one in engine.images.list(f"{host}/shop/packages") for tag in one.tags]:
            engine.images.remove(tag, force=True)


def test_a_missing_package_is_one_line_with_the_reason_of_pip(image, index, tmp_path):
    (tmp_path / "requirements.txt").write_text("no-such-fixture==1.0\n")
    code, printed, shown = called("--requirements", str(tmp_path / "requirements.txt"), "--base", image)
    assert (code, printed) == (1, "")
    last = shown.splitlines()[-1]
    assert last.startswith("runwide: EngineError: cannot build the image runwide-packages:")
    assert "No matching distribution found for no-such-fixture==1.0" in last


def test_a_step_installs_in_a_container_that_can_write_its_scratch_only(image, index, tmp_path):
    def function(x):
        import tiny_fixture

        return tiny_fixture.VALUE * x

    tmp_path.chmod(0o777)
    job = runwide.scatter(function, [1, 2], store=str(tmp_path / "store"), shards=1)
    subprocess.run(["chmod", "-R", "a+rwX", str(tmp_path / "store")], check=True)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == tmp_path.stat().st_uid and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    words = ["runwide", "shard", "--requirements-text", "tiny_fixture", job, "0"]
    ran = subprocess.run(
        ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "-u", "4321:4321", "--network", "host",
         "-v", f"{tmp_path}:{tmp_path}", "-e", "PIP_INDEX_URL", image, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert runwide.gather(job) == [7, 14]
