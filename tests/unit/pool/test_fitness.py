"""An invalid call is rejected in one line, before a worker is started for it."""

from __future__ import annotations

import asyncio
import functools
import re

import pytest

import runwide
from runwide.errors import ExceptionNotPortable, FunctionNotPicklable, InputError
from runwide.pickling.functions import function_pickle


async def coroutine(x):
    return x


async def stream(x):
    yield x


def generator(x):
    yield x


class Waiting:
    async def __call__(self, x):
        return x


class WaitingToo(Waiting):
    pass


class Method:
    def yields(self, x):
        yield x


@pytest.mark.parametrize(
    ("function", "items", "message"),
    [
        (3, [1], "the function cannot be called: 3; give the function first, then the items"),
        (
            [1, 2],
            abs,
            "the function cannot be called: [1, 2]; give the function first, then the items",
        ),
        (abs, 5, "items is an int, not an iterable; put a single item into a list"),
    ],
)
def test_arguments_that_are_no_function_and_items_are_named(function, items, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        runwide.map(function, items)


@pytest.mark.parametrize("function", [coroutine, functools.partial(coroutine), Waiting(), WaitingToo()])
def test_an_async_function_is_refused_with_what_to_do(function):
    for take in (function_pickle, lambda refused: runwide.map(refused, [1])):
        with pytest.raises(InputError, match=r"is an async function.*asyncio\.run"):
            take(function)
    assert runwide.map(lambda x: asyncio.run(coroutine(x)), [1], workers=1) == [1]


@pytest.mark.parametrize("function", [generator, stream, Method().yields])
def test_a_function_that_yields_is_refused_with_what_to_do(function):
    with pytest.raises(InputError, match="yields, and a generator cannot leave its process; return a list"):
        runwide.map(function, [1])
    assert runwide.map(lambda x: list(generator(x)), [1], workers=1) == [[1]]


def test_an_exception_that_would_end_the_caller_is_reported_and_not_passed_on():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(
        ExceptionNotPortable, match=r"^item 0: the task raised KeyboardInterrupt; it is not passed on"
    ):
        runwide.map(interrupted, [1], workers=1)


def test_the_summary_of_failures_has_what_to_do_on_a_line_of_its_own():
    with pytest.raises(ZeroDivisionError) as caught:
        runwide.map(lambda x: 1 / x, [0], workers=1)
    first, item, hint = str(caught.value.__cause__).splitlines()
    assert first == "1 of 1 tasks failed:"
    assert item == "  item 0: ZeroDivisionError: division by zero"
    assert hint.startswith("the others are finished: see .results")


class Unspeakable:
    """A callable that raises if its text or name is read; it can be pickled and called."""

    def __init__(self, values=()):
        self.values = values

    def __call__(self, x):
        return x + 1

    def __repr__(self):
        raise RuntimeError("asked for its repr")

    __str__ = __repr__

    def __getattr__(self, name):
        if name.startswith("__") and name not in (
            "__qualname__",
            "__name__",
            "__module__",
            "__code__",
            "__func__",
        ):
            raise AttributeError(name)
        raise RuntimeError(f"asked for {name}")


async def from_amap(function, items, **options):
    return await runwide.amap(function, items, **options)


def surfaces(function, items):
    """Results of each surface for the same function and items."""
    yield runwide.map(function, items, workers=1)
    yield runwide.map(function, items, workers=1, store="memory://unspeakable")
    yield list(runwide.imap(function, items, workers=1))
    yield sorted(runwide.imap_unordered(function, items, workers=1))
    yield asyncio.run(from_amap(function, items, workers=1))
    with runwide.Pool(1, store="memory://unspeakable") as pool:
        yield pool.map(function, items)
    with runwide.Pool(1) as pool:
        yield pool.map(function, items)
        yield list(pool.imap(function, items))
        yield pool.starmap(function, [(item,) for item in items])
        yield [pool.apply(function, (item,)) for item in items]
    with runwide.Executor(1) as executor:
        yield list(executor.map(function, items))
        yield [executor.submit(function, item).result() for item in items]


class Hidden(list):
    """Many values that raise if their text is read."""

    def __repr__(self):
        raise RuntimeError("asked for the repr of a large list")


SILENT = {
    "a partial of a large list": lambda: functools.partial(lambda values, x: x + len(values), Hidden([0])),
    "a partial of an object": lambda: functools.partial(Unspeakable()),
    "an object": Unspeakable,
    "a method of an object": lambda: Unspeakable(Hidden(range(1000))).__call__,
}


@pytest.mark.parametrize("name", SILENT)
def test_no_surface_asks_a_callable_for_its_text(name):
    for results in surfaces(SILENT[name](), [1, 2]):
        assert results == [2, 3]


def test_a_report_names_what_a_partial_calls_and_the_type_of_another_callable():
    assert runwide.map(functools.partial(max, 3), [1], workers=1).trace.function == "max"
    assert runwide.map(Unspeakable(), [1], workers=1).trace.function == "Unspeakable"


def test_what_cannot_be_called_is_named_without_its_text():
    refused = Hidden([1])
    with pytest.raises(TypeError, match="the function cannot be called: <Hidden instance"):
        runwide.map(refused, [1])


def test_a_function_that_cannot_be_pickled_is_named_without_its_text():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    class Stubborn:
        def __call__(self, x):
            return x

        def __reduce__(self):
            raise Mute

    with pytest.raises(
        FunctionNotPicklable, match=r"the function .*Stubborn cannot be pickled: Mute: <no text"
    ):
        runwide.map(Stubborn(), [1])


def test_items_and_results_without_a_text_come_back():
    back = runwide.map(lambda item: item, [Unspeakable([1])], workers=1)
    assert back[0].values == [1]
