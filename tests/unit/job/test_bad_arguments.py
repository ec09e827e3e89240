"""Invalid arguments are an error of runwide, in one line, before anything is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import runwide
from runwide.errors import BadReference, InputError


def test_a_store_may_be_a_path_object(tmp_path):
    place = tmp_path / "a store"
    job = runwide.scatter(abs, [-1, -2], store=place, shards=1)
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [1, 2]
    assert runwide.map(abs, [-1], store=place, name="map", workers=1) == [1]
    with runwide.Pool(1, store=place, name="pool") as pool:
        assert pool.map(abs, [-1]) == [1]
    assert len(list(place.glob("?-*"))) == 3


@pytest.mark.parametrize("store", [5, None, b"/bytes", Path("gs://bucket/x"), ["a"]])
def test_an_invalid_store_is_a_bad_reference(store):
    with pytest.raises(BadReference, match=r"is not the URI of a store|two slashes") as caught:
        runwide.scatter(abs, [-1], store=store, shards=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shards", [1.5, "3", True, None, -1, 0])
def test_shards_are_a_whole_number_of_one_or_more(memory, shards):
    with pytest.raises(InputError, match=r"invalid shards=.*: expected"):
        runwide.scatter(abs, [-1, -2], store=memory, shards=shards)


@pytest.mark.parametrize("index", ["0", 0.0, True, None])
def test_the_index_of_a_shard_is_a_whole_number(memory, index):
    job = runwide.scatter(abs, [-1, -2], store=memory, shards=2)
    with pytest.raises(InputError, match=r"invalid index=.*: expected a whole number"):
        runwide.shard(job, index, workers=1)


def test_whole_numbers_of_numpy_are_whole_numbers(memory):
    job = runwide.scatter(abs, [-1, -2], store=memory, shards=np.int64(2))
    assert runwide.gather(job, [runwide.shard(job, np.int32(i), workers=1) for i in range(2)]) == [1, 2]


@pytest.mark.parametrize("job", [None, "", 5, b"x", "nonsense"], ids=repr)
def test_a_job_is_a_reference(job):
    with pytest.raises(BadReference, match="is not a reference"):
        runwide.shard(job, 0)


@pytest.mark.parametrize("shards", [[None], [5], "0:abc"])
def test_results_of_shards_must_be_references(memory, shards):
    job = runwide.scatter(abs, [-1, -2], store=memory, shards=2)
    with pytest.raises(BadReference, match="is not a reference"):
        runwide.gather(job, shards)


@pytest.mark.parametrize("name", [5, b"x", "\udcff"])
def test_the_name_of_a_job_is_text(memory, name):
    with pytest.raises(InputError, match="name"):
        runwide.map(abs, [-1], store=memory, name=name, workers=1)
