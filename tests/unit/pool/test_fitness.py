"""A call that cannot be meant is refused in one line before a worker is started for it."""

from __future__ import annotations

import asyncio
import functools
import re

import pytest

import runwide
from runwide.errors import ExceptionNotPortable, InputError
from runwide.pool import function_bytes


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
        (abs, 5, "the items are no list or other iterable: 5; put a single item into a list"),
    ],
)
def test_arguments_that_are_no_function_and_items_are_named(function, items, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        runwide.map(function, items)


@pytest.mark.parametrize("function", [coroutine, functools.partial(coroutine), Waiting(), WaitingToo()])
def test_an_async_function_is_refused_with_what_to_do(function):
    for take in (function_bytes, lambda refused: runwide.map(refused, [1])):
        with pytest.raises(InputError, match=r"is an async function.*asyncio\.run"):
            take(function)
    assert runwide.map(lambda x: asyncio.run(coroutine(x)), [1], workers=1) == [1]


@pytest.mark.parametrize("function", [generator, stream, Method().yields])
def test_a_function_that_yields_is_refused_with_what_to_do(function):
    with pytest.raises(InputError, match="yields, and a generator cannot leave its process; return a list"):
        runwide.map(function, [1])
    assert runwide.map(lambda x: list(generator(x)), [1], workers=1) == [[1]]


def test_what_would_end_the_caller_is_told_and_not_passed_on():
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
