"""Every item is in exactly one place of exactly one shard."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import InputError, NoItems, ShardOutOfRange
from runwide.job import plan
from runwide.job.layout import Layout


@st.composite
def layouts(draw):
    """A layout of any kind."""
    count = draw(st.integers(1, 500))
    base = draw(st.integers(1, min(count, 40)))
    seed = draw(st.sampled_from(["", "a-1", "b-2"]))
    parts = draw(st.integers(1, min(5, count // base))) if seed else 1
    return Layout(count, base * parts, seed, parts)


@given(layouts())
def test_every_item_is_in_one_place_of_one_shard_and_shards_differ_by_one_item_at_most(layout):
    parts = [layout.items(shard) for shard in range(layout.shards)]
    assert sorted(item for part in parts for item in part) == list(range(layout.count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for shard, part in enumerate(parts):
        assert list(part) == sorted(part) == list(part[:]) == [part[place] for place in range(len(part))]
        for place, item in enumerate(part):
            assert (layout.shard_of(item), layout.position_of(item)) == (shard, place)
            assert layout.item(shard, place) == item
            assert part.index(item) == place
        assert [item in part for item in range(-1, layout.count + 1)] == [
            item in list(part) for item in range(-1, layout.count + 1)
        ]


@given(st.integers(1, 30), st.integers(0, 30), st.sampled_from(["a-1", "b-2"]))
def test_periodic_items_are_spread_over_the_shards(period, shift, seed):
    shards, rounds = 10, 400
    layout = Layout(shards * rounds, shards, seed)
    large = range(shift, layout.count, period)
    loads = [sum(layout.shard_of(item) == shard for item in large) for shard in range(shards)]
    even = len(large) / shards
    assert max(loads) <= even + 6 * even**0.5


def test_items_in_input_order_are_even_and_one_shard_has_the_order_of_the_input():
    layout = Layout(1000, 10, "seed")
    assert len({sum(layout.items(shard)) // 2000 for shard in range(10)}) <= 2
    assert list(Layout(5, 1, "seed").items(0)) == list(range(5))


@given(st.sets(st.integers(0, 300)))
def test_spans_have_the_items_from_which_they_were_made(items):
    spans = plan.spans(items)
    assert [item for span in spans for item in range(*span)] == sorted(items)
    assert all(left[1] < right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize(
    ("count", "shards", "error"), [(0, 1, NoItems), (3, 0, InputError), (3, -1, InputError)]
)
def test_no_items_and_invalid_numbers_of_shards_are_errors(count, shards, error):
    with pytest.raises(error):
        plan.shard_count(count, shards)


@pytest.mark.parametrize("index", [-1, 2, 100])
@pytest.mark.parametrize("seed", ["", "seed"], ids=["consecutive", "dealt"])
def test_an_index_out_of_range_names_the_range(index, seed):
    with pytest.raises(ShardOutOfRange, match="from 0 to 1") as caught:
        Layout(6, 2, seed).items(index, uri="gs://b/job")
    assert isinstance(caught.value, IndexError)


def test_a_result_waits_less_than_five_seconds_for_a_bucket_and_less_than_one_for_a_folder():
    assert plan.flush_after("gs://bucket/runs") < 5
    assert plan.flush_after("/data/runs") < 1
    assert plan.flush_after("C:/data/runs") < 1
