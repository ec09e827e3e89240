"""The command ``runwide shard``: its options, its exit codes, and what it does not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runwide

NOT_FOR_A_WORKER = {"asyncio", "click", "importlib.metadata", "structlog", "rich", "google", "kfp", "email"}
# structlog, which writes its lines once the first task has been sent, loads the modules that are missing here
NOT_FOR_A_SHARD = (NOT_FOR_A_WORKER - {"click", "structlog", "asyncio", "rich", "email"}) | {
    "runwide.cli.jobs",
    "runwide._report",
    "runwide_components",
}
TASKS = """
import os, sys, time
from pathlib import Path

HERE = Path({here!r})

def loaded(x):
    return sorted(sys.modules)

def met(x):
    (HERE / ("met-%s" % x)).touch()
    deadline = time.monotonic() + 60
    while len(list(HERE.glob("met-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(list(HERE.glob("met-*")))

def hashed(x):
    met(x)
    return os.getpid(), hash("a text")

def once(x):
    if not (HERE / "failed").exists():
        (HERE / "failed").touch()
        raise ValueError("the first attempt")
    return x

def endless(x):
    while True:
        time.sleep(1)
"""

# Run as they are, and watched by a process that ends the shard in any case.
WATCHED = pytest.mark.parametrize("watched", [(), ("--on-error", "return")], ids=["raise", "return"])


@pytest.fixture
def scatter(tmp_path, monkeypatch):
    """Makes a job of one shard of a function above."""
    (tmp_path / "tasks.py").write_text(TASKS.format(here=str(tmp_path)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tasks", raising=False)

    def make(name: str, *items: object) -> str:
        import tasks

        return runwide.scatter(getattr(tasks, name), items, store=str(tmp_path / "store"), shards=1)

    return make


@pytest.fixture
def call(tmp_path):
    """Calls the command, as a program of its own that may say more at its end."""

    def run(*words: str, then: str = "pass") -> subprocess.CompletedProcess[str]:
        program = f"import sys\nfrom runwide.cli import main\ntry:\n    main()\nfinally:\n    {then}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTHON"))}
        ours = str(Path(runwide.__file__).parents[1])
        return subprocess.run(
            [sys.executable, "-c", program, "shard", *words],
            env={**kept, "PYTHONPATH": os.pathsep.join([str(tmp_path), ours])},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def results(job: str, ran: subprocess.CompletedProcess[str]) -> list[object]:
    assert ran.returncode == 0, ran.stderr
    return list(runwide.gather(job, [ran.stdout.strip()], on_error="return"))


@WATCHED
@pytest.mark.parametrize("words", [("--workers", "2"), ("--workers=2",)], ids=["two words", "one word"])
def test_it_has_the_given_number_of_workers(scatter, call, watched, words):
    job = scatter("met", 0, 1)
    assert results(job, call(*watched, job, *words, "0")) == [2, 2]


def test_all_its_workers_agree_on_the_hash_of_a_text(scatter, call):
    job = scatter("hashed", 0, 1)
    pids, hashes = zip(*results(job, call(job, "0", "--workers", "2")), strict=True)
    assert len(set(pids)) == 2
    assert len(set(hashes)) == 1


@WATCHED
def test_an_exception_is_followed_by_the_given_number_of_retries(scatter, call, watched):
    job = scatter("once", 7)
    assert results(job, call(job, "0", "--workers", "1", "--retries", "1", *watched)) == [7]


@WATCHED
def test_an_attempt_may_take_the_given_time(scatter, call, watched):
    job = scatter("endless", 7)
    (failure,) = results(job, call(job, "0", "--workers", "1", "--timeout", "0.5", *watched))
    assert failure.kind == "timeout"


@WATCHED
def test_failed_items_run_again_with_rerun_failed(scatter, call, watched):
    job = scatter("once", 7)
    words = (job, "0", "--workers", "1", *watched)
    assert str(results(job, call(*words))[0]) == "item 0: ValueError: the first attempt"
    assert str(results(job, call(*words))[0]) == "item 0: ValueError: the first attempt"
    assert results(job, call(*words, "--rerun-failed")) == [7]


@WATCHED
def test_it_prints_its_reference_and_writes_it_in_short_form(scatter, call, tmp_path, watched):
    job, out = scatter("once", 7), tmp_path / "deep" / "out"
    ran = call(job, "0", "--workers", "1", "--retries", "1", "--manifest-out", str(out), *watched)
    short = out.read_text()
    assert short.startswith("0:")
    assert list(runwide.gather(job, [short])) == results(job, ran) == [7]


@WATCHED
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["{job}"],
        ["{job}", "one"],
        ["{job}", "0", "1"],
        ["{job}", "-1"],
        ["--", "{job}", "-1"],
        ["{job}", "7"],
        ["{job}", "0", "--workers"],
        ["{job}", "0", "--workers", "none"],
        ["{job}", "0", "--workers", "0"],
        ["{job}", "0", "--retries", "-1"],
        ["{job}", "0", "--timeout", "0"],
        ["{job}", "0", "--from-the-future", "1"],
        ["nowhere/job.json", "0"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_a_line_and_exit_code_2(scatter, call, watched, words):
    job = scatter("once", 7)
    ran = call(*watched, *(word.replace("{job}", job) for word in words))
    assert ran.returncode == 2, ran.stderr
    assert ran.stdout == ""
    assert "Error" in ran.stderr or ran.stderr.startswith("runwide: ")
    assert "Traceback" not in ran.stderr


def test_neither_it_nor_its_worker_loads_what_only_others_need(scatter, call):
    job = scatter("loaded", 1)
    ran = call(job, "0", "--workers", "1", then="print(*sorted(sys.modules))")
    assert ran.returncode == 0, ran.stderr
    reference, in_command = ran.stdout.splitlines()
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    of_site = set(bare.stdout.split())
    (in_worker,) = runwide.gather(job, [reference])
    assert (set(in_command.split()) - of_site) & NOT_FOR_A_SHARD == set()
    assert (set(in_worker) - of_site) & NOT_FOR_A_WORKER == set()
