"""A task that raises what Python takes for the end of an iteration fails, with its item, on every surface."""

from __future__ import annotations

import asyncio

import pytest

import runwide
from runwide.errors import ExceptionNotPortable, RemoteTraceback, StopIterationRaised, TasksFailed


class NoMore(StopIteration):
    """A user's own."""


class Closing(GeneratorExit):
    """A user's own."""


def task(kind):
    def run(x):
        if x == 2:
            raise kind("no more")
        return x

    return run


def one(kind):
    raise kind("no more")


def imap(function, items):
    return list(runwide.imap(function, items, workers=2))


def imap_unordered(function, items):
    return list(runwide.imap_unordered(function, items, workers=2))


def pool_imap(function, items):
    with runwide.Pool(2) as pool:
        return list(pool.imap(function, items))


def pool_imap_unordered(function, items):
    with runwide.Pool(2) as pool:
        return list(pool.imap_unordered(function, items))


def executor_map(function, items):
    with runwide.Executor(2) as executor:
        return list(executor.map(function, items))


def futures(function, items):
    with runwide.Executor(2) as executor:
        return list(map(lambda future: future.result(30), [executor.submit(function, x) for x in items]))  # noqa: C417 - which would end at a StopIteration


def in_an_event_loop(function, items):
    async def main():
        loop = asyncio.get_running_loop()
        with runwide.Executor(2) as executor:
            running = [loop.run_in_executor(executor, function, x) for x in items]
            return await asyncio.wait_for(asyncio.gather(*running), 30)

    return asyncio.run(main())


def amap(function, items):
    return asyncio.run(runwide.amap(function, items, workers=2))


STREAMS = [
    imap,
    imap_unordered,
    pool_imap,
    pool_imap_unordered,
    executor_map,
    futures,
    in_an_event_loop,
    amap,
]


@pytest.mark.parametrize("surface", STREAMS, ids=lambda surface: surface.__name__)
def test_iterators_futures_and_coroutines_raise_an_error_with_the_item_that_it_causes(surface):
    with pytest.raises(StopIterationRaised, match="no more") as caught:
        surface(task(NoMore), range(4))
    assert caught.value.item == 2
    cause = caught.value.__cause__
    if surface is amap:
        assert isinstance(cause, TasksFailed)
        assert cause.results[:2] + cause.results[3:] == [0, 1, 3]
        cause = cause.__cause__
    assert type(cause) is NoMore
    assert cause.args == ("no more",)
    assert isinstance(cause.__cause__, RemoteTraceback)
    assert "in run" in cause.__cause__.traceback


def test_what_came_before_it_is_not_lost():
    stream = runwide.imap(task(StopIteration), range(4), workers=1)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(StopIterationRaised, match="item 2"):
        next(stream)


def pool_map(function, items):
    with runwide.Pool(2) as pool:
        return pool.map(function, items)


def stored(store):
    return lambda function, items: runwide.map(function, items, store=store, workers=2)


def stored_imap(store):
    def run(function, items):
        with runwide.Pool(2, store=store) as pool:
            return list(pool.imap(function, items))

    return run


@pytest.mark.parametrize("surface", ["map", "Pool.map", "store", "Pool(store=).imap"])
def test_what_returns_a_list_raises_the_exception_itself(surface, tmp_path):
    run = {
        "map": lambda function, items: runwide.map(function, items, workers=2),
        "Pool.map": pool_map,
        "store": stored(tmp_path),
        "Pool(store=).imap": stored_imap(tmp_path),
    }[surface]
    with pytest.raises(NoMore, match="no more") as caught:
        run(task(NoMore), range(4))
    assert [failure.index for failure in caught.value.__cause__.failures] == [2]


def test_apply_raises_the_exception_itself():
    with runwide.Pool(1) as pool, pytest.raises(StopIteration, match="no more"):
        pool.apply(one, (StopIteration,))


@pytest.mark.parametrize("kind", [StopIteration, NoMore, StopAsyncIteration])
def test_a_failure_has_the_exception_itself(kind):
    for results in (
        runwide.map(task(kind), range(4), workers=2, on_error="return"),
        list(runwide.imap(task(kind), range(4), workers=2, on_error="return")),
    ):
        failure = results.pop(2)
        assert results == [0, 1, 3]
        assert (failure.index, failure.type) == (2, kind.__name__)
        assert type(failure.exception) is kind


@pytest.mark.parametrize("surface", [imap, executor_map, futures, amap])
def test_the_end_of_an_async_iteration_is_the_tasks_exception(surface):
    with pytest.raises(StopAsyncIteration, match="no more"):
        surface(task(StopAsyncIteration), range(4))


@pytest.mark.parametrize("surface", [imap, executor_map, futures, amap, pool_map])
def test_the_end_of_a_generator_fails_the_task_that_raises_it(surface):
    with pytest.raises(ExceptionNotPortable, match="Closing: no more") as caught:
        surface(task(Closing), range(4))
    assert caught.value.item == 2


@pytest.mark.parametrize("surface", [imap, imap_unordered, pool_imap, executor_map, futures])
def test_the_same_holds_in_place_inside_a_worker(surface):
    def nested(kind):
        try:
            surface(task(kind), range(4))
        except (StopIterationRaised, ExceptionNotPortable, StopAsyncIteration) as error:
            return type(error).__name__, getattr(error, "item", None)
        return None

    assert runwide.map(nested, [StopIteration, NoMore, GeneratorExit, StopAsyncIteration], workers=2) == [
        ("StopIterationRaised", 2),
        ("StopIterationRaised", 2),
        ("ExceptionNotPortable", 2),
        ("StopAsyncIteration", None),
    ]


def test_joblib_fails_with_it():
    from joblib import Parallel, delayed, parallel_config

    runwide.register_joblib()
    with (
        parallel_config(backend="runwide", n_jobs=2),
        pytest.raises(StopIterationRaised, match="no more") as caught,
    ):
        Parallel()(delayed(task(NoMore))(x) for x in range(4))
    assert type(caught.value.__cause__) is NoMore
