"""An interpreter that waits becomes the first worker, and nothing is left of it where no worker is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runwide
from runwide.pool import spare
from runwide.pool.process import children


def about_me(_: object) -> tuple[int, str | None, bool]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), "colorsys" in sys.modules


def gone(pid: int) -> bool:
    """Whether it has ended; whoever inherits it may never bury it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.fixture
def waiting():
    """The process that waits while the test runs."""
    before = set(children(os.getpid()))
    with spare.started(["colorsys"]):
        (pid,) = set(children(os.getpid())) - before
        yield pid
    assert gone(pid)


def test_it_becomes_the_first_worker_with_its_modules_loaded_and_its_variables_set(waiting, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pid, threads, loaded = runwide.map(about_me, [1], workers=1)[0]
    assert (pid, loaded) == (waiting, True)
    assert threads is not None


def test_only_one_worker_is_made_of_it(waiting):
    with runwide.Executor(2) as executor:
        assert executor.submit(os.getpid).result() == waiting
    with runwide.Executor(1) as executor:
        assert executor.submit(os.getpid).result() != waiting


def test_one_that_has_died_is_replaced_by_a_worker_that_is_started_anew(waiting):
    os.kill(waiting, signal.SIGKILL)
    assert runwide.map(about_me, [1], workers=1)[0][0] != waiting


def test_one_that_nobody_needs_ends_with_the_block():
    before = set(children(os.getpid()))
    with spare.started([]):
        (pid,) = set(children(os.getpid())) - before
    assert gone(pid)


def test_one_whose_parent_is_killed_ends_by_itself():
    program = """
import json, os, time
from runwide.pool import spare
from runwide.pool.process import children
with spare.started(["json"]):
    print(json.dumps(children(os.getpid())), flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        (pid,) = json.loads(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_printing_and_failing_in_it_is_as_in_any_worker(waiting, capfd):
    def task(x):
        print("said", os.getpid())
        raise ValueError(x)

    (failed,) = runwide.map(task, [7], workers=1, on_error="return")
    assert (failed.type, failed.message) == ("ValueError", "7")
    assert f"said {waiting}" in capfd.readouterr().out
