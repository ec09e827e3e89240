"""A shard's command is read without click where a pipeline's component calls it, and means the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runwide
from runwide.cli import jobs, shard

NOT_FOR_A_SHARD = {
    "click",
    "asyncio",
    "importlib.metadata",
    "structlog",
    "rich",
    "google",
    "kfp",
    "email",
}
NOT_FOR_A_START = {
    "cloudpickle",
    "dataclasses",
    "inspect",
    "runwide.records",
    "runwide.host",
    "runwide.sums",
    "shutil",
    "subprocess",
    "tempfile",
}
AT_THE_ORDER = """
import sys
from runwide.cli import program
from runwide.pool.spare import Spare
become = Spare.become
def noted(self, *order):
    print(*sorted(sys.modules))
    return become(self, *order)
Spare.become = noted
program()
"""
OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("--workers"), st.integers(1, 99).map(str)),
        st.tuples(st.just("--retries"), st.integers(0, 9).map(str)),
        st.tuples(st.just("--timeout"), st.floats(0.1, 1e6).map(str)),
        st.tuples(st.just("--manifest-out"), st.sampled_from(["/tmp/out", "out", "a b"])),
        st.just(("--rerun-failed",)),
    ),
    max_size=5,
)


def as_click_reads(words: list[str]) -> dict[str, object]:
    found = jobs.shard_command.make_context("shard", list(words)).params
    assert found.pop("on_error") == "raise"
    return {name: str(value) if name == "manifest_out" else value for name, value in found.items()}


@given(OPTIONS, st.integers(0, 10**6), st.integers(0, 5))
def test_what_it_reads_is_what_click_reads(options, index, place):
    words = [word for option in options[:place] for word in option]
    words += ["store/job.json#sha256=00", str(index)]
    words += [word for option in options[place:] for word in option]
    read, clicked = shard.read(words), as_click_reads(words)
    given_to_run = {
        "workers": None,
        "timeout": None,
        "retries": 0,
        "rerun_failed": False,
        "manifest_out": "None",
    }
    assert {**given_to_run, **read} == clicked


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["job"],
        ["job", "one"],
        ["job", "1", "2"],
        ["job", "1", "--workers"],
        ["job", "1", "--workers", "none"],
        ["job", "1", "--workers", "0"],
        ["job", "1", "--retries", "-1"],
        ["job", "1", "--workers=2"],
        ["job", "1", "--on-error", "return"],
        ["job", "1", "--help"],
        ["job", "-1"],
        ["--", "job", "1"],
    ],
)
def test_what_it_does_not_understand_is_left_to_click(words):
    assert shard.read(words) is None


@pytest.fixture
def job(tmp_path, monkeypatch) -> str:
    (tmp_path / "tasks.py").write_text(
        "import os, sys\n"
        "def loaded(x):\n    return sorted(sys.modules), os.getppid()\n"
        "def failing(x):\n    raise ValueError(x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import tasks

    return runwide.scatter(tasks.loaded, [1], store=str(tmp_path / "store"), shards=1)


def call(*words: str, path, then: str = "", program: str = "") -> subprocess.CompletedProcess[str]:
    program = (
        program
        or f"import sys\nfrom runwide.cli import main\ntry:\n    main()\nfinally:\n    pass\n    {then or 'pass'}"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**env, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_neither_it_nor_its_worker_loads_what_only_others_need(job, tmp_path):
    ran = call("shard", job, "0", "--workers", "1", path=tmp_path, then="print(*sorted(sys.modules))")
    assert ran.returncode == 0, ran.stderr
    reference, in_command = ran.stdout.splitlines()
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    of_site = set(bare.stdout.split())
    ((in_worker, _),) = runwide.gather(job, [reference])
    for loaded in (set(in_command.split()), set(in_worker)):
        assert (loaded - of_site) & NOT_FOR_A_SHARD == set()


def test_the_first_worker_has_its_order_before_the_command_loads_what_only_later_moments_need(job, tmp_path):
    ran = call("shard", job, "0", "--workers", "1", path=tmp_path, program=AT_THE_ORDER)
    assert ran.returncode == 0, ran.stderr
    loaded, reference = ran.stdout.splitlines()
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert (set(loaded.split()) - set(bare.stdout.split())) & NOT_FOR_A_START == set()
    assert len(runwide.gather(job, [reference])) == 1


def test_it_prints_and_writes_its_reference(job, tmp_path):
    ran = call(
        "shard", job, "0", "--workers", "1", "--manifest-out", str(tmp_path / "deep" / "out"), path=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    short = (tmp_path / "deep" / "out").read_text()
    assert short.startswith("0:")
    assert len(runwide.gather(job, [short])) == len(runwide.gather(job, [ran.stdout.strip()])) == 1


@pytest.mark.parametrize(
    ("words", "code"), [(["nowhere/job.json", "0"], 2), (["{job}", "7"], 2), (["{job}", "x"], 2)]
)
def test_what_cannot_be_meant_is_a_line_and_exit_code_2(job, tmp_path, words, code):
    ran = call("shard", *(word.replace("{job}", job) for word in words), path=tmp_path)
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr
    assert json.dumps(ran.stderr).count("runwide") >= 1
