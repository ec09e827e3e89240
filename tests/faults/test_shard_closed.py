"""A shard that fails permanently becomes failed items of its job: a typed gap, named, and run again by rerun."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runwide
from runwide import job as jobs
from runwide.errors import JobIncomplete, StepFailed
from runwide.job.manifest import read_job

pytestmark = pytest.mark.faults


def shard(job: str, index: int, folder: Path) -> subprocess.Popen[str]:
    words = ["shard", job, str(index), "--workers", "1", "--on-error", "return"]
    return subprocess.Popen(
        [sys.executable, "-m", "runwide.cli", *words, "--manifest-out", str(folder / f"manifest-{index}")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RUNWIDE_LOG": "json"},
    )


def run(job: str, index: int, folder: Path) -> str:
    process = shard(job, index, folder)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return said.strip()


def come(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def killing(folder: Path, times: int):
    """A function that kills the process of its shard at item 5, so many times, once the others are stored."""
    place = str(folder)

    def work(x):
        here = Path(place)
        (here / f"ran-{x}-{time.monotonic_ns()}").touch()
        if x == 5 and len(list(here.glob("died-*"))) < times:
            time.sleep(0.5)
            shard = (here / "shard-of-5").read_text()
            while not list(here.glob(f"store/*/shards/{shard}/chunks/*.pack")):
                time.sleep(0.02)
            (here / f"died-{time.monotonic_ns()}").touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return x * x

    return work


def killed(folder: Path, times: int) -> str:
    """A job of six items and two shards, whose function knows where the results of its shard are stored."""
    job = runwide.scatter(killing(folder, times), range(6), store=str(folder / "store"), shards=2)
    (folder / "shard-of-5").write_text(f"{read_job(job).shard_of(5):04d}")
    return job


def test_a_shard_whose_process_is_killed_once_goes_on_where_it_was(tmp_path):
    job = killed(tmp_path, 1)
    references = [run(job, index, tmp_path) for index in (0, 1)]
    assert runwide.gather(job, references) == [x * x for x in range(6)]
    assert len(list(tmp_path.glob("died-*"))) == 1
    assert [len(list(tmp_path.glob(f"ran-{x}-*"))) for x in range(6)] == [1, 1, 1, 1, 1, 2]


def test_a_shard_that_is_killed_each_time_leaves_typed_gaps_and_what_it_had_finished(tmp_path):
    job = killed(tmp_path, 2)
    lost = f"shard {read_job(job).shard_of(5)}"
    run(job, 0, tmp_path), run(job, 1, tmp_path)
    manifests = [(tmp_path / f"manifest-{index}").read_text() for index in (0, 1)]
    result = jobs.finish(job, manifests)
    *others, gap = runwide.load(result, on_error="return")
    assert others == [0, 1, 4, 9, 16]
    assert str(gap) == f"item 5: StepFailed: {lost} ended with signal 9, 2 times"
    assert isinstance(gap.exception, StepFailed)
    assert (gap.exception.step, gap.exception.exitcode) == (lost, -9)
    assert jobs.failures(result) == (6, [gap])
    assert runwide.gather(job, jobs.rerun(job, workers=1)) == [x * x for x in range(6)]


class NotHere:
    def __reduce__(self):
        return __import__, ("no_such_package",)


def test_a_shard_that_cannot_load_its_function_says_why_in_each_gap(tmp_path):
    thing = NotHere()
    job = runwide.scatter(lambda x: (x, thing), [1, 2], store=str(tmp_path / "store"), shards=1)
    reference = run(job, 0, tmp_path)
    first, second = runwide.gather(job, [reference], on_error="return")
    assert re.fullmatch(
        r"item 0: StepFailed: shard 0 ended with exit code 1: .*no_such_package.*", str(first)
    )
    assert str(second) == str(first).replace("item 0", "item 1")


def test_sigterm_is_handed_on_and_is_no_failure(tmp_path):
    place = str(tmp_path)

    def wait(x):
        (Path(place) / "busy").touch()
        time.sleep(2)
        return x

    job = runwide.scatter(wait, range(9), store=str(tmp_path / "store"), shards=1)
    process = shard(job, 0, tmp_path)
    come(tmp_path / "busy")
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert not jobs.status(job).finished


def test_a_call_that_is_wrong_fails_as_it_always_does(tmp_path):
    job = runwide.scatter(abs, [1], store=str(tmp_path / "store"), shards=1)
    process = shard(job, 7, tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "ShardOutOfRange" in errors


def test_the_process_of_a_shard_ends_with_the_one_that_watches_it(tmp_path):
    place = str(tmp_path)

    def wait(x):
        (Path(place) / "busy").touch()
        time.sleep(120)

    job = runwide.scatter(wait, [1], store=str(tmp_path / "store"), shards=1)
    process = shard(job, 0, tmp_path)
    come(tmp_path / "busy")
    process.kill()
    process.communicate(timeout=30)
    # the fixture of all tests asserts that no process is left


def test_what_never_finished_can_be_closed_when_it_is_gathered(tmp_path):
    job = runwide.scatter(abs, [-1, -2, -3], store=str(tmp_path / "store"), shards=3)
    lost = read_job(job).shard_of(1)
    done = [runwide.shard(job, index, workers=1) for index in range(3) if index != lost]
    with pytest.raises(JobIncomplete):
        runwide.gather(job, done)
    words = ["gather", job, "--shards-json", str(done).replace("'", '"'), "--close", "--on-error", "return"]
    said = subprocess.run(
        [sys.executable, "-m", "runwide.cli", *words], capture_output=True, text=True, check=True, timeout=60
    )
    first, gap, last = runwide.load(said.stdout.strip(), on_error="return")
    assert (first, last) == (1, 3)
    assert str(gap) == f"item 1: JobIncomplete: shard {lost} never finished"
