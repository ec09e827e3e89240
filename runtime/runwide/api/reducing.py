"""Reduce the results of a map to one value while it runs on this container's cores."""

from __future__ import annotations

from functools import reduce as folded_by
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from runwide.api.functions import check_reduce
from runwide.outcomes import check_on_error, first_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Unpack

    from runwide.options.record import Options
    from runwide.records import Failure, Outcome

_GROUP = 64  # values that one task folds
_RUN = 8  # folds of the same depth that are folded into one
_WORKER_OPTIONS = ("workers", "initializer", "initargs", "max_memory")


class Folding:
    """A function that folds a group of values."""

    __slots__ = ("reduce",)

    def __init__(self, reduce: Callable[[Any, Any], Any]) -> None:
        self.reduce = reduce

    def __call__(self, group: list[Any]) -> Any:
        """Fold values."""
        return folded_by(self.reduce, group)


def reduced(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    reduce: Callable[[Any, Any], Any],
    *,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Any:
    """Run `runwide.map` on this container's cores, and fold the results into one value in the order of the items.

    Groups of neighbours are folded, then groups of their values; the number of values in memory is bounded.

    Raises:
        NoItems: There are no items.
        InputError: ``on_error`` is ``"return"``.
        Exception: The error of the first failed item; its cause is a `TasksFailed` with all failures.

    Example:
        >>> reduced(lambda x: x * x, range(5), max)
        16
    """
    from runwide.pool import outcomes, stream

    check_on_error(on_error)
    check_reduce(reduce, on_error)
    arriving = outcomes(function, items, ordered=True, **options)
    failures: list[Failure] = []
    ended = [0]
    workers: Any = {name: value for name, value in options.items() if name in _WORKER_OPTIONS}

    def folds(groups: Iterable[list[Any]]) -> Iterator[Any]:
        return iter(stream(Folding(reduce), groups, ordered=True, progress=False, **workers))

    values = _values(arriving, failures, ended)
    first = list(islice(values, 2))
    found: Any = None
    if len(first) > 1:
        held: list[tuple[int, Any]] = []  # the depth and the value of each fold
        for one in folds(_groups(folds(_groups(chain(first, values))))):
            held.append((0, one))
            while len(held) >= _RUN and held[-_RUN][0] == held[-1][0]:
                (done,) = folds([[value for _, value in held[-_RUN:]]])
                held[-_RUN:] = [(held[-1][0] + 1, done)]
        (found,) = folds([[value for _, value in held]]) if len(held) > 1 else [held[0][1]]
    elif first:
        found = first[0]
    if failures:
        raise first_error(failures, [None] * ended[0])
    return found


def _values(arriving: Iterable[Outcome], failures: list[Failure], ended: list[int]) -> Iterator[Any]:
    """Yield the values before the first failure; then wait for all other items, and collect their failures."""
    for outcome in arriving:
        ended[0] += 1
        if outcome.failure is not None:
            failures.append(outcome.failure)
        elif not failures:
            yield outcome.value


def _groups(values: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    for one in values:
        group.append(one)
        if len(group) >= _GROUP:
            yield group
            group = []
    if group:
        yield group
