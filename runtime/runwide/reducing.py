"""One value of all results of a map on this container's cores, folded by its workers while it runs."""

from __future__ import annotations

from functools import reduce as folded_by
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from runwide.calls import check_reduce
from runwide.ended import check, first_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Unpack

    from runwide.options import Options
    from runwide.records import Failure, Outcome

_GROUP = 64  # values that one task folds
_RUN = 8  # equal folds that are folded once more
_OF_WORKERS = ("workers", "initializer", "initargs", "max_memory")


class Folding:
    """Folds a group of values.

    Args:
        reduce: Makes one value of two.
    """

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
    """As `runwide.map` on this container's cores, folded into one value in the order of the items.

    Neighbours are folded in groups, and what these gave again; a bounded number of values is in memory.

    Args:
        function: Takes one item.
        items: At least one item.
        reduce: Makes one value of two, and is associative.
        on_error: ``"raise"``, once all items have ended.
        **options: As in `runwide.options.Options`.

    Raises:
        NoItems: There are no items.
        InputError: ``on_error`` is ``"return"``.
        Exception: Whatever the functions raised; of failed items the first one's, caused by a `TasksFailed` with all.

    Example:
        >>> reduced(lambda x: x * x, range(5), max)
        16
    """
    from runwide.pool import outcomes, stream

    check(on_error)
    check_reduce(reduce, on_error)
    arriving = outcomes(function, items, ordered=True, **options)
    failures: list[Failure] = []
    ended = [0]
    workers: Any = {name: value for name, value in options.items() if name in _OF_WORKERS}

    def folds(groups: Iterable[list[Any]]) -> Iterator[Any]:
        return iter(stream(Folding(reduce), groups, ordered=True, progress=False, **workers))

    values = _values(arriving, failures, ended)
    first = list(islice(values, 2))
    found: Any = None
    if len(first) > 1:
        held: list[tuple[int, Any]] = []  # how often each was folded, and what it gave
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
    """The values up to the first failure; then all others end, and their failures are noted."""
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
