"""`runwide.Executor` and `runwide.Pool` raise what the standard pools raise: side by side, class and text are the same."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import multiprocessing
import pickle
import sys
import threading

import pytest

import runwide
from runwide.errors import FunctionNotPicklable, ItemNotPicklable, ResultNotPicklable, TasksFailed, WrongType

SPAWN = multiprocessing.get_context("spawn")


def standard_executor(*args, **options):
    return concurrent.futures.ProcessPoolExecutor(*args, mp_context=SPAWN, **options)


EXECUTORS = {"standard": standard_executor, "runwide": runwide.Executor}
POOLS = {"standard": SPAWN.Pool, "runwide": runwide.Pool}


@pytest.fixture
def executors():
    made = {name: kind(1) for name, kind in EXECUTORS.items()}
    yield made
    for executor in made.values():
        executor.shutdown()
    free(made)


@pytest.fixture
def pools():
    made = {name: kind(1) for name, kind in POOLS.items()}
    yield made
    for pool in made.values():
        pool.terminate()
        pool.join()
    free(made)


def free(pools):
    """Free the standard pool's semaphores here: some Pythons complain where that happens as another pool starts."""
    pools.clear()
    gc.collect()


def raised_by(call, pool):
    with pytest.raises(Exception) as caught:
        call(pool)
    return caught.value


def same(call, pools):
    """Return our error; check that it has the standard pool's class, or a subclass, and the same text."""
    standard, ours = (raised_by(call, pools[name]) for name in ("standard", "runwide"))
    assert isinstance(ours, type(standard)), repr(ours)
    assert str(ours) == str(standard)
    return ours


def options(name, *values):
    return [pytest.param({name: value}, id=f"{name}={value!r}") for value in values]


# Arguments


@pytest.mark.parametrize(
    "given",
    [
        *options("max_workers", 0, -1),
        *options("initializer", 5),
        *(options("max_tasks_per_child", 0, -1, 1.5, "2") if sys.version_info >= (3, 11) else ()),
    ],
)
def test_an_executor_refuses_arguments_in_the_same_words(given):
    same(lambda kind: kind(**given), EXECUTORS)


@pytest.mark.parametrize(
    "given",
    [
        *options("processes", 0, -1),
        *options("initializer", 5),
        *options("maxtasksperchild", 0, -1, 1.5, "2", [2]),
    ],
)
def test_a_pool_refuses_arguments_in_the_same_words(given):
    same(lambda kind: kind(**given), POOLS)


@pytest.mark.parametrize("number", [1.5, "2", [2]])
def test_a_number_of_workers_of_another_type_is_a_type_error(number):
    for kind in (*EXECUTORS.values(), *POOLS.values()):
        with pytest.raises(TypeError):
            kind(number)


def test_a_chunksize_below_one_is_refused_in_the_same_words(executors, pools):
    for size, name in itertools.product((0, -1), ("imap", "imap_unordered")):
        same(lambda executor, size=size: executor.map(abs, [-1], chunksize=size), executors)
        ours = same(lambda pool, how=(name, size): getattr(pool, how[0])(abs, [-1], chunksize=how[1]), pools)
        # The standard pool's map takes it for a list of None.
        with pytest.raises(ValueError, match=str(ours).replace("+", r"\+")):
            pools["runwide"].map(abs, [-1], chunksize=size)


def test_a_chunksize_that_is_no_whole_number_is_refused_everywhere_and_breaks_no_pool(executors, pools):
    executor, pool = executors["runwide"], pools["runwide"]
    surfaces = (
        *(executor.map, pool.map, pool.starmap, pool.map_async, pool.imap, pool.imap_unordered),
        *(runwide.map, runwide.imap, runwide.imap_unordered),
    )
    for surface, size in itertools.product(surfaces, (1.5, "2", [2])):
        with pytest.raises(WrongType) as caught:
            list(surface(abs, [-1, -2], chunksize=size))
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)
        assert repr(size) in str(caught.value)
    assert list(executor.map(abs, [-1])) == pool.map(abs, [-1]) == [1]


def test_objects_with_an_index_are_accepted_as_whole_numbers():
    import numpy as np

    with runwide.Executor(True, max_tasks_per_child=np.int64(2)) as executor:
        assert list(executor.map(abs, [-1, -2], chunksize=np.int64(2))) == [1, 2]
    with runwide.Pool(np.int64(1), maxtasksperchild=True) as pool:
        assert pool.map(abs, [-1, -2], chunksize=True) == [1, 2]
    assert runwide.map(abs, [-1, -2], workers=1, chunksize=np.int64(1)) == [1, 2]


def test_a_buffersize_is_refused_in_the_words_of_python_3_14():
    with runwide.Executor(1) as executor:
        for size in (0, -1):
            with pytest.raises(ValueError, match=r"^buffersize must be None or > 0$"):
                executor.map(abs, [-1], buffersize=size)
        for size in (1.5, "2"):
            with pytest.raises(TypeError, match=r"^buffersize must be an integer or None$"):
                executor.map(abs, [-1], buffersize=size)


