"""The program of one process of a team."""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from itertools import cycle
from typing import TYPE_CHECKING, Any

from runwide.json_text import json_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO


_SLOW = 2.0  # seconds; a longer call is not repeated to measure its time


def arithmetic(_: Any = None) -> float:
    """Do a few milliseconds of plain Python arithmetic, which fits in any cache and calls no function.

    Example:
        >>> arithmetic() > 0
        True
    """
    total = 0.0
    for number in range(1, 20_000):
        total += number % 7 / number
    return total


def main(arguments: Sequence[str]) -> int:
    """Load the function, report that, then run it for each number of seconds on standard input.

    Args:
        arguments: ``module:name`` or an empty text, then any number of items as JSON.
    """
    answers = _take_output()
    try:
        function = _function(arguments[0])
        items = cycle([json_of(text) for text in arguments[1:]] or [None])
        print("ready", _warm(function, items), file=answers, flush=True)
        for line in sys.stdin:
            print("done", *_busy(function, items, float(line)), file=answers, flush=True)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"failed {text}", file=answers, flush=True)
        return 1
    return 0


def _take_output() -> TextIO:
    """Return the standard output, for answers only; the function's own output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _function(name: str) -> Callable[[Any], Any]:
    if not name:
        return arithmetic
    module, _, attribute = name.partition(":")
    found: Callable[[Any], Any] = getattr(import_module(module), attribute)
    return found


def _warm(function: Callable[[Any], Any], items: Iterator[Any]) -> float:
    """Return the seconds of one call, after work that the function does only once, such as importing."""
    first = _busy(function, items, 0)[1]
    return first if first > _SLOW else min(first, _busy(function, items, 0)[1])


def _busy(function: Callable[[Any], Any], items: Iterator[Any], seconds: float) -> tuple[int, float, float]:
    start, used = time.perf_counter(), time.process_time()
    calls = 0
    while True:
        function(next(items))
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            break
    return calls, elapsed, time.process_time() - used


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
