"""If an iterable raises, the consumer of a pool gets that error at the same place as with the standard pools."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import multiprocessing
import traceback

import pytest

import runwide
from runwide.errors import StopIterationRaised

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def pools():
    made = [SPAWN.Pool(1), runwide.Pool(1)]
    yield made
    for pool in made:
        pool.terminate()
        pool.join()
    free(made)


@pytest.fixture
def executors():
    made = [concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN), runwide.Executor(1)]
    yield made
    for executor in made:
        executor.shutdown()
    free(made)


def free(pools):
    """Free the standard pool's semaphores here: some Pythons complain where that happens as another pool starts."""
    pools.clear()
    gc.collect()


def generator(error):
    yield -1
    yield -2
    raise error


class Iterator:
    """An iterable that raises instead of its third item, and continues after that."""

    def __init__(self, error):
        self.error = error
        self.given = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.given += 1
        if self.given == 3:
            raise self.error
        if self.given == 5:
            raise StopIteration
        return -self.given


class Unwilling:
    """An iterable that raises when its iteration begins."""

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        raise self.error


class Sequence:
    """An iterable of the old kind."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return -1 - index


ERRORS = (
    *(
        ValueError("x"),
        RuntimeError("r"),
        IndexError("i"),
        OSError(5, "io"),
        EOFError("e"),
        TimeoutError("t"),
    ),
    *(StopIteration("s"), StopAsyncIteration("s"), RecursionError("deep"), MemoryError("m")),
    *(concurrent.futures.CancelledError(), concurrent.futures.BrokenExecutor("b")),
)
NO_ITERABLES = (5, None, int)
MAKERS = {
    **{made.__name__: (made, ERRORS) for made in (generator, Iterator, Sequence)},
    # Of an iteration that ends before it begins, see below.
    "Unwilling": (Unwilling, [error for error in ERRORS if not isinstance(error, StopIteration)]),
    "none": (lambda value: value, NO_ITERABLES),
}


@pytest.fixture(params=MAKERS)
def inputs(request):
    """Functions that make an iterable, by its kind."""
    make, errors = MAKERS[request.param]
    return {repr(error): lambda error=error: make(error) for error in errors}


def seen(arriving):
    """Return all that an iterator gives: results, and the class and text of each error."""
    found = []
    while len(found) < 10:
        try:
            found.append(next(arriving))
        except StopIteration:
            break
        except Exception as error:
            found.append((type(error), str(error)))
    return found


def raised_by(call, *args, **options):
    with pytest.raises(BaseException) as caught:
        call(*args, **options)
    return caught.value


def test_imap_gives_what_came_before_and_then_the_error(inputs, pools):
    standard, ours = ({of: seen(pool.imap(abs, make())) for of, make in inputs.items()} for pool in pools)
    assert ours == standard


def test_imap_unordered_gives_the_results_and_the_error(inputs, pools):
    standard, ours = (
        {of: set(seen(pool.imap_unordered(abs, make()))) for of, make in inputs.items()} for pool in pools
    )
    assert ours == standard


@pytest.mark.parametrize("name", ["map", "map_async"])
def test_a_map_of_a_pool_raises_the_error_itself(name, inputs, pools):
    standard, ours = (
        {of: outcome(getattr(pool, name), make()) for of, make in inputs.items()} for pool in pools
    )
    assert ours == standard


def test_map_of_an_executor_raises_the_error_itself(inputs, executors):
    standard, ours = (
        {of: outcome(executor.map, make()) for of, make in inputs.items()} for executor in executors
    )
    assert ours == standard


def outcome(method, items):
    """Return the results of a call, or the class and text of the error that the call itself raises."""
    try:
        found = method(abs, items)
    except Exception as error:
        return type(error), str(error)
    return found.get(60) if hasattr(found, "get") else list(found)


def stream(name):
    """A function that iterates over the results of some items."""
    if name in ("imap", "imap_unordered"):
        return lambda items, _pool, _executor: getattr(runwide, name)(abs, items, workers=1)
    if name == "Executor.map":
        return lambda items, _pool, executor: executor.map(abs, items, buffersize=3)
    return lambda items, pool, _executor: getattr(pool, name.removeprefix("Pool."))(abs, items)


STREAMS = ["imap", "imap_unordered", "Pool.imap", "Pool.imap_unordered", "Executor.map"]
OWN = (ValueError("x"), KeyboardInterrupt("k"), SystemExit(3), GeneratorExit("g"))


@pytest.mark.parametrize("name", STREAMS)
def test_the_error_is_the_very_object_with_its_traceback(name, pools, executors):
    """The standard pools hang if it is not an `Exception`."""
    for error, make in itertools.product(OWN, [generator, Iterator, Sequence]):
        error.__traceback__ = None
        arriving, found = stream(name)(make(error), pools[1], executors[1]), []
        with pytest.raises(type(error)) as caught:
            found.extend(iter(lambda arriving=arriving: next(arriving), None))
        assert sorted(found) == [1, 2]
        assert caught.value is error
        assert traceback.extract_tb(error.__traceback__)[-1].filename == __file__
        with pytest.raises(StopIteration):
            next(arriving)


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_a_whole_map_raises_the_very_object(error, pools):
    for call in (
        lambda: runwide.map(abs, generator(error), workers=1),
        lambda: pools[1].map(abs, generator(error)),
        lambda: pools[1].starmap_async(abs, generator(error)),
    ):
        assert raised_by(call) is error
    assert pools[1].map(abs, [-1]) == [1]


def test_a_stop_iteration_where_the_iteration_begins_is_no_empty_input(pools, executors):
    """Python treats it as the end only if ``__next__`` raises it."""
    error = StopIteration("s")
    for pool in pools:
        assert raised_by(pool.map, abs, Unwilling(error)) is error
    assert raised_by(runwide.map, abs, Unwilling(error), workers=1) is error
    for call in (
        lambda: asyncio.run(runwide.amap(abs, Unwilling(error), workers=1)),
        lambda: executors[1].map(abs, Unwilling(error)),
        *(lambda name=name: list(stream(name)(Unwilling(error), pools[1], executors[1])) for name in STREAMS),
    ):
        raised = raised_by(call)
        assert isinstance(raised, RuntimeError)
        assert raised.__cause__ is error
    assert isinstance(raised_by(executors[1].map, abs, Unwilling(error)), StopIterationRaised)


@pytest.mark.parametrize("name", STREAMS)
def test_items_that_fail_do_not_hide_what_the_iterable_raises(name, pools, executors):
    def items():
        yield -1
        yield "x"
        yield -3
        raise LookupError("no more")

    arriving, found = stream(name)(items(), pools[1], executors[1]), []
    if name.startswith("Pool"):
        found = seen(arriving)
        assert (LookupError, "no more") == found[-1]
        assert {1, 3} < set(found)
    else:
        with pytest.raises(TypeError):
            found.extend(arriving)
