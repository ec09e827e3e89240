"""A shard that is killed at any moment computes only the rest when it is run again, and the results are the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runwide
from runwide.job import manifest, model
from runwide.store.base import open_store

pytestmark = pytest.mark.faults

ITEMS = 40
SHARD = """
import sys
from runwide.job import plan
plan._FLUSH_SECONDS = (0.02, 0.02)  # many small chunks, so that there are many moments to be killed in
import runwide
print("started", flush=True)
runwide.shard(sys.argv[1], 0, workers=2)
"""


def task(folder):
    def run(x):
        descriptor = os.open(f"{folder}/calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{x}\n".encode())
        os.close(descriptor)
        time.sleep(0.004)
        if x == 13:
            raise ValueError(x)
        return f"{x}" * 500

    return run


def right(found):
    failed = found.pop(13)
    assert (failed.index, failed.type) == (13, "ValueError")
    assert found == [f"{x}" * 500 for x in range(ITEMS) if x != 13]


def kill_tree(process):
    """End a shard and its workers as a machine that goes away does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_calls(folder, process, count):
    """Wait until so many items were begun: by the clock, a busy machine would always be killed at its start."""
    calls = Path(folder, "calls")
    while process.poll() is None and (not calls.exists() or calls.read_text().count("\n") < count):
        time.sleep(0.001)


def killed_and_run_again(folder, store, seed):
    """Kill one run of a shard at a random moment, run it again; returns how many items were stored by then."""
    job = runwide.scatter(task(folder), range(ITEMS), store=store, shards=1)
    rng = random.Random(seed)
    command = [sys.executable, "-c", SHARD, job]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        process.stdout.readline()
        wait_for_calls(folder, process, rng.randint(0, ITEMS))
        time.sleep(rng.uniform(0, 0.03))
        kill_tree(process)
    about = manifest.read_job(job)
    stored = finished_in(about)
    Path(folder, "calls").write_text("")
    reference = runwide.shard(job, 0, workers=2)
    called = [int(line) for line in Path(folder, "calls").read_text().split()]
    assert sorted(called) == sorted(set(range(ITEMS)) - stored), f"seed {seed}"
    right(runwide.gather(job, [reference], on_error="return"))
    return len(stored)


def finished_in(about):
    from runwide.job.chunk_log import ChunkLog

    store = open_store(about.uri)
    log = ChunkLog(store, about, 0)
    log.resume()
    return log.finished


def run_many(tmp_path, seeds, store=None):
    stored = []
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        stored.append(killed_and_run_again(folder, store or str(folder / "store"), seed))
    return stored


def test_a_killed_shard_computes_only_the_rest(tmp_path):
    run_many(tmp_path, range(8))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 300, 40))
def test_a_shard_killed_at_any_of_200_moments_computes_only_the_rest(tmp_path, first):
    stored = run_many(tmp_path, range(first, first + 40))
    assert len(set(stored)) > 5, "the moments were not spread over the run"


@pytest.mark.gcs
def test_a_shard_killed_while_it_writes_to_a_bucket_computes_only_the_rest(gcs, tmp_path):
    run_many(tmp_path, range(3), store=gcs)


def test_two_copies_of_which_one_is_killed_agree_with_the_next(tmp_path):
    job = runwide.scatter(task(tmp_path), range(ITEMS), store=str(tmp_path / "store"), shards=1)
    command = [sys.executable, "-c", SHARD, job]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(command, **options) as first, subprocess.Popen(command, **options) as second:
        second.stdout.readline()
        time.sleep(0.15)
        kill_tree(first)
        assert second.wait(timeout=60) == 0
    right(runwide.gather(job, [runwide.shard(job, 0, workers=1)], on_error="return"))


def test_writers_that_append_at_once_have_every_item_exactly_once(tmp_path):
    from runwide.job.chunk_log import ChunkLog, Ended
    from runwide.store import pack
    from runwide.store.codec import encode

    job = runwide.scatter(abs, range(200), store=str(tmp_path), shards=1)
    about = manifest.read_job(job)

    def write(seed):
        log = ChunkLog(open_store(about.uri), about, 0)
        order = list(range(200))
        rng = random.Random(seed)
        rng.shuffle(order)
        while order:
            part = [order.pop() for _ in range(min(len(order), rng.randint(1, 9)))]
            log.append(
                [
                    Ended(pack.Member(item, encode(seed, context=model.result_context(about.digest, item))))
                    for item in part
                ]
            )

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = ChunkLog(open_store(about.uri), about, 0)
    log.resume()
    assert log.finished == set(range(200))
    assert sum(stop - start for one in log.manifest().chunks for start, stop in one.positions) == 200
