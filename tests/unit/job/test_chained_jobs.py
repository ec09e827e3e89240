"""The results of a job can be the items of another job, without a copy."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import runwide
from runwide.errors import DigestMismatch, InputError, IntegrityError, JobIncomplete
from runwide.job import clean, close, finish, in_order, listing, manifest, model, status
from runwide.job.arrivals import Arrivals
from runwide.job.event_forwarding import EventForwarder
from runwide.job.reference import parse
from runwide.store import pack
from runwide.store.base import open_store
from runwide.store.codec import encode


def squares(store, count=60, shards=3, function=lambda x: x * x):
    """A job that has finished, and its shards' references."""
    job = runwide.scatter(function, range(count), store=store, shards=shards)
    return job, [runwide.shard(job, index, workers=1) for index in range(shards)]


def run(job):
    """Run all shards of a job, the last one first, and gather it."""
    shards = range(manifest.read_job(job).shards)
    return runwide.gather(job, [runwide.shard(job, index, workers=1) for index in reversed(shards)])


@pytest.mark.parametrize("shards", [1, 2, 3, 6, 60])
@pytest.mark.parametrize("kind", ["job", "result"])
def test_results_are_items_for_any_number_of_shards(anywhere, shards, kind):
    job, references = squares(anywhere)
    given = job if kind == "job" else finish(job, references)
    chained = runwide.scatter(lambda x: -x, given, store=anywhere, shards=shards)
    about = manifest.read_job(chained)
    assert (about.shards, about.packs) == (shards, ())
    if shards < 60:
        assert run(chained) == [-x * x for x in range(60)]
    assert runwide.replay(chained, 7) == -49


def test_with_the_same_number_of_shards_each_reads_one_shard_and_with_a_multiple_it_is_split(memory):
    job, _ = squares(memory)
    theirs = manifest.read_job(job)
    for shards in (3, 6):
        about = manifest.read_job(runwide.scatter(abs, job, store=memory, shards=shards))
        assert all(
            {theirs.shard_of(item) for item in about.items_of(one)} == {one % 3} for one in range(shards)
        )


def test_ranges_of_a_large_chunk_are_read_if_little_of_it_is_needed(memory, monkeypatch):
    job, _ = squares(memory, shards=2, function=lambda x: bytes([x]) * 5000)
    chained = runwide.scatter(lambda x: x[0], job, store=memory, shards=5)
    monkeypatch.setattr(in_order, "_SMALL", 0)
    monkeypatch.setattr(in_order, "_GAP", 0)
    whole = []
    read_named = in_order.read_named
    monkeypatch.setattr(
        in_order, "read_named", lambda *args, **words: whole.append(1) or read_named(*args, **words)
    )
    assert runwide.gather(chained, [runwide.shard(chained, one, workers=1) for one in range(5)]) == list(
        range(60)
    )
    assert not whole


def test_a_chain_of_three_and_a_named_map_on_this_machine(memory):
    job, _ = squares(memory)
    second = runwide.map(lambda x: x + 1, job, store=memory, name="second", shards=3, workers=1)
    third = runwide.map(lambda x: x * 2, second.job, store=memory, workers=1)
    assert third == [2 * (x * x + 1) for x in range(60)]
    again = runwide.map(lambda x: x + 1, job, store=memory, name="second", shards=3, workers=1)
    assert (again, again.job) == (second, second.job)
    other, _ = squares(memory)
    for items in (other, range(60)):
        with pytest.raises(InputError, match="has other items than this call"):
            runwide.map(lambda x: x + 1, items, store=memory, name="second", workers=1)


