"""Programs get the number of their cores for ``n_jobs=-1``: from commands that load functions, and in the image."""

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

# Writes the variable of each process to a file when the process ends.
AT_EXIT = """
import atexit, os
@atexit.register
def tell():
    with open(f"{os.environ['SEEN']}/{os.getpid()}", "w") as file:
        file.write(os.environ.get("LOKY_MAX_CPU_COUNT", "nothing"))
"""


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Run a program, and return the numbers that it and each of its child processes had."""
    (tmp_path / "seen").mkdir()
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
            env={**env, "PYTHONPATH": path, "SEEN": str(tmp_path / "seen"), **variables},
            stdout=subprocess.DEVNULL,
        ) as process:
            assert process.wait(timeout=60) == 0
        return (tmp_path / "seen" / str(process.pid)).read_text()

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
def test_a_command_that_loads_functions_knows_its_cores(seen, command):
    words = ["-m", "runwide.cli", *words_of(command)]
    assert seen(*words) == str(cores().usable)
    assert seen(*words, **{COUNT: "5"}) == "5"


def test_a_map_in_a_program_of_the_users_changes_nothing_there(seen):
    """A library must not change the environment of a program that imports it; it may change that of its workers."""
    assert seen("-c", "import runwide; runwide.map(abs, [1], workers=1)") == "nothing"


@pytest.mark.parametrize("module", ["joblib", "loky", "sklearn.linear_model", "joblib.parallel"])
def test_in_the_image_a_program_that_counts_cores_gets_their_number(seen, module):
    assert seen("-c", f"{image()}; import {module}") == str(cores().usable)
    assert seen("-c", f"{image()}; import {module}", **{COUNT: "5"}) == "5"


def test_in_the_image_a_program_that_does_not_count_loads_nothing(seen):
    program = (
        f"import sys; before = set(sys.modules); {image()}; import json\n"
        "assert {name for name in set(sys.modules) - before if 'runwide' in name} == {'runwide_image'}"
    )
    assert seen("-c", program) == "nothing"


def test_in_the_image_a_program_with_the_variable_gets_no_hook(seen):
    program = f"import sys; before = list(sys.meta_path); {image()}; assert sys.meta_path == before"
    assert seen("-c", program, **{COUNT: "1"}) == "1"


def test_in_the_image_joblib_counts_by_itself_where_runwide_is_broken(seen, tmp_path):
    (tmp_path / "runwide.py").write_text("raise ImportError('made for a test')")
    program = f"{image()}; import joblib; assert joblib.cpu_count() > 0"
    assert seen("-c", program) == "nothing"


def image() -> str:
    """Return the content of the image's .pth file, for a program that finds the module in another directory."""
    return f"import sys; sys.path.append({str(IN_IMAGE)!r}); import runwide_image"
