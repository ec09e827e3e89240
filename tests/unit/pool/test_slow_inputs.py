"""Items that come slowly are started as soon as they are there, on every surface."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool

import pytest

import runwide
from runwide.errors import NoItems
from runwide.pool import outcomes

SECONDS = 60  # until what should happen at once has not happened


def pool(name, *args):
    def run(function, items):
        with runwide.Pool(2) as made:
            found = getattr(made, name)(function, items, *args)
            return list(found.get(SECONDS) if name.endswith("_async") else found)

    return run


def executor(**options):
    def run(function, items):
        with runwide.Executor(2) as made:
            return list(made.map(function, items, **options))

    return run


def starmap(function, items):
    with runwide.Pool(2) as made:
        return made.starmap(function, ((item,) for item in items))


STREAMS = {
    "imap": lambda function, items: list(runwide.imap(function, items, workers=2)),
    "imap_unordered": lambda function, items: list(runwide.imap_unordered(function, items, workers=2)),
    "outcomes": lambda function, items: [end.value for end in outcomes(function, items, workers=2)],
    "Pool.imap": pool("imap"),
    "Pool.imap, chunks": pool("imap", 3),
    "Pool.imap_unordered": pool("imap_unordered"),
    "Executor.map, buffersize": executor(buffersize=2),
}
LISTS = {
    "map": lambda function, items: runwide.map(function, items, workers=2),
    "map, chunks": lambda function, items: runwide.map(function, items, workers=2, chunksize=3),
    "amap": lambda function, items: asyncio.run(runwide.amap(function, items, workers=2)),
    "Pool.map": pool("map"),
    "Pool.map_async": pool("map_async"),
    "Pool.starmap": starmap,
    "Executor.map": executor(),
}
EVERYTHING = STREAMS | LISTS


@pytest.mark.parametrize("surface", EVERYTHING)
def test_an_item_is_started_before_the_next_is_there(surface, tmp_path, until):
    def items():
        for x in range(3):
            yield x
            until((tmp_path / str(x)).exists, SECONDS)

    def task(x):
        (tmp_path / str(x)).touch()
        return x

    assert sorted(EVERYTHING[surface](task, items())) == [0, 1, 2]


@pytest.mark.parametrize("surface", ["map", "imap", "imap_unordered", "Pool.map", "Executor.map, buffersize"])
def test_items_that_come_together_are_started_together_however_quick_those_before_were(
    surface, tmp_path, until
):
    def items():
        for x in range(50):
            yield x
            until((tmp_path / str(x)).exists, SECONDS)
        yield from (50, 51)

    def task(x):
        (tmp_path / str(x)).touch()
        if x >= 50:
            until((tmp_path / str(101 - x)).exists, SECONDS)
        return x

    assert sorted(EVERYTHING[surface](task, items())) == list(range(52))


def with_feedback(results, function, run):
    """Items that are made of earlier results."""

    def items():
        while (item := results.get(timeout=SECONDS)) < 50:
            yield item

    results.put(1)
    for result in run(function, items()):
        results.put(result)
    return result


def double(x):
    return 2 * x


@pytest.mark.parametrize("surface", ["imap", "imap_unordered", "Pool.imap", "Executor.map"])
def test_items_may_be_made_of_earlier_results(surface):
    with runwide.Pool(2) as made, runwide.Executor(2) as standard:
        run = {
            "imap": lambda function, items: runwide.imap(function, items, workers=2),
            "imap_unordered": lambda function, items: runwide.imap_unordered(function, items, workers=2),
            "Pool.imap": made.imap,
            "Executor.map": lambda function, items: standard.map(function, items, buffersize=3),
        }[surface]
        assert with_feedback(queue.Queue(), double, run) == 64


def test_items_may_be_made_of_earlier_results_inside_a_worker_too():
    def nested(_):
        with runwide.Pool(2) as made, runwide.Executor(2) as standard:
            return [
                with_feedback(queue.Queue(), double, runwide.imap),
                with_feedback(queue.Queue(), double, made.imap),
                with_feedback(
                    queue.Queue(), double, lambda function, items: standard.map(function, items, buffersize=3)
                ),
            ]

    assert runwide.map(nested, [0], workers=1) == [[64, 64, 64]]


def numbers(**options):
    connection = sqlite3.connect(":memory:", **options)
    connection.executescript("create table t (x); insert into t values (1), (2), (3)")
    return connection, connection.execute("select x from t order by x")


def first(row):
    return row[0]


@pytest.mark.parametrize("surface", [name for name in LISTS if name != "amap"])
def test_what_returns_a_list_takes_the_items_on_the_callers_thread(surface):
    connection, cursor = numbers()
    assert LISTS[surface](abs if surface == "Pool.starmap" else first, taken_apart(surface, cursor)) == [
        1,
        2,
        3,
    ]
    connection.close()


def taken_apart(surface, cursor):
    return (row[0] for row in cursor) if surface == "Pool.starmap" else cursor


@pytest.mark.parametrize("surface", [*STREAMS, "amap"])
def test_streams_take_them_on_another_as_the_standard_pool_does(surface):
    connection, cursor = numbers(check_same_thread=False)
    assert sorted(EVERYTHING[surface](first, cursor)) == [1, 2, 3]
    connection.close()
    connection, cursor = numbers()
    with pytest.raises(sqlite3.ProgrammingError, match="same thread"):
        EVERYTHING[surface](first, cursor)
    # one of threads takes items in the same way, and forks no process that has some
    with ThreadPool(1) as standard, pytest.raises(sqlite3.ProgrammingError, match="same thread"):
        list(standard.imap(first, cursor))
    connection.close()


tenant = ContextVar("tenant", default="none")


@pytest.mark.parametrize("surface", EVERYTHING)
def test_the_iterable_sees_the_callers_context(surface):
    def items():
        for x in range(3):
            yield f"{tenant.get()}-{x}"

    token = tenant.set("ours")
    try:
        assert sorted(EVERYTHING[surface](str, items())) == ["ours-0", "ours-1", "ours-2"]
    finally:
        tenant.reset(token)


class Broken(Exception):
    pass


@pytest.mark.parametrize("error", [Broken, SystemExit])
@pytest.mark.parametrize("surface", EVERYTHING)
def test_the_iterables_own_exception_reaches_the_caller(surface, error):
    def items():
        yield 1
        raise error("the input")

    with pytest.raises(error, match="the input"):
        EVERYTHING[surface](abs, items())


@pytest.mark.parametrize("surface", STREAMS)
def test_what_came_before_it_is_done(surface):
    def items():
        yield from [-1, -2, -3]
        raise Broken

    with runwide.Pool(2) as made, runwide.Executor(2) as standard:
        stream = {
            "imap": lambda: runwide.imap(abs, items(), workers=2),
            "imap_unordered": lambda: runwide.imap_unordered(abs, items(), workers=2),
            "outcomes": lambda: (end.value for end in outcomes(abs, items(), workers=2)),
            "Pool.imap": lambda: made.imap(abs, items()),
            "Pool.imap, chunks": lambda: made.imap(abs, items(), 2),
            "Pool.imap_unordered": lambda: made.imap_unordered(abs, items()),
            "Executor.map, buffersize": lambda: standard.map(abs, items(), buffersize=5),
        }[surface]()
        assert sorted(next(stream) for _ in range(3)) == [1, 2, 3]
        with pytest.raises(Broken):
            next(stream)


@pytest.mark.parametrize("surface", ["map", "amap", "imap", "imap_unordered"])
def test_an_iterable_that_brings_nothing_is_named(surface):
    with pytest.raises(NoItems, match="no items"):
        EVERYTHING[surface](abs, iter(()))