# After the end


def test_an_executor_that_was_shut_down_says_so_in_the_same_words():
    made = {name: kind(1) for name, kind in EXECUTORS.items()}
    for executor in made.values():
        executor.shutdown()
    assert isinstance(same(lambda executor: executor.submit(abs, -1), made), RuntimeError)
    same(lambda executor: executor.map(abs, [-1]), made)


@pytest.mark.parametrize("how", ["shutdown", "kill", "left", "left by Ctrl-C"])
def test_whichever_way_an_executor_was_shut_down(how):
    executor = runwide.Executor(1)
    if how in ("shutdown", "kill"):
        getattr(executor, how)()
    else:
        error = KeyboardInterrupt() if how == "left by Ctrl-C" else None
        executor.__exit__(error and type(error), error, None)
    for call in (executor.submit, executor.map):
        with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
            call(abs, [-1])


@pytest.mark.parametrize(
    "name", ["map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered", "apply", "apply_async"]
)
@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_that_does_not_run_says_so_in_the_same_words(name, end):
    made = {called: kind(1) for called, kind in POOLS.items()}
    for pool in made.values():
        getattr(pool, end)()
        pool.join()
    assert isinstance(same(lambda pool: getattr(pool, name)(abs, [(-1,)]), made), ValueError)
    same(lambda pool: pool.__enter__(), made)


def test_a_pool_that_runs_cannot_be_joined_nor_pickled_in_the_same_words(pools):
    same(lambda pool: pool.join(), pools)
    same(pickle.dumps, pools)
    assert isinstance(same(lambda pool: pool.apply(repr, (pool,)), pools), NotImplementedError)


