"""A run that succeeded is not run again, whichever process, folder, hash seed or line asks for it."""

import os
import subprocess
import sys

import pytest

COMMON = """
import enum
from dataclasses import dataclass, field
from pathlib import Path

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"

@dataclass(frozen=True)
class Case:
    name: str
    colour: Colour = Colour.RED
    tags: frozenset = frozenset({"near", "far", "here"})

WEIGHTS = {"red": {"a", "b", "c"}, "blue": {"d", "e", "f"}}

def make(folder, known={"x", "y", "z"}):
    def score(case, *, factor=1):
        kinds = {"u", "v", "w"}
        (Path(folder) / f"ran-{case.name}-{len(list(Path(folder).iterdir()))}").touch()
        return sorted(WEIGHTS[case.colour.value] | case.tags | known | kinds), factor
    return score

CASES = [Case("one"), Case("two", Colour.BLUE, frozenset({"p", "q", "r"}))]
"""

BATCH = """
import sys
from kfp import compiler, dsl
from runwide_components import Local, Pipelines, fan_out

store, ran = sys.argv[1:]

@dsl.pipeline(name="scores")
def scores(factor: int):
    fan_out(make(ran), CASES, components=2, store=store, constants={"factor": factor}, workers=1, report=False)

if __name__ == "__main__":
    compiler.Compiler().compile(scores, "scores.yaml")
    batch = Pipelines(scores, engine=Local("subprocess"), store=store, progress=False).map({"factor": [1, 2]})
    print(batch.summary())
"""

NAMED = """
import sys
import runwide

store, ran = sys.argv[1:]
if __name__ == "__main__":
    for _ in range(2):
        found = runwide.map(make(ran), CASES, store=store, name="scores", workers=1)
    print(len(found), type(found[0]).__name__)
"""


def program(folder, words, seed):
    """Return the output of a program, in a folder, with little of this process's environment."""
    found = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture
def processes(tmp_path):
    """Run a program three times: as it is, elsewhere with lines above, and with ``-m``; each with its own hash seed."""
    ran = tmp_path / "ran"
    ran.mkdir()
    folders = [tmp_path / "here", tmp_path / "there" / "a" / "checkout", tmp_path / "module"]

    def run(text):
        printed = []
        for seed, folder in enumerate(folders, 1):
            folder.mkdir(parents=True)
            lines = "# a line\n\n" * seed
            (folder / "scores.py").write_text(lines + text)
            words = ["-m", "scores"] if folder.name == "module" else ["scores.py"]
            printed.append(program(folder, [*words, tmp_path / "store", ran], seed).strip())
        return printed

    run.ran = ran
    return run


def test_a_batch_that_is_called_three_times_runs_once(processes):
    assert processes(COMMON + BATCH) == ["2 succeeded"] * 3
    assert len(list(processes.ran.iterdir())) == 4  # two parameters, two items each


def test_a_pipeline_compiles_to_the_same_bytes_twice_and_on_other_lines_differs_in_these_alone(tmp_path):
    compiled = []
    for seed, lines in ((1, ""), (2, ""), (3, "\n\n")):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "scores.py").write_text(lines + COMMON + BATCH.partition("    batch =")[0])
        program(folder, ["scores.py", "gs://bucket/runs", "/ran"], seed)
        compiled.append((folder / "scores.yaml").read_bytes())
    assert compiled[0] == compiled[1]
    same = [
        ours
        for ours, theirs in zip(*(one.split(b"~") for one in compiled[1:]), strict=True)
        if ours == theirs
    ]
    assert len(same) == 2  # the function and its modules are equal; only its place differs


def test_a_named_job_that_is_called_six_times_runs_once(processes):
    assert processes(COMMON + NAMED) == ["2 tuple"] * 3
    assert len(list(processes.ran.iterdir())) == 2
