"""An attacker who may write to the bucket: nothing of theirs is ever unpickled.

They do not have what travels through the pipeline (the references), and where a signing key is set, not the key. They
know everything that the bucket holds. `Bomb` is what they want to have unpickled: it writes a file where it goes off.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import runwide
from runwide import json_text
from runwide.errors import DigestMismatch, FrameCorrupt, IntegrityError
from runwide.job import chunk_log, finish, load, manifest, model
from runwide.job._scatter import scatter_pickled
from runwide.job.reference import parse
from runwide.pickling.functions import function_pickle
from runwide.records import Failure, FailureKind
from runwide.store import pack
from runwide.store.base import open_store
from runwide.store.codec import encode

pytestmark = pytest.mark.faults

KEY = "a key of the pipeline's own that is long enough"


@pytest.fixture
def job(tmp_path):
    """Of two shards with six consecutive items each."""
    made = function_pickle(lambda x: x * x)
    return scatter_pickled(
        made.data, range(12), store=str(tmp_path / "store"), shards=2, needs=made.needs, dealt=False
    )


@pytest.fixture
def folder(job):
    return Path(parse(job).folder)


def run(job):
    return [runwide.shard(job, index, workers=1) for index in range(2)]


RIGHT = [x * x for x in range(12)]


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(data) if isinstance(data, tuple) else data)


def chunk_of(job, number, values, *, shard=0, failures=(), signed_as=None):
    """A chunk that is right in every respect but its contents."""
    about = manifest.read_job(job)
    members = [
        pack.Member(item, encode(value, context=model.result_context(about.digest, item)))
        for item, value in values.items()
    ]
    slot = f"shards/{shard:04d}/chunks/{number:06d}.pack"
    note = {"environment": dict(about.environment), "failures": list(failures), "time": 0.0}
    return slot, pack.build(members, job=signed_as or about.digest, slot=slot, note=note).parts


def test_a_swapped_function_is_refused(job, folder, bomb):
    put(folder / "function.pkl", b"".join(encode(bomb, context="x").parts))
    with pytest.raises(DigestMismatch, match=r"function\.pkl"):
        run(job)


@pytest.mark.parametrize("where", ["head", "values", "all"])
def test_swapped_items_are_refused(job, folder, bomb, where):
    about = manifest.read_job(job)
    target = folder / "items/0000.pack"
    old = target.read_bytes()
    items = about.items_of(0)
    members = [pack.Member(n, encode(bomb, context=model.item_context(about.id, n))) for n in items]
    new = b"".join(pack.build(members, job=about.id, slot="items/0000.pack").parts)
    head = about.packs[0].head
    put(target, {"head": new[:head] + old[head:], "values": old[:head] + new[head:], "all": new}[where])
    if where != "values":
        with pytest.raises(DigestMismatch, match=r"0000\.pack"):
            runwide.shard(job, 0, workers=1)
        return
    found = runwide.gather(job, run(job), on_error="return")
    assert {found[n].kind for n in items} == {FailureKind.PICKLING}
    assert "not the promised" in found[items[0]].message
    assert all(found[n] == RIGHT[n] for n in about.items_of(1))


def test_items_of_another_job_cannot_be_replayed(job, folder, tmp_path):
    other = runwide.scatter(lambda x: x, range(100, 112), store=str(tmp_path / "store"), shards=2)
    put(folder / "items/0000.pack", Path(parse(other).folder, "items/0000.pack").read_bytes())
    with pytest.raises(DigestMismatch):
        runwide.shard(job, 0, workers=1)


def test_an_edited_job_is_refused(job, folder):
    about = json_text.loads((folder / "job.json").read_bytes())
    about["function"]["digest"] = "0" * 64
    put(folder / "job.json", json_text.dumps(about))
    with pytest.raises(DigestMismatch, match=r"job\.json"):
        run(job)


def test_swapped_results_are_refused(job, folder, bomb):
    shards = run(job)
    slot, parts = chunk_of(job, 0, dict.fromkeys(range(6), bomb))
    put(folder / slot, parts)
    with pytest.raises(DigestMismatch, match=r"000000\.pack"):
        runwide.gather(job, shards)


def test_an_edited_shard_manifest_is_refused(job, folder, bomb):
    shards = run(job)
    slot, parts = chunk_of(job, 0, dict.fromkeys(range(6), bomb))
    put(folder / slot, parts)
    head = pack.read_head(b"".join(parts))
    chunk = manifest.Chunk(slot, head.stop, head.digest, ((0, 6),))
    put(
        folder / manifest.shard_name(0),
        manifest.shard_bytes(manifest.Shard(0, (chunk,), ()), manifest.read_job(job)),
    )
    with pytest.raises(DigestMismatch, match=r"shard\.json"):
        runwide.gather(job, shards)


def test_an_edited_result_is_refused(job, folder):
    result = finish(job, run(job))
    about = json_text.loads((folder / "result.json").read_bytes())
    about["shards"].reverse()
    put(folder / "result.json", json_text.dumps(about))
    with pytest.raises(DigestMismatch, match=r"result\.json"):
        load(result)


def test_the_results_of_one_shard_cannot_replace_those_of_another(job, folder):
    shards = run(job)
    put(folder / manifest.shard_name(1), (folder / manifest.shard_name(0)).read_bytes())
    with pytest.raises(DigestMismatch):
        runwide.gather(job, shards)
    with pytest.raises(FrameCorrupt, match="another shard than 1"):
        runwide.gather(job)


@pytest.mark.parametrize(
    "name", ["function.pkl", "items/0000.pack", "shards/0000/chunks/000000.pack", "job.json"]
)
def test_truncated_objects_are_refused(job, folder, name):
    shards = run(job)
    for keep in (0, 1, 100, -1):
        data = (folder / name).read_bytes()
        put(folder / name, data[:keep])
        try:
            with pytest.raises(IntegrityError):
                runwide.gather(job, shards)
            again = [runwide.shard(job, index, workers=1) for index in range(2)]
        except IntegrityError:  # a job without its function or items cannot go on
            assert name != "shards/0000/chunks/000000.pack"
        except pytest.fail.Exception:  # gather needs neither function nor items
            assert name in ("function.pkl", "items/0000.pack")
        else:
            assert runwide.gather(job, again) == RIGHT
            return
        finally:
            put(folder / name, data)


def test_a_chunk_of_another_slot_or_job_cannot_be_replayed(job, folder, tmp_path):
    other = runwide.scatter(lambda x: -x, range(12), store=str(tmp_path / "store"), shards=2)
    run(other)
    theirs = Path(parse(other).folder, "shards/0000/chunks/000000.pack").read_bytes()
    put(folder / "shards/0000/chunks/000000.pack", theirs)
    _, parts = chunk_of(job, 3, {6: 0}, shard=1)
    put(folder / "shards/0000/chunks/000001.pack", parts)
    put(folder / "shards/0001/chunks/000007.pack", parts)
    assert runwide.gather(job, run(job)) == RIGHT


def test_a_planted_chunk_is_ignored_where_a_signing_key_is_set(job, folder, bomb, monkeypatch):
    slot, parts = chunk_of(job, 0, dict.fromkeys(range(6), bomb))
    put(folder / slot, parts)
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    assert runwide.gather(job, run(job)) == RIGHT


def test_a_chunk_signed_with_another_key_is_ignored(job, folder, bomb, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY[::-1])
    slot, parts = chunk_of(job, 0, dict.fromkeys(range(6), bomb))
    put(folder / slot, parts)
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    assert runwide.gather(job, run(job)) == RIGHT


def test_a_planted_chunk_is_adopted_where_no_key_is_set(job, folder):
    """Without a key, chunks found on resume are trusted like the bucket, as SECURITY.md says."""
    slot, parts = chunk_of(job, 0, dict.fromkeys(range(6), "planted"))
    put(folder / slot, parts)
    assert runwide.gather(job, run(job)) == ["planted"] * 6 + RIGHT[6:]


def test_a_planted_chunk_is_ignored_where_the_run_has_a_key_of_its_own(job, folder, bomb):
    slot, parts = chunk_of(job, 0, dict.fromkeys(range(6), bomb))
    put(folder / slot, parts)
    shards = [runwide.shard(job, index, workers=1, run_key="ab" * 32) for index in range(2)]
    assert runwide.gather(job, shards) == RIGHT
    assert runwide.gather(job, run_key="ab" * 32) == RIGHT


def test_chunks_signed_with_the_key_are_taken_over(job, folder, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    slot, parts = chunk_of(job, 0, {0: "mine"})
    put(folder / slot, parts)
    assert runwide.gather(job, run(job)) == ["mine", *RIGHT[1:]]


def test_a_planted_manifest_is_superseded_where_a_key_is_set(job, folder, bomb, monkeypatch):
    slot, parts = chunk_of(job, 0, dict.fromkeys(range(6), bomb))
    put(folder / slot, parts)
    head = pack.read_head(b"".join(parts))
    chunk = manifest.Chunk(slot, head.stop, head.digest, ((0, 6),))
    put(
        folder / manifest.shard_name(0),
        manifest.shard_bytes(manifest.Shard(0, (chunk,), ()), manifest.read_job(job)),
    )
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    with pytest.raises(DigestMismatch, match="not signed"):
        runwide.gather(job)
    run(job)
    assert runwide.gather(job) == RIGHT


@pytest.mark.parametrize(
    "values",
    [
        {6: 0},  # an item of the other shard
        {5: 0, 99: 0},  # one that the job does not have
        {},
    ],
)
def test_a_planted_chunk_with_items_that_are_not_its_own_is_ignored(job, folder, values):
    slot, parts = chunk_of(job, 0, values)
    put(folder / slot, parts)
    assert runwide.gather(job, run(job)) == RIGHT


@pytest.mark.parametrize(
    "failures",
    [[{"index": 0}], ["x"], {"a": 1}, 7, [manifest.failure_to_json(Failure(1, FailureKind.CRASH, "T", "m"))]],
)
def test_a_planted_chunk_whose_notes_make_no_sense_is_ignored(job, folder, failures):
    about = manifest.read_job(job)
    slot = "shards/0000/chunks/000000.pack"
    member = pack.Member(0, encode(0, context=model.result_context(about.digest, 0)))
    put(folder / slot, pack.build([member], job=about.digest, slot=slot, note={"failures": failures}).parts)
    assert runwide.gather(job, run(job)) == RIGHT


def test_random_bytes_in_place_of_any_object_never_give_wrong_results(job, folder):
    shards = run(job)
    rng = random.Random(20261124)
    names = [path for path in folder.rglob("*") if path.is_file()]
    for _ in range(150):
        path = rng.choice(names)
        data = path.read_bytes()
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        put(path, bytes(damaged))
        try:
            assert runwide.gather(job, shards) == RIGHT
        except IntegrityError:
            pass
        finally:
            put(path, data)


@pytest.mark.parametrize(
    "spans", [((0, 2**60),), ((0, 2**60), (2**60, 6)), ((0, 6),) * 2, ((-6, 0),), ((0, 0),)]
)
def test_the_manifest_of_a_forged_shard_is_counted_before_it_is_walked(spans, job, folder):
    about = manifest.read_job(job)
    chunk = manifest.Chunk("shards/0000/chunks/000000.pack", 1, "0" * 64, spans)
    put(folder / manifest.shard_name(0), manifest.shard_bytes(manifest.Shard(0, (chunk,), ()), about))
    with pytest.raises(
        FrameCorrupt, match=r"each of its 6 items exactly once|has no positions|is negative or too large"
    ):
        runwide.gather(job)


@pytest.mark.parametrize("name", ["../../escaped", "/etc/hostname", "shards/0001/chunks/000000.pack"])
def test_a_forged_manifest_cannot_name_objects_elsewhere(job, folder, name):
    run(job)
    about = manifest.read_job(job)
    chunk = manifest.Chunk(name, 1, "0" * 64, ((0, 6),))
    put(folder / manifest.shard_name(0), manifest.shard_bytes(manifest.Shard(0, (chunk,), ()), about))
    with pytest.raises((IntegrityError, runwide.errors.BadReference)):
        runwide.gather(job)


def test_chunk_numbers_that_are_taken_by_garbage_are_passed_over(job, folder):
    for number in (0, 1, 5):
        put(folder / f"shards/0000/chunks/{number:06d}.pack", b"garbage")
    assert runwide.gather(job, run(job)) == RIGHT
    log = chunk_log.ChunkLog(open_store(str(folder)), manifest.read_job(job), 0)
    log.resume()
    assert [one.number for one in log.stored] == [2]