def test_a_result_that_is_not_there_is_not_successful_nor_there_in_time(pools, tmp_path):
    pool = pools["runwide"]

    def wait_for(path):
        while not path.exists():
            threading.Event().wait(0.01)
        return "there"

    result = pool.apply_async(wait_for, (tmp_path / "go on",))
    arriving = pool.imap(wait_for, [tmp_path / "go on"])
    with pytest.raises(ValueError, match=r"^<.*AsyncResult object at .*> not ready$"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    for _ in range(2):
        with pytest.raises(multiprocessing.TimeoutError):
            arriving.next(0.01)
        with pytest.raises(multiprocessing.TimeoutError):
            arriving.next(timeout=0)
    (tmp_path / "go on").touch()
    assert result.get(60) == arriving.next(60) == "there"
    with pytest.raises(StopIteration):
        arriving.next(60)


# What pickling raised


class Unwilling:
    """An object with an error of its own where it is pickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


def nested(depth=100_000):
    """A list that is nested too deep to be pickled."""
    outer = []
    for _ in range(depth):
        outer = [outer]
    return outer


ERRORS = (LookupError("not me", 3), pickle.PicklingError("no"), AttributeError("no such"), OverflowError())


def test_what_pickling_an_item_raised_is_raised(executors, pools):
    calls = (
        (lambda executor, item: executor.submit(id, item).result(60), executors),
        (lambda executor, item: list(executor.map(id, [item])), executors),
        (lambda pool, item: pool.apply(id, (item,)), pools),
        (lambda pool, item: next(pool.imap(id, [item])), pools),
        (lambda pool, item: next(pool.imap_unordered(id, [item])), pools),
        (lambda pool, item: pool.map(id, [item]), pools),
    )
    for item, (call, kinds) in itertools.product([threading.Lock(), *map(Unwilling, ERRORS)], calls):
        ours = same(lambda kind, call=call, item=item: call(kind, item), kinds)
        if isinstance(ours.__cause__, TasksFailed):  # of map, which has an error for each item
            ours = ours.__cause__
        assert isinstance(ours.__cause__, ItemNotPicklable)


def test_an_item_that_is_nested_too_deep_is_a_recursion_error_or_what_python_makes_of_it(executors, pools):
    item = nested()
    for call, kinds in (
        (lambda executor: executor.submit(id, item).result(60), executors),
        (lambda pool: pool.apply(id, (item,)), pools),
    ):
        raised = raised_by(call, kinds["runwide"])
        assert isinstance(raised, (RecursionError, pickle.PicklingError))
        assert isinstance(raised.__cause__, ItemNotPicklable)


def test_the_exception_that_pickling_raised_is_the_same_object_each_time_and_keeps_its_own_cause(executors):
    error = LookupError("not me")
    error.__cause__ = KeyError("why")
    futures = [executors["runwide"].submit(id, Unwilling(error)) for _ in range(50)]
    for future in futures:
        assert future.exception(60) is error
    depth, cause = 0, error.__cause__
    while cause is not None:
        depth, cause = depth + 1, cause.__cause__
    assert depth <= 2


def test_what_would_end_the_program_or_an_iteration_is_not_passed_on(executors, pools):
    for error in (SystemExit(3), KeyboardInterrupt(), StopIteration("s")):
        with pytest.raises(ItemNotPicklable):
            executors["runwide"].submit(id, Unwilling(error)).result(60)
        with pytest.raises(ItemNotPicklable):
            next(pools["runwide"].imap(id, [Unwilling(error)]))


def test_what_pickling_a_function_raised_is_raised(executors, pools):
    function = threading.Lock().acquire
    executor = same(lambda executor: list(executor.map(function, [1])), executors)
    for call in (
        lambda pool: pool.map(function, [1]),
        lambda pool: pool.map_async(function, [1]).get(60),
        lambda pool: next(pool.imap(function, [1])),
        lambda pool: next(pool.imap_unordered(function, [1])),
    ):
        ours = same(call, pools)
        assert isinstance(ours.__cause__, FunctionNotPicklable)
    assert isinstance(executor.__cause__, FunctionNotPicklable)
    same(lambda executor: executor.submit(function).result(60), executors)
    same(lambda pool: pool.apply(function), pools)


def test_a_function_that_cannot_be_pickled_fails_where_its_results_are_asked_for(executors, pools):
    function, errors = threading.Lock().acquire, []
    executors["runwide"].map(function, [1])
    pools["runwide"].imap(function, [1])
    result = pools["runwide"].map_async(function, [1], error_callback=errors.append)
    result.wait(60)
    assert [type(error) for error in errors] == [TypeError]
    assert list(executors["runwide"].map(function, [])) == pools["runwide"].map(function, []) == []


@pytest.mark.parametrize("kind", [runwide.Executor, runwide.Pool])
def test_what_pickling_an_initializer_raised_is_raised(kind):
    with pytest.raises(TypeError, match="cannot pickle") as caught:
        kind(1, initializer=threading.Lock().acquire)
    assert isinstance(caught.value.__cause__, FunctionNotPicklable)


def test_what_pickling_a_result_raised_is_raised(executors):
    for call in (
        lambda executor: executor.submit(threading.Lock).result(60),
        lambda executor: list(executor.map(threading.Semaphore, [1])),
    ):
        ours = same(call, executors)
        assert isinstance(ours.__cause__, ResultNotPicklable)
        assert "Traceback" in str(ours.__cause__.__cause__)


def test_a_result_of_a_pool_that_cannot_be_pickled_is_a_maybe_encoding_error(pools):
    for call in (
        lambda pool: pool.apply(threading.Lock),
        lambda pool: pool.map(threading.Semaphore, [1]),
        lambda pool: next(pool.imap(threading.Semaphore, [1])),
    ):
        standard, ours = (raised_by(call, pools[name]) for name in ("standard", "runwide"))
        assert type(ours) is type(standard) is multiprocessing.pool.MaybeEncodingError
        assert ours.exc == standard.exc
        assert str(ours).startswith("Error sending result: '<")
        assert str(ours).endswith(str(standard).partition("Reason: ")[2])
        assert pickle.loads(pickle.dumps(ours)).exc
        causes = {type(cause) for cause in (ours.__cause__, ours.__cause__.__cause__)}
        assert ResultNotPicklable in causes


def test_runwide_map_raises_its_own_error_caused_by_what_pickling_raised():
    for function, item, kind in (
        (id, threading.Lock(), ItemNotPicklable),
        (lambda _: threading.Lock(), 1, ResultNotPicklable),
    ):
        with pytest.raises(kind) as caught:
            list(runwide.imap(function, [item], workers=1))
        assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(FunctionNotPicklable) as caught:
        runwide.map(threading.Lock().acquire, [1], workers=1)
    assert isinstance(caught.value.__cause__, TypeError)


# Errors of the tasks and inputs, and when they are raised


def test_what_cannot_be_called_or_unpacked_fails_the_same_way(executors, pools):
    same(lambda executor: executor.submit(5).result(60), executors)
    for call in (
        lambda pool: pool.apply(5),
        lambda pool: pool.apply(abs, 5),
        lambda pool: pool.apply(abs, (), 5),
    ):
        same(call, pools)


def test_imap_goes_on_after_an_exception(pools):
    for pool in pools.values():
        arriving, seen = pool.imap(int, ["1", "x", "3", "y"]), []
        while True:
            try:
                seen.append(next(arriving))
            except StopIteration:
                break
            except ValueError as error:
                seen.append(str(error)[-3:])
        assert seen == [1, "'x'", 3, "'y'"]


def test_a_pool_is_kept_as_long_as_a_result_of_it_is_waited_for():
    with pytest.warns(ResourceWarning, match="not closed"):
        assert runwide.Pool(1).map_async(abs, [-1, -2]).get(60) == [1, 2]
    with pytest.warns(ResourceWarning, match="not closed"):
        assert runwide.Pool(1).apply_async(abs, (-1,)).get(60) == 1
