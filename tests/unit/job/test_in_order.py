"""Results of a job come in input order, in bounded memory, with results of later items in files."""

from __future__ import annotations

import subprocess
import sys

import pytest

import runwide
from runwide.errors import DigestMismatch, JobIncomplete, ScratchError
from runwide.job import finish, in_order, manifest, rerun
from runwide.job.reference import parse
from runwide.records import Failure
from runwide.store.base import open_inside, open_store


def odd(x):
    if x % 7 == 3:
        raise ValueError(x)
    return x


@pytest.fixture(params=[None, 0], ids=["in memory", "in files"])
def held(request, monkeypatch, tmp_path):
    """Hold chunks in memory or in files; return the folder of the files."""
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(tmp_path))
    if request.param is not None:
        monkeypatch.setitem(in_order.stored.__kwdefaults__, "memory", request.param)
    return tmp_path


def scattered(store, function=odd, count=100, shards=7):
    job = runwide.scatter(function, range(count), store=store, shards=shards)
    return job, [runwide.shard(job, index, workers=1) for index in range(shards)]


def test_a_stream_has_what_a_list_has_and_leaves_no_file(anywhere, held):
    job, shards = scattered(anywhere)
    result = finish(job, shards)
    expected = list(map(str, runwide.gather(job, shards, on_error="return")))
    for stream in (
        runwide.gather(job, shards, on_error="return", stream=True),
        runwide.load(result, on_error="return", stream=True),
        runwide.load(job, on_error="return", stream=True),
    ):
        assert next(stream) == 0
        assert list(map(str, stream)) == expected[1:]
    assert list(held.glob("runwide-results-*")) == []


def test_a_failure_is_raised_where_it_is_due(memory, held):
    job, shards = scattered(memory)
    stream = runwide.gather(job, shards, stream=True)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(stream)
    assert list(held.glob("runwide-results-*")) == []


def test_an_item_that_failed_and_was_run_again_has_its_last_result(memory):
    job, _ = scattered(memory)
    again = rerun(job, function=lambda x: -x, workers=1)
    found = list(runwide.gather(job, again, stream=True))
    assert found == [-x if x % 7 == 3 else x for x in range(100)]


def test_each_chunk_is_read_once_and_an_unfinished_stream_removes_its_files(memory, held):
    job, _ = scattered(memory, function=abs)
    about = manifest.read_job(job)
    with open_inside(about.uri) as store:
        found = [manifest.read_shard(store, about, index)[0] for index in range(7)]
        chunks = [chunk.name for shard in found for chunk in shard.chunks]
        reads = []
        read = store.read
        store.read = lambda name, **words: reads.append(name) or read(name, **words)
        assert [one.item for one in in_order.stored(store, about, found)] == list(range(100))
        assert sorted(reads) == sorted(chunks)
        stream = in_order.stored(store, about, found)
        next(stream)
        stream.close()
    assert list(held.glob("runwide-results-*")) == []


def test_removed_and_changed_chunks_are_errors(memory):
    job, shards = scattered(memory, function=abs)
    result = finish(job, shards)
    store = open_store(parse(job).folder)
    name = next(info.name for info in store.list("shards/0003/chunks/"))
    data = store.read(name)
    store.delete(name)
    with pytest.raises(JobIncomplete, match="were removed from the store"):
        list(runwide.load(result, stream=True))
    data[-70] ^= 1
    store.create(name, data)
    with pytest.raises(DigestMismatch):
        list(runwide.load(result, stream=True))


def test_temporary_files_that_cannot_be_written_are_an_error(memory, monkeypatch, tmp_path):
    job, shards = scattered(memory, function=abs)
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(tmp_path / "missing"))
    monkeypatch.setitem(in_order.stored.__kwdefaults__, "memory", 0)
    with pytest.raises(
        ScratchError, match="results of later items cannot be written to a temporary file"
    ) as caught:
        list(runwide.gather(job, shards, stream=True))
    assert "RUNWIDE_SCRATCH" in caught.value.hint


PEAK = """
import re, sys
import runwide

load = runwide.load(sys.argv[1], stream=sys.argv[2] == "stream")
count = sum(1 for _ in load)
print(count, re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def test_a_stream_takes_a_fraction_of_the_memory_of_the_list(tmp_path):
    job, shards = scattered(str(tmp_path), function=lambda x: bytes(4 << 20), count=120, shards=3)
    result = finish(job, shards)

    def peak(how):
        command = [sys.executable, "-c", PEAK, result, how]
        count, kib = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert count == "120"
        return int(kib)

    assert peak("stream") < peak("list") - 150_000  # of 480 MB; chunks of 32 MiB are on the way


def test_a_stream_has_failures_in_the_same_order_as_a_list(memory):
    job, shards = scattered(memory, count=8, shards=2)
    found = list(runwide.gather(job, shards, on_error="return", stream=True))
    assert [type(one) for one in found] == [int, int, int, Failure, int, int, int, int]
