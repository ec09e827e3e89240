"""Every item is in exactly one chunk of exactly one shard."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import InputError, NoItems, ShardOutOfRange
from runwide.job import plan


@given(st.integers(1, 500), st.integers(1, 600))
def test_every_item_is_in_exactly_one_shard_and_shards_differ_by_one_item_at_most(count, shards):
    starts = plan.bounds(count, shards)
    parts = [plan.items_of(starts, index) for index in range(len(starts) - 1)]
    assert [item for part in parts for item in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(parts) == min(count, shards)


@given(st.sets(st.integers(0, 300)))
def test_spans_hold_what_they_were_made_of(items):
    spans = plan.spans(items)
    assert list(plan.members(spans)) == sorted(items)
    assert all(left[1] < right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize(
    ("count", "shards", "error"), [(0, 1, NoItems), (3, 0, InputError), (3, -1, InputError)]
)
def test_nothing_to_divide_is_said(count, shards, error):
    with pytest.raises(error):
        plan.bounds(count, shards)


@pytest.mark.parametrize("index", [-1, 2, 100])
def test_an_index_out_of_range_names_the_range(index):
    with pytest.raises(ShardOutOfRange, match="from 0 to 1") as caught:
        plan.items_of([0, 3, 6], index, uri="gs://b/job")
    assert isinstance(caught.value, IndexError)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_result_waits_longer_only_in_a_longer_shard(first, second):
    early, late = sorted((first, second))
    assert 5 <= plan.flush_after(early) <= plan.flush_after(late) <= 60
