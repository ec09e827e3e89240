"""Small values of exact types travel many in one pickle, and nothing but their speed shows it."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runwide
from runwide.errors import ResultNotLoadable, ResultNotPicklable, WorkerDied
from runwide.pool import transfer
from runwide.pool.channel import Unframer, framed
from runwide.pool.transfer import copied

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.tuples(st.integers()), inner)
    ),
    max_leaves=20,
)


@given(st.lists(plain, min_size=1))
def test_plain_values_come_back_the_same(values):
    entries = transfer.entries_of(values)
    if entries is not None:
        (arrived,) = Unframer().feed(framed(entries))
        assert repr(transfer.values_of(arrived)) == repr(values)
        assert [transfer.load(entry, None) for entry in arrived] == values
        assert transfer.payload_size(arrived) == 0
        assert transfer.seal(arrived, scratch=None) == (None, arrived)


class Whole(int):
    pass


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    "value",
    [
        Whole(3),
        Point(1, 2),
        (1, Point(1, 2)),
        OrderedDict(a=1),
        {1, 2},
        [object()],
        {"a": print},
        {Whole(3): 1},
        (list(range(1000)),),
        ["a" * 5000],
        [["a" * 1000] * 10],
        (1, [2]),
        ((((((1,),),),),),),
    ],
)
def test_other_types_and_large_values_have_a_pickle_of_their_own(value):
    assert copied([value]) is None
    assert copied([(1, 2), value]) is None


def test_what_holds_itself_has_a_pickle_of_its_own():
    endless = []
    endless.append(endless)
    assert copied([endless]) is None


def test_results_of_every_plain_kind_come_back_as_they_are():
    def make(x):
        return [(x, str(x)), [x, None], {"x": x, "deep": [(x, 1.5)]}, b"x", x, True][x % 6]

    results = runwide.map(make, range(3000), workers=2)
    assert results == [make(x) for x in range(3000)]
    assert list(map(type, results)) == [type(make(x)) for x in range(3000)]


def test_items_of_every_plain_kind_arrive_as_they_are():
    items = [[(x, str(x)), [x, None], {"x": x}, b"x", x][x % 5] for x in range(3000)]
    assert runwide.map(lambda item: (type(item).__name__, item), items, workers=2) == [
        (type(item).__name__, item) for item in items
    ]
    with runwide.Pool(2) as pool:
        assert pool.starmap(pow, [(x, 2) for x in range(3000)]) == [x * x for x in range(3000)]


def test_a_list_that_many_tasks_return_arrives_as_many():
    kept = [1]
    results = runwide.map(lambda _: kept, range(500), workers=1)
    results += runwide.map(lambda _: (kept, kept), range(500), workers=1)
    ids = {id(result) for result in results}
    assert len(ids) == 1000
    assert results[-1][0] is results[-1][1]
    results[-1][0].append(2)
    assert results[-2] == ([1], [1])


@pytest.mark.parametrize("kind", ["list", "in a tuple", "in a dict"])
def test_a_result_is_what_it_was_when_its_task_ended(kind):
    kept = []

    def task(x):
        time.sleep(0.002)  # so that it runs alone, not with others in one go
        kept.append(x)
        return {"list": kept, "in a tuple": (x, kept), "in a dict": {x: kept}}[kind]

    results = runwide.map(task, range(100), workers=1, chunksize=100)
    lists = (
        results
        if kind == "list"
        else [result[x if kind == "in a dict" else 1] for x, result in enumerate(results)]
    )
    assert lists == [list(range(x + 1)) for x in range(100)]


def test_items_that_share_a_list_do_not_share_it_in_the_worker():
    shared = [0]

    def add(item):
        item[0].append(item[1])
        return len(item[0])

    assert set(runwide.map(add, [(shared, x) for x in range(500)], workers=1)) == {2}


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)


def test_a_bad_result_among_plain_ones_fails_alone():
    def task(x):
        if x == 700:
            return (lambda: x for _ in ())  # a generator
        if x == 800:
            return Unloadable()
        if x == 900:
            raise LookupError(x)
        return x, x

    results = runwide.map(task, range(2000), workers=2, on_error="return")
    bad = {index: results[index].exception for index in (700, 800, 900)}
    assert [type(bad[index]) for index in bad] == [ResultNotPicklable, ResultNotLoadable, LookupError]
    assert all(results[x] == (x, x) for x in range(2000) if x not in bad)


def test_a_death_among_plain_results_costs_one():
    def task(x):
        if x == 1500:
            os._exit(1)
        return [x]

    results = runwide.map(task, range(3000), workers=2, on_error="return")
    assert isinstance(results.pop(1500).exception, WorkerDied)
    assert results == [[x] for x in range(3000) if x != 1500]


def test_the_report_events_and_retries_of_plain_results_hold(tmp_path):
    tries, events = count(), []

    def flaky(x):
        if x == 50 and next(tries) == 0:
            raise OSError
        return x, x

    results = runwide.map(flaky, range(100), workers=1, retries=1, on_event=events.append)
    assert results == [(x, x) for x in range(100)]
    assert sorted(event.index for event in events if event.name == "task.ended") == list(range(100))
    assert [event.index for event in events if event.name == "task.retried"] == [50]
    assert results.report().metrics["results"] == 100
    assert results.report().metrics["retried_attempts"] == 1