def test_jobs_that_cannot_be_chained_are_an_error_of_one_line(memory, tmp_path):
    job, _ = squares(memory, function=lambda x: 1 // (x - 5))
    with pytest.raises(
        InputError, match="1 of 60 items of the job have failed and have no results to map over"
    ) as caught:
        runwide.scatter(abs, job, store=memory, shards=1)
    assert f"runwide rerun {job}" in caught.value.hint
    good, _ = squares(memory)
    with pytest.raises(InputError, match="is in another store than"):
        runwide.scatter(abs, good, store=str(tmp_path), shards=1)
    unfinished = runwide.scatter(abs, range(6), store=memory, shards=2)
    with pytest.raises(JobIncomplete, match="2 of 2 shards have not finished"):
        runwide.scatter(abs, unfinished, store=memory, shards=1)
    for refused in (job, unfinished):
        with pytest.raises((InputError, JobIncomplete)) as caught:
            runwide.map(abs, refused, store=memory)
        assert "\n" not in str(caught.value)


def test_a_source_that_was_removed_or_changed_later_is_an_error(memory):
    job, _ = squares(memory)
    chained = runwide.scatter(abs, job, store=memory, shards=3)
    store = open_store(parse(job).folder)
    chunk = next(info.name for info in store.list("shards/0001/chunks/"))
    data = store.read(chunk)
    data[-70] ^= 1
    store.delete(chunk)
    store.create(chunk, data)
    assert runwide.shard(chained, 0, workers=1)
    with pytest.raises(DigestMismatch):
        runwide.shard(chained, 1, workers=1)
    clean(job)
    with pytest.raises(JobIncomplete, match=r"results of the job .* were removed from the store") as caught:
        runwide.shard(chained, 2, workers=1)
    assert "\n" not in str(caught.value)


def test_a_map_here_reads_the_results_that_a_reference_means(memory):
    job, _ = squares(memory)
    assert runwide.map(lambda x: -x, job, workers=1) == [-x * x for x in range(60)]
    assert list(runwide.imap(lambda x: -x, job, workers=1)) == [-x * x for x in range(60)]
    assert runwide.map(lambda x: -x, job, reduce=min, workers=1) == -59 * 59


@pytest.fixture
def countless(tmp_path):
    """A finished chained job that claims a trillion items; its manifests and chunks agree with that."""
    job, _ = squares(tmp_path, count=20)
    about = manifest.read_job(runwide.scatter(abs, job, store=tmp_path, shards=3))
    folder = Path(about.uri)
    many = replace(about, layout=replace(about.layout, count=10**12))
    (folder / manifest.JOB).write_bytes(manifest.job_bytes(many))
    many = manifest.job_in(about.uri)
    for index in range(3):
        items = many.items_of(index)
        name = f"{manifest.shard_folder(index)}/chunks/000000.pack"
        member = pack.Member(items[0], encode(0, context=model.result_context(many.digest, items[0])))
        made = pack.build([member], job=many.digest, slot=name, note={"failures": []})
        chunk = manifest.Chunk(name, made.size, made.head.digest, ((0, len(items)),))
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"".join(made.parts))
        found = manifest.Shard(index, (chunk,), ())
        (folder / manifest.shard_name(index)).write_bytes(manifest.shard_bytes(found, many))
    return many


@contextmanager
def little_memory():
    """Take no more than 512 MiB beyond what this process has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + (512 << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("removed", [None, "shards/*/chunks/*.pack", "shards/*/shard.json"])
def test_a_job_that_claims_a_trillion_items_takes_no_memory(countless, removed):
    folder = Path(countless.uri)
    for path in folder.glob(removed) if removed else ():
        path.unlink()
    with little_memory():
        assert status(countless.uri).items == 10**12
        assert {one.items for one in listing.jobs_of(folder.parent).jobs} == {10**12, 20}
        for read in (
            runwide.load,
            runwide.gather,
            lambda job: list(runwide.load(job, stream=True)),
            lambda job: runwide.shard(job, 0, workers=1),
            lambda job: close(job, 0, RuntimeError("no machine")),
        ):
            with pytest.raises((IntegrityError, JobIncomplete)):
                read(countless.reference)
        with open_store(countless.uri) as store:
            for follow in (Arrivals, lambda *args: EventForwarder(*args, print)):
                with pytest.raises(IntegrityError, match="another number of items"):
                    follow(store, countless)
