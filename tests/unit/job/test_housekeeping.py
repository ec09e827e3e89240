"""Status of jobs, reruns of failed items, replays of one item, and the deletion of jobs."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runwide
from runwide.job import clean, clean_older, finish, manifest, status
from runwide.job.housekeeping import made_at, older
from runwide.job.reference import parse
from runwide.store.base import open_store
from runwide.testing.stores import mount


def square(x):
    return x * x


def run(job):
    return [runwide.shard(job, index, workers=1) for index in range(manifest.read_job(job).shards)]


def test_status_shows_finished_and_failed_shards(anywhere):
    job = runwide.scatter(lambda x: 1 // x, range(4), store=anywhere, shards=2)
    assert [(one.finished, one.items, one.chunks) for one in status(job).shards] == [(False, 2, 0)] * 2
    first = manifest.read_job(job).shard_of(0)  # whose item fails
    runwide.shard(job, first, workers=1)
    found = status(job)
    assert (found.finished, found.failed, found.items, found.gathered) == (1, 1, 4, False)
    runwide.shard(job, 1 - first, workers=1)
    finish(job)
    assert (status(job).finished, status(job).gathered) == (2, True)


def test_clean_deletes_one_job_and_nothing_else(anywhere):
    first, second = (runwide.scatter(square, range(4), store=anywhere, shards=2) for _ in range(2))
    run(first)
    root = open_store(anywhere)
    root.create("else", b"")
    assert clean(first) == 11
    left = {info.name.partition("/")[0] for info in root.list()}
    assert left == {"else", manifest.read_job(second).id}
    assert clean(parse(second).folder) == 5


@pytest.mark.parametrize(
    "uri", ["memory://x", "gs://bucket", "/tmp", "memory://x/a-20261124t231308-36c13f7040d35a90/items"]
)
def test_clean_rejects_folders_that_are_not_jobs(uri):
    with pytest.raises(runwide.errors.BadReference, match="not the folder of a job"):
        clean(uri)


def test_jobs_are_cleaned_by_age_and_nothing_else_is(anywhere):

    jobs = [runwide.scatter(square, [1], store=anywhere, shards=1) for _ in range(2)]
    open_store(anywhere).create("else/object", b"")
    made = made_at(manifest.read_job(jobs[0]).id)
    assert abs(made - time.time()) < 60
    assert clean_older(anywhere, seconds=3600, now=made + 3500) == []
    assert sorted(clean_older(anywhere, seconds=3600, now=made + 3700)) == sorted(
        parse(job).folder for job in jobs
    )
    assert [info.name for info in open_store(anywhere).list()] == ["else/object"]


def test_only_failed_items_are_run_again_and_their_new_results_count(tmp_path):
    def until_fixed(x):
        with Path(tmp_path, "calls").open("a") as file:
            file.write(f"{x} ")
        if x in (3, 7, 8) and not Path(tmp_path, "fixed").exists():
            raise ValueError(x)
        if x == 8:
            raise KeyError(x)
        return x

    job = runwide.scatter(until_fixed, range(10), store=str(tmp_path / "store"), shards=2)
    first = run(job)
    assert run(job) == first
    assert status(job).failed == 3
    Path(tmp_path, "fixed").touch()
    Path(tmp_path, "calls").write_text("")
    second = runwide.rerun(job, workers=1)
    assert sorted(map(int, Path(tmp_path, "calls").read_text().split())) == [3, 7, 8]
    found = runwide.gather(job, second, on_error="return")
    assert [x for x in found if not isinstance(x, runwide.Failure)] == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert found[8].type == "KeyError"
    assert status(job).failed == 1
    assert runwide.gather(job, on_error="return")[3] == 3
    assert run(job) == second  # what was run again is not forgotten by the next run


def test_a_corrected_function_can_be_replayed_on_an_item_and_run_on_failed_items(tmp_path):
    job = runwide.scatter(lambda x: 12 // x, [0, 3, 4], store=str(tmp_path), shards=2)
    run(job)
    calls = tmp_path / "calls"

    def mended(x):
        with calls.open("a") as file:
            file.write(f"{x} ")
        return 12 // x if x else None

    with pytest.raises(ZeroDivisionError):
        runwide.replay(job, 0)
    assert runwide.replay(job, 0, function=mended) is None
    assert runwide.gather(job, runwide.rerun(job, function=mended, workers=1)) == [None, 4, 3]
    assert calls.read_text() == "0 0 "


def test_a_rerun_of_a_job_without_failures_runs_nothing(tmp_path):
    job = runwide.scatter(lambda _: os.getpid(), range(4), store=str(tmp_path), shards=2)
    first = run(job)
    assert runwide.rerun(job, workers=1) == first


def test_a_rerun_runs_items_that_were_never_run(memory):
    job = runwide.scatter(square, range(6), store=memory, shards=3)
    runwide.shard(job, 1, workers=1)
    assert runwide.gather(job, runwide.rerun(job, workers=1)) == [x * x for x in range(6)]


def test_successful_items_are_never_run_again(memory):
    job = runwide.scatter(square, range(6), store=memory, shards=3)
    with pytest.raises(runwide.errors.InputError, match="never run again"):
        runwide.rerun(job, only="all")


def test_replay_runs_one_item_here_and_writes_nothing(memory):
    here = os.getpid()
    job = runwide.scatter(lambda x: (os.getpid() == here, 10 // x), [5, 0, 2], store=memory, shards=2)
    before = list(open_store(memory).list())
    assert runwide.replay(job, 0) == (True, 2)
    with pytest.raises(ZeroDivisionError):
        runwide.replay(job, 1)
    with pytest.raises(runwide.errors.InputError, match="no item 3, since the job has 3 items"):
        runwide.replay(job, 3)
    assert list(open_store(memory).list()) == before


def test_a_folder_whose_name_has_an_impossible_date_stays(memory):
    store = open_store(memory)
    store.create("a-99999999t999999-0123456789abcdef/job.json", b"")
    store.create("a-20200101t000000-0123456789abcdef/job.json", b"")
    assert older(memory, seconds=1) == [f"{memory}/a-20200101t000000-0123456789abcdef"]


KILLED = """
import os, signal, sys, threading
from runwide.store import local
from runwide.store.base import open_store
real = local._write
def write(path, parts):
    real(path, [memoryview(b"half")])
    os.kill(os.getpid(), signal.SIGKILL)
local._write = write
open_store(sys.argv[1]).create("shards/0000/chunks/000000.pack", b"whole")
"""


def test_files_of_a_killed_writer_are_deleted_with_its_job(tmp_path):
    job = runwide.scatter(square, [1], store=str(tmp_path), shards=1)
    folder = Path(parse(job).folder)
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=60)
    assert list(folder.rglob(".partial-*"))
    clean(job)
    assert list(tmp_path.iterdir()) == []


def test_status_reads_the_shards_manifests_side_by_side(tmp_path):
    job = runwide.scatter(square, range(16), store=str(tmp_path), shards=16)
    run(job)
    asked = itertools.count(1)
    four = threading.Event()

    def hook(method, name, _count):
        if method == "read" and name.endswith("shard.json"):
            if next(asked) >= 4:
                four.set()
            assert four.wait(timeout=60), "fewer than four were on the way at once"

    slow = mount("side-by-side", str(tmp_path), hook)
    about = manifest.read_job(job)
    assert status(f"{slow}/{about.id}/job.json#sha256={about.digest}").finished == 16
