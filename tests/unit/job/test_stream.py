"""Results of a job are read as its shards store them: each once, verified, in bounded memory, by few requests."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

import runwide
from runwide.errors import DigestMismatch, JobIncomplete, StoreUnavailable
from runwide.job._shard import end_of
from runwide.job.arrivals import Stream
from runwide.job.chunk_log import ChunkLog
from runwide.job.manifest import read_job
from runwide.job.writing import finish_shard
from runwide.records import Failure, FailureKind, Outcome
from runwide.store.base import open_inside, open_store
from runwide.store.codec import encode
from runwide.testing.stores import mount

COUNT, SHARDS = 24, 3


def negative(x):
    return -x


def one_over(x):
    return 1 / x


def scattered(root, function=negative, count=COUNT, shards=SHARDS):
    return read_job(runwide.scatter(function, range(count), store=root, shards=shards))


def ends_of(job, items, value):
    for item in items:
        try:
            given = encode(value(item), context=f"{job.digest}/result/{item}")
            yield end_of(Outcome(item, given), item, job)
        except ZeroDivisionError as error:
            failure = Failure(item, FailureKind.EXCEPTION, "ZeroDivisionError", str(error), exception=error)
            yield end_of(Outcome(item, failure=failure), item, job)


def store_chunk(job, index, items, value=negative, *, again=False):
    """Store one chunk of a shard, as a shard that runs does."""
    with open_inside(job.uri) as store:
        chunks = ChunkLog(store, job, index)
        chunks.resume()
        if again:
            chunks.run_failed_again()
        chunks.append(list(ends_of(job, items, value)))
        return chunks


def end_shard(job, index):
    """Write the shard's manifest, as one that has ended does."""
    with open_inside(job.uri) as store:
        chunks = ChunkLog(store, job, index)
        chunks.resume()
        return finish_shard(store, job, chunks, index)


def store_all(job, value=negative):
    for index in range(job.shards):
        store_chunk(job, index, job.items_of(index), value)
        end_shard(job, index)


def values(outcomes):
    return {one.index: one.failure or one.value for one in outcomes}


def counting(name, inner):
    """Return a store over another one, and the requests to it by kind."""
    made = Counter()

    def count(method, full, _):
        made[method, full.rpartition("/")[2] if method == "read" else ""] += 1

    return mount(name, inner, count), made


def test_each_chunk_is_yielded_once_as_soon_as_it_is_stored(anywhere):
    job = scattered(anywhere)
    with Stream(job) as stream:
        assert not list(stream.look())
        found = []
        for index in range(SHARDS):
            items = list(job.items_of(index))
            for part in (items[:3], items[3:]):
                store_chunk(job, index, part)
                new = values(stream.look())
                assert new == {item: -item for item in part}
                found += new
            end_shard(job, index)
        assert not list(stream.look())
        assert sorted(found) == list(range(COUNT))
        assert stream.arrivals.unfinished == []
        stream.arrivals.check()


def test_an_ordered_stream_follows_the_items_over_all_shards(memory):
    job = scattered(memory)
    parts = [(index, item) for index in range(SHARDS) for item in job.items_of(index)]
    random.Random(7).shuffle(parts)
    stored, found = set(), []
    with Stream(job, ordered=True) as stream:
        for index, item in parts:
            store_chunk(job, index, [item])
            stored.add(item)
            found += [one.value for one in stream.look()]
            ready = next((item for item in range(COUNT) if item not in stored), COUNT)
            assert found == [-item for item in range(ready)]
    assert len(found) == COUNT


