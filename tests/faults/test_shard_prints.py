"""A shard that is asked to leave while its tasks print lines that are slow to search keeps what has finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import runwide

pytestmark = pytest.mark.faults

MIB = 1 << 20


@pytest.mark.parametrize(
    ("unit", "collected"),
    [("-", True), ("Ab-_9-", True), ('token=\\"', False), ("x --token-", False)],
    ids=["dashes", "mixed", "quotes", "names"],
)
def test_what_had_finished_is_stored_though_a_line_of_a_mebibyte_is_printed(tmp_path, unit, collected):
    ran = tmp_path / "ran"
    ran.mkdir()

    def task(x):
        with (ran / str(x)).open("a") as file:
            file.write("x")
        if x >= 3:
            print("{x=" + unit * (MIB // len(unit)), flush=True)
            (ran / "printed").touch()
            time.sleep(1)
        return x * x

    job = runwide.scatter(task, range(12), store=str(tmp_path / "store"), shards=1)
    shard = subprocess.Popen(
        [sys.executable, "-m", "runwide.cli", "shard", job, "0", "--workers", "1"],
        env={**os.environ, "CLOUD_ML_JOB_ID": "1" if collected else "", "RUNWIDE_LOG": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (ran / "printed").exists():
        assert time.monotonic() < deadline, "the shard did not start"
        time.sleep(0.02)
    shard.send_signal(signal.SIGTERM)
    assert shard.wait(timeout=120) == 143
    before = {path.name: path.stat().st_size for path in ran.iterdir()}
    assert {"0", "1", "2", "3"} <= before.keys()
    assert "11" not in before

    reference = runwide.shard(job, 0, workers=1)
    assert runwide.gather(job, [reference]) == [x * x for x in range(12)]
    assert [name for name in "0123" if (ran / name).stat().st_size > before[name]] == []
