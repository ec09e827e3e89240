"""SIGTERM in the middle of a chunk lets the task that runs end, and not the rest of the chunk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

import runwide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.faults

# The first tasks take no time, so that a chunk of thousands has been sent when the slow ones come.
TASK = """
    import os, pathlib, signal, sys, time
    import runwide

    FOLDER = pathlib.Path({folder!r})
    QUICK = {quick}
    SECONDS = {seconds}

    def task(x):
        if x < QUICK:
            return x
        with (FOLDER / str(x)).open("a") as file:
            file.write("began ")
            file.flush()
            time.sleep(SECONDS)
            file.write("ended ")
        return x
"""


def start(
    tmp_path: Path, body: str, *, quick: int = 0, seconds: float = 0.1
) -> tuple[subprocess.Popen, Path]:
    folder = tmp_path / "ran"
    folder.mkdir()
    head = textwrap.dedent(TASK).format(folder=str(folder), quick=quick, seconds=seconds)
    program = tmp_path / "program.py"
    program.write_text(
        head + '\nif __name__ == "__main__":\n' + textwrap.indent(textwrap.dedent(body), "    ")
    )
    started = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return started, folder


def when_ran(program: subprocess.Popen, folder: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < number:
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline, "the tasks did not start"
        time.sleep(0.01)


def ran(folder: Path) -> dict[int, str]:
    return {int(path.name): path.read_text() for path in folder.iterdir()}


MAP = """
    for value in runwide.imap_unordered(task, range({size}), workers=2, {options}):
        if value >= QUICK:
            print(value, flush=True)
"""


@pytest.mark.parametrize(
    ("options", "quick"),
    [("chunksize=500", 0), ("", 20_000), ("on_event=lambda event: None, chunksize=500", 0)],
)
def test_a_map_ends_with_the_tasks_that_run_and_keeps_all_that_had_finished(tmp_path, options, quick):
    program, folder = start(tmp_path, MAP.format(size=40_000, options=options), quick=quick)
    when_ran(program, folder, 6)
    program.terminate()
    sent = time.monotonic()
    out, errors = program.communicate(timeout=60)
    seconds = time.monotonic() - sent
    assert program.returncode == 143, errors
    assert errors == ""
    assert seconds < 10  # the rest of a chunk would take 50 s, and the grace is 20
    told = ran(folder)
    assert set(told.values()) == {"began ended "}  # none was stopped in its middle
    assert sorted(map(int, out.split())) == sorted(told)
    assert len(told) < 60


def test_a_signal_to_the_whole_process_group_lets_running_tasks_end_too(tmp_path):
    program, folder = start(tmp_path, MAP.format(size=100, options="chunksize=50"), seconds=1)
    when_ran(program, folder, 2)
    os.killpg(program.pid, signal.SIGTERM)  # as systemd, Slurm and `tini -g` do
    out, errors = program.communicate(timeout=60)
    assert (program.returncode, errors) == (143, "")
    assert sorted(map(int, out.split())) == sorted(ran(folder))


def test_what_a_task_has_started_can_still_be_terminated():
    def task(_):
        import multiprocessing

        forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
        forked.start()
        forked.terminate()
        forked.join(30)
        program = subprocess.Popen(["sleep", "3600"])
        program.terminate()
        return forked.exitcode, program.wait(30)

    assert runwide.map(task, [0], workers=1) == [(-signal.SIGTERM, -signal.SIGTERM)]


SHARD = """
    job = runwide.scatter(task, range(400), store={store!r}, shards=1)
    (FOLDER.parent / "job").write_text(job)
    runwide.shard(job, 0, workers=2, chunksize=150)
"""


def test_a_shard_stores_what_had_finished_and_runs_only_the_rest_again(tmp_path):
    program, folder = start(tmp_path, SHARD.format(store=str(tmp_path / "store")), seconds=0.05)
    when_ran(program, folder, 20)
    program.terminate()
    sent = time.monotonic()
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 143, errors
    assert time.monotonic() - sent < 5  # the rest of a chunk would take 7 s
    before = ran(folder)
    assert set(before.values()) == {"began ended "}
    assert len(before) < 200

    job = (tmp_path / "job").read_text()
    assert runwide.gather(job, [runwide.shard(job, 0, workers=2)]) == list(range(400))
    after = ran(folder)
    assert {index: after[index] for index in before} == before  # none of them ran again
    assert len(after) == 400
