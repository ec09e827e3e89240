"""A job that is reduced has one value: shards fold their own results, and then each other's, as a tree in the store."""

from __future__ import annotations

import operator

import pytest

import runwide
from runwide.api.functions import program_of
from runwide.api.reducing import reduced
from runwide.cli.status import lines
from runwide.errors import (
    FunctionChanged,
    InputError,
    IntegrityError,
    JobIncomplete,
    NoItems,
    ReductionFailed,
    TasksFailed,
    WrongType,
)
from runwide.job import Checkpoint, close, finish, manifest, rerun
from runwide.job.reducing import levels
from runwide.job.reference import parse
from runwide.store.base import open_store

KEY = "k" * 32


def texts(store, shards, count=40, function=lambda x: f"{x},"):
    return runwide.scatter(
        program_of(function, reduce=operator.add), range(count), store=store, shards=shards
    )


def joined(count=40):
    return "".join(f"{x}," for x in range(count))


def nodes(job):
    return sorted(info.name for info in open_store(parse(job).folder).list("reduce/"))


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_shards_in_any_order_give_one_value_in_the_order_of_the_items(anywhere, shards):
    job = texts(anywhere, shards)
    order = [*range(1, shards), 0]
    references = [runwide.shard(job, index, workers=1) for index in order]
    assert nodes(job)[-1].startswith(f"reduce/{levels(manifest.read_job(job)):02d}/")  # before anyone gathers
    assert runwide.gather(job, references) == joined()
    result = finish(job, references)
    assert runwide.load(result) == runwide.load(job) == joined()
    assert list(runwide.load(result, stream=True)) == [joined()]


def test_a_shard_that_runs_again_or_has_a_copy_changes_nothing(memory):
    job = texts(memory, 3)
    for index in (0, 1, 1, 2, 0, 2):
        runwide.shard(job, index, workers=1)
    made = nodes(job)
    assert len(made) == 3 + 2 + 1
    assert runwide.gather(job) == joined()
    assert nodes(job) == made


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_the_next_run_or_gather_completes_a_shard_that_was_killed_between_two_writes(memory, lost):
    job = texts(memory, 4)
    references = [runwide.shard(job, index, workers=1) for index in range(4)]
    store = open_store(parse(job).folder)
    for name in nodes(job)[-lost:]:
        store.delete(name)
    if lost % 2:
        runwide.shard(job, 3, workers=1)
    assert runwide.gather(job, references) == joined()
    assert len(nodes(job)) == 4 + 2 + 1


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_damaged_and_forged_values_count_as_absent(memory, monkeypatch, key):
    if key:
        monkeypatch.setenv("RUNWIDE_SIGNING_KEY", key)
    job = texts(memory, 2)
    references = [runwide.shard(job, index, workers=1) for index in range(2)]
    store = open_store(parse(job).folder)
    root = nodes(job)[-1]
    data = store.read(root)
    data[-70] ^= 1
    store.delete(root)
    store.create(root, data)
    if key:
        leaf = nodes(job)[0]
        data = store.read(leaf)
        data[64:96] = bytes(32)  # the signature
        store.delete(leaf)
        store.create(leaf, data)
    result = finish(job, references)
    assert root.replace(".pack", "-0001.pack") in nodes(job)
    assert runwide.load(result) == joined()


def test_a_result_names_its_value_by_digest(memory):
    job = texts(memory, 2)
    result = finish(job, [runwide.shard(job, index, workers=1) for index in range(2)])
    other = texts(memory, 2, function=lambda x: "planted")
    for index in range(2):
        runwide.shard(other, index, workers=1)
    store, root = open_store(parse(job).folder), nodes(job)[-1]
    store.delete(root)
    store.create(root, open_store(parse(other).folder).read(root))
    with pytest.raises(IntegrityError):
        runwide.load(result)


def test_items_that_fail_raise_as_without_a_reduction_and_a_rerun_gives_the_value(memory, tmp_path):
    def fails(x):
        if x in (3, 30) and not (tmp_path / "mended").exists():
            raise ValueError(x)
        return f"{x},"

    job = texts(memory, 3, function=fails)
    references = [runwide.shard(job, index, workers=1) for index in range(3)]
    with pytest.raises(ValueError, match="3") as caught:
        runwide.gather(job, references)
    assert isinstance(caught.value.__cause__, TasksFailed)
    assert [one.index for one in caught.value.__cause__.failures] == [3, 30]
    assert len(nodes(job)) == 1  # of the shard in the middle
    (tmp_path / "mended").touch()
    assert runwide.gather(job, rerun(job, workers=1)) == joined()


def test_a_shard_that_was_closed_has_no_value(memory):
    job = texts(memory, 2)
    references = [runwide.shard(job, 0, workers=1), close(job, 1, JobIncomplete("no machine"))]
    with pytest.raises(JobIncomplete, match="no machine"):
        runwide.gather(job, references)


def test_a_named_map_on_this_machine_is_reduced(memory):
    place = Checkpoint(memory, "n", 3)
    for items in (range(200), iter(range(200))):
        assert place.map(lambda x: [x], items, reduce=operator.add, workers=1) == list(range(200))
    with pytest.raises(FunctionChanged):
        place.map(lambda x: [x], range(200), workers=1)
    with pytest.raises(InputError, match=r'reduce= cannot be combined with on_error="return"'):
        place.map(lambda x: [x], range(200), reduce=operator.add, on_error="return")


def test_the_results_of_another_job_are_reduced(memory):
    source = runwide.map(lambda x: x, range(50), store=memory, shards=4, workers=1)
    found = Checkpoint(memory, None, 3).map(lambda x: [x], source.job, reduce=operator.add, workers=1)
    assert found == list(range(50))


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 700])
def test_a_map_on_the_cores_of_this_container_is_reduced_in_order(count):
    assert reduced(lambda x: [x], iter(range(count)), operator.add, workers=2) == list(range(count))


def test_errors_of_a_reduction_on_the_cores_of_this_container():
    with pytest.raises(ZeroDivisionError) as caught:
        reduced(lambda x: 1 / (x % 50 - 7), range(200), operator.add, workers=1)
    assert [one.index for one in caught.value.__cause__.failures] == [7, 57, 107, 157]
    with pytest.raises(NoItems):
        reduced(abs, [], operator.add)
    with pytest.raises(TypeError, match="unsupported operand"):
        reduced(str, range(3), operator.sub, workers=1)
    for wrong in (5, "sum"):
        with pytest.raises(WrongType, match="cannot be called"):
            reduced(abs, [1], wrong)


def test_the_error_of_a_failed_reduction_does_not_name_an_item(memory):
    def wrong(left, right):
        raise KeyError("price")

    job = runwide.scatter(program_of(abs, reduce=wrong), range(6), store=memory, shards=2)
    for index in range(2):
        with pytest.raises(KeyError, match="price"):
            runwide.shard(job, index, workers=1)
    with pytest.raises(ReductionFailed, match="function of reduce= failed: KeyError: 'price'") as caught:
        runwide.gather(job)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "item" not in caught.value.message
    assert any("runwide gather" in line for line in lines(runwide.status(job)))