def test_results_that_wait_for_an_earlier_one_are_in_files_that_are_closed_after_use(
    memory, tmp_path, monkeypatch
):
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(tmp_path))
    job = scattered(memory, one_over)
    kib = bytes(1000)

    def large(item):
        return (1 // item, kib)

    before = len(list(Path("/proc/self/fd").iterdir()))
    waiting = [item for item in range(COUNT) if item not in (0, 7)]
    with Stream(job, ordered=True, budget=4000) as stream:
        turns = stream._turns
        for item in waiting:
            store_chunk(job, job.shard_of(item), [item], large)
            assert not list(stream.look())
            assert turns.in_memory <= 4000
        assert turns.in_files > 15_000
        store_chunk(job, job.shard_of(0), [0], large)
        found = [*stream.look()]
        assert [one.index for one in found] == list(range(7))
        assert found[0].failure.type == "ZeroDivisionError"
        store_chunk(job, job.shard_of(7), [7], large)
        found += stream.look()
        assert [one.value for one in found[1:]] == [(1 // item, kib) for item in range(1, COUNT)]
        assert (turns.in_memory, turns.in_files) == (0, 0)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not list(tmp_path.iterdir())


def test_a_failure_that_was_in_a_file_is_restored(memory):
    job = scattered(memory, one_over, count=4, shards=2)
    with Stream(job, ordered=True, budget=0) as stream:
        store_chunk(job, job.shard_of(3), [3], lambda _: 1 / 0)
        assert not list(stream.look())
        for index in range(2):
            store_chunk(job, index, [item for item in job.items_of(index) if item != 3])
        *others, last = stream.look()
    assert [one.value for one in others] == [0, -1, -2]
    assert (last.failure.type, str(last.failure.exception)) == ("ZeroDivisionError", "division by zero")


def test_a_failed_item_that_may_run_again_is_yielded_when_its_shard_has_ended_again(memory):
    job = scattered(memory, one_over, count=4, shards=1)
    store_chunk(job, 0, range(4), one_over)
    end_shard(job, 0)
    with Stream(job, again=True) as stream:
        assert values(stream.look()) == {1: 1.0, 2: 0.5, 3: 1 / 3}
        assert not list(stream.look())
        store_chunk(job, 0, [0], negative, again=True)
        assert values(stream.look()) == {0: 0}
        end_shard(job, 0)
        assert not list(stream.look())
        assert stream.arrivals.unfinished == []


def test_a_failed_item_that_no_shard_runs_again_is_yielded_at_the_end(memory):
    job = scattered(memory, one_over, count=2, shards=1)
    store_chunk(job, 0, range(2), one_over)
    end_shard(job, 0)
    with Stream(job, again=True) as stream:
        assert values(stream.look()) == {1: 1.0}
        (last,) = stream.look(over=True)
        assert last.failure.type == "ZeroDivisionError"
        assert stream.arrivals.failed == 1


def test_a_damaged_chunk_is_ignored_and_its_items_are_yielded_when_they_have_run_again(tmp_path):
    job = scattered(str(tmp_path), count=4, shards=1)
    store_chunk(job, 0, [0, 1])
    path = tmp_path / job.id / "shards/0000/chunks/000000.pack"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with Stream(job) as stream:
        assert not list(stream.look())
        store_chunk(job, 0, range(4))
        end_shard(job, 0)
        assert values(stream.look()) == {item: -item for item in range(4)}


def test_a_changed_chunk_in_a_manifest_is_an_error(tmp_path):
    job = scattered(str(tmp_path), count=4, shards=1)
    with Stream(job) as stream:
        store_all(job)
        path = tmp_path / job.id / "shards/0000/chunks/000000.pack"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(DigestMismatch):
            list(stream.look())


def test_a_chunk_of_another_key_is_not_yielded(memory):
    plain = scattered(memory, count=4, shards=1)
    job, other = (read_job(plain.reference, run_key=letter * 32) for letter in "ab")
    store_chunk(other, 0, range(4))
    with Stream(job) as stream:
        assert not list(stream.look())
        store_chunk(job, 0, range(4))
        assert values(stream.look()) == {item: -item for item in range(4)}


def test_removed_results_and_missing_shards_are_named(tmp_path):
    job = scattered(str(tmp_path))
    with Stream(job) as stream:
        store_chunk(job, 0, job.items_of(0))
        end_shard(job, 0)
        (tmp_path / job.id / "shards/0000/chunks/000000.pack").unlink()
        with pytest.raises(JobIncomplete, match="were removed from the store"):
            list(stream.look())
    with Stream(scattered(str(tmp_path / "other"))) as stream:
        list(stream.look(over=True))
        with pytest.raises(JobIncomplete, match="3 of 3 shards have not finished"):
            stream.arrivals.check()


def test_a_store_that_does_not_answer_is_asked_at_the_next_look(memory):
    silent = []

    def hook(method, full, _):
        if silent and method == silent[0]:
            raise StoreUnavailable("no answer", uri=full)

    job = scattered(mount("silent", memory, hook))
    with Stream(job) as stream:
        store_all(job)
        for method in ("list", "read"):
            silent[:] = [method]
            assert not list(stream.look())
        with pytest.raises(StoreUnavailable):
            list(stream.look(over=True))
        silent.clear()
        assert values(stream.look()) == {item: -item for item in range(COUNT)}


def test_a_look_is_one_listing_and_reads_only_new_chunks(memory):
    root, made = counting("looks", memory)
    job = scattered(root)
    with Stream(job) as stream:
        made.clear()
        assert not list(stream.look())
        assert made == {("list", ""): 1}
        store_all(job)
        made.clear()
        assert len(list(stream.look())) == COUNT
        assert made == {("list", ""): 1, ("read", "000000.pack"): SHARDS}
        made.clear()
        assert not list(stream.look())
        assert not made


def test_if_all_objects_fill_several_pages_each_open_shard_is_listed_from_its_last_chunk_on(memory):
    root, made = counting("pages", memory)
    job = scattered(root, count=20, shards=2)
    first, second = list(job.items_of(0)), list(job.items_of(1))
    with Stream(job) as stream, open_store(memory) as store:
        for number in range(2100):  # as many parts of event logs
            store.create(f"{job.id}/shards/0000/events-{number:04d}.jsonl", b"")
        store_chunk(job, 1, second[:5])
        made.clear()
        assert len(list(stream.look())) == 5
        assert made["list", ""] == 1
        store_chunk(job, 0, first[:3])
        store_chunk(job, 1, second[5:7])
        made.clear()
        assert len(list(stream.look())) == 5
        assert made["list", ""] == 2
        store_chunk(job, 0, first[3:])
        store_chunk(job, 1, second[7:])
        assert len(list(stream.look())) == 10
