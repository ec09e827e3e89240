"""A shard that is asked to leave keeps what has finished, says so by its exit status, and goes on when run again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import runwide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.faults


def job_of(tmp_path: Path) -> str:
    def task(x):
        (tmp_path / "ran").mkdir(exist_ok=True)
        with (tmp_path / "ran" / str(x)).open("a") as file:
            file.write("x")
        time.sleep(0.5)
        return x * x

    return runwide.scatter(task, range(24), store=str(tmp_path / "store"), shards=1)


def start(job: str, *, workers: int = 2) -> subprocess.Popen:
    # A shell has background jobs ignore SIGINT, and their children with them.
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-m",
        "runwide.cli",
        "shard",
        job,
        "0",
        "--workers",
        str(workers),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while not folder.exists() or len(list(folder.iterdir())) < number:
        assert time.monotonic() < deadline, "the shard did not start"
        time.sleep(0.02)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_had_finished_is_stored_and_not_run_again(tmp_path, sent, status):
    job = job_of(tmp_path)
    ran = tmp_path / "ran"
    shard = start(job)
    wait_for(ran, 6)
    time.sleep(
        0.2
    )  # results are sent every 50 ms: those of the tasks before are there, and the two that run still do
    shard.send_signal(sent)
    _, errors = shard.communicate(timeout=60)
    assert shard.returncode == status, errors
    assert "Traceback" not in errors
    before = {path.name: path.stat().st_size for path in ran.iterdir()}
    assert 6 <= len(before) < 24

    reference = runwide.shard(job, 0, workers=2)
    assert runwide.gather(job, [reference]) == [x * x for x in range(24)]
    again = [name for name, size in before.items() if (ran / name).stat().st_size > size]
    # SIGTERM lets running tasks end; Ctrl-C stops the two that run.
    assert len(again) <= (0 if sent == signal.SIGTERM else 2)


@pytest.mark.parametrize(
    ("sent", "ends"),
    [(signal.SIGTERM, {0, 143, -15}), (signal.SIGINT, {0, 130, -2, 1}), (signal.SIGKILL, {0, -9})],
    ids=["term", "int", "kill"],
)
def test_at_whatever_moment_of_its_start_it_ends_with_its_worker_and_the_next_one_does_the_work(
    tmp_path, sent, ends
):
    for milliseconds in range(0, 200, 15):
        job = runwide.scatter(lambda x: x * x, range(4), store=str(tmp_path / "store"), shards=1)
        shard = start(job, workers=1)
        time.sleep(milliseconds / 1000)
        shard.send_signal(sent)
        _, errors = shard.communicate(timeout=60)  # until its worker, too, has let go of the streams
        assert shard.returncode in ends, (milliseconds, errors)
        assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [0, 1, 4, 9]
