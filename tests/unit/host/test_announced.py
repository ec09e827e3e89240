"""Programs are told their cores, for ``n_jobs=-1``: by the commands that load functions of the user's, and in the image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runwide
from runwide.host import cores

IN_IMAGE = Path(__file__).parents[3] / "docker"
COUNT = "LOKY_MAX_CPU_COUNT"

# Leaves what each process had in its environment at its end.
AT_EXIT = """
import atexit, os
@atexit.register
def tell():
    with open(f"{os.environ['TOLD']}/{os.getpid()}", "w") as file:
        file.write(os.environ.get("LOKY_MAX_CPU_COUNT", "nothing"))
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Runs a program, and returns what it and each of the processes below it was told."""
    (tmp_path / "told").mkdir()
    (tmp_path / "sitecustomize.py").write_text(AT_EXIT)
    (tmp_path / "announced_tasks.py").write_text("def same(x):\n    return x\n")
    (tmp_path / "items.json").write_text("[1, 2]")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, **variables: str) -> str:
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {key: value for key, value in os.environ.items() if key != COUNT}
        with subprocess.Popen(
            [sys.executable, *words],
            env={**env, "PYTHONPATH": path, "TOLD": str(tmp_path / "told"), **variables},
            stdout=subprocess.DEVNULL,
        ) as process:
            assert process.wait(timeout=60) == 0
        return (tmp_path / "told" / str(process.pid)).read_text()

    return run


def words_of(command: str) -> list[str]:
    if command == "map":
        return ["map", "announced_tasks:same", "items.json"]
    if command == "scatter":
        return [
            "scatter",
            "--function",
            "announced_tasks:same",
            "--items-json",
            "[1]",
            "--store",
            "s",
            "--shards",
            "1",
        ]
    import announced_tasks

    job = runwide.scatter(announced_tasks.same, [1], store="store", shards=1)
    if command == "rerun":
        return ["rerun", job]
    return [command, job, "0"]


COMMANDS = ["map", "scatter", "shard", "rerun", "replay"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_loads_functions_knows_its_cores(told, command):
    words = ["-m", "runwide.cli", *words_of(command)]
    assert told(*words) == str(cores().usable)
    assert told(*words, **{COUNT: "5"}) == "5"


def test_a_map_in_a_program_of_the_users_changes_nothing_there(told):
    """A library has no business in the environment of a program that imports it; its workers are another matter."""
    assert told("-c", "import runwide; runwide.map(abs, [1], workers=1)") == "nothing"


@pytest.mark.parametrize("module", ["joblib", "loky", "sklearn.linear_model", "joblib.parallel"])
def test_in_the_image_who_is_about_to_count_is_told(told, module):
    assert told("-c", f"{image()}; import {module}") == str(cores().usable)
    assert told("-c", f"{image()}; import {module}", **{COUNT: "5"}) == "5"


def test_in_the_image_a_program_that_does_not_count_loads_nothing(told):
    program = (
        f"import sys; before = set(sys.modules); {image()}; import json\n"
        "assert {name for name in set(sys.modules) - before if 'runwide' in name} == {'runwide_image'}"
    )
    assert told("-c", program) == "nothing"


def test_in_the_image_a_program_that_has_been_told_gets_no_hook(told):
    program = f"import sys; before = list(sys.meta_path); {image()}; assert sys.meta_path == before"
    assert told("-c", program, **{COUNT: "1"}) == "1"


def test_in_the_image_joblib_counts_by_itself_where_runwide_is_broken(told, tmp_path):
    (tmp_path / "runwide.py").write_text("raise ImportError('made for a test')")
    program = f"{image()}; import joblib; assert joblib.cpu_count() > 0"
    assert told("-c", program) == "nothing"


def image() -> str:
    """What the .pth file of the image has, for a program that finds the module elsewhere."""
    return f"import sys; sys.path.append({str(IN_IMAGE)!r}); import runwide_image"
