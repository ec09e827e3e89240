"""The same outcomes without processes: for a map inside a worker, whose cores are all in use already."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from runwide.errors import RemoteTraceback
from runwide.records import Failure, FailureKind, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def run_in_place(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
    """Run the tasks here, one after another.

    Example:
        >>> [outcome.value for outcome in run_in_place(abs, [-1, 2])]
        [1, 2]
    """
    for index, item in enumerate(items):
        yield _run(function, index, item)


def _run(function: Callable[[Any], Any], index: int, item: Any) -> Outcome:
    try:
        return Outcome(index, function(item))
    except Exception as error:
        text = traceback.format_exc()
        error.__cause__ = RemoteTraceback("raised in place, inside a worker", item=index, traceback=text)
        failure = Failure(index, FailureKind.EXCEPTION, type(error).__qualname__, str(error), text, 1, error)
        return Outcome(index, failure=failure)
