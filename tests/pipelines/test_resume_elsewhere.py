"""A map that was killed on one level goes on on the other, and nothing that was stored is run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from runwide.job import manifest
from runwide.store.base import open_store

ITEMS = 60
# One program, since a function of another one would be another function.
PROGRAM = """
import os, signal, sys, time
where, store, folder = sys.argv[1:4]
from runwide.job import plan
plan._FLUSH_SECONDS = (0.02, 0.02)
import runwide
from runwide_components import Components, Local

def slow(x, folder=folder):
    with open(folder + "/calls", "a") as file:
        file.write(f"{x}\\n")
    if os.path.exists(folder + "/deadly") and x == 50:
        os.unlink(folder + "/deadly")
        time.sleep(0.5)
        os.kill(os.getppid(), signal.SIGKILL)  # the component, and with it what it has not stored
        time.sleep(60)
    time.sleep(0.02)
    return x * x

if __name__ == "__main__":
    if where == "pool":
        found = runwide.map(slow, range(60), store=store, name="n", shards=3, workers=2)
    else:
        found = runwide.map(slow, range(60), on=Components(3, store=store, engine=Local("subprocess")), name="n")
    assert found == [x * x for x in range(60)]
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return lambda where: [sys.executable, str(path), where, str(tmp_path / "store"), str(tmp_path)]


def calls(folder):
    """The items that were run since the last time this was asked."""
    found = [int(line) for line in (folder / "calls").read_text().split()]
    (folder / "calls").write_text("")
    return found


def jobs(folder):
    return [info.name for info in open_store(str(folder / "store")).list() if info.name.endswith("/job.json")]


def items_of(folder, shard):
    """The items of a shard of the only job."""
    (job,) = jobs(folder)
    return set(manifest.found_job(str(folder / "store" / job)).items_of(shard))


def test_a_map_that_was_killed_on_the_pool_goes_on_on_components(program, tmp_path):
    (tmp_path / "calls").touch()
    with subprocess.Popen(program("pool"), start_new_session=True) as process:
        while process.poll() is None and (tmp_path / "calls").read_text().count("\n") < 30:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    before = calls(tmp_path)
    assert 30 <= len(before) < ITEMS
    subprocess.run(program("components"), check=True, timeout=100)
    again = calls(tmp_path)
    assert not items_of(tmp_path, 0) & set(again), "the first shard had finished"
    assert set(before) | set(again) == set(range(ITEMS))
    assert len(jobs(tmp_path)) == 1


def test_a_map_one_of_whose_components_was_killed_goes_on_on_the_pool(program, tmp_path):
    (tmp_path / "deadly").touch()
    first = subprocess.run(program("components"), check=False, timeout=100, capture_output=True, text=True)
    assert "StepFailed" in first.stderr
    assert not (tmp_path / "deadly").exists()
    lost = manifest.found_job(str(tmp_path / "store" / jobs(tmp_path)[0])).shard_of(50)
    others = set(range(60)) - items_of(tmp_path, lost)
    assert others <= set(calls(tmp_path))
    subprocess.run(program("pool"), check=True, timeout=100)
    again = calls(tmp_path)
    assert not others & set(again), "two shards had finished"
    assert 50 in again
    assert len(jobs(tmp_path)) == 1
