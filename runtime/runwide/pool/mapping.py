"""A function over items on the cores of this container, as a list or as a stream."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from runwide.errors import InputError, NoItems, TasksFailed
from runwide.pool import worker
from runwide.pool.base import Base, dump_function
from runwide.pool.inplace import run_in_place
from runwide.pool.policy import Budget
from runwide.pool.streams import exception_of, in_order, stream, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runwide.records import Failure, Outcome, TaskEvent

T = TypeVar("T")
R = TypeVar("R")

_LISTED = 40  # failures spelled out in a summary; the record has them all


class Place(Protocol):
    """Where a map can run instead of here: what ``on=`` takes."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], **options: Any) -> list[Any]:
        """As `runwide.map`."""


def map(  # noqa: A001 - the field's name
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    on: Place | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    on_error: str = "raise",
    **options: Any,
) -> list[R]:
    """Apply a function to every item, on the physical cores of this container or on many components.

    The function may be a closure, a lambda or nested; results come back in the order of the items. A task that raises, or
    whose worker dies, fails alone: the others are finished first.

    Args:
        function: Takes one item.
        items: At least one item.
        on: Where to run instead of on this container's cores, such as ``runwide_components.Components``.
        workers: Number of worker processes (with ``on``: in each component); None for one per physical core.
        timeout: Seconds that one attempt at one item may take.
        retries: Further attempts after an exception; a worker's death is retried once in any case.
        on_error: ``"raise"`` the first failed item's own exception, its ``__cause__`` a `TasksFailed` with every failure
            and every result; or ``"return"`` a `Failure` in the place of each failed result.
        **options: Further options of ``on``.

    Raises:
        NoItems: There are no items.
        FunctionNotPicklable: The function cannot be sent to a worker.
        Exception: Whatever the function raised, by ``on_error``.

    Example:
        >>> runwide.map(lambda x: x * x, [1, 2, 3])
        [1, 4, 9]
    """
    _check(on_error)
    common = {"workers": workers, "timeout": timeout, "retries": retries}
    if on is not None:
        return on.map(function, items, on_error=on_error, **common, **options)
    if options:
        raise TypeError(f"map() got an unexpected keyword argument {next(iter(options))!r} (without on=)")
    return raise_or_return(list(outcomes(function, items, **common)), on_error)  # type: ignore[arg-type]  # as declared


def imap(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    on_error: str = "raise",
) -> Iterator[R]:
    """As `map`, but yields each result as soon as those before it are there.

    Items are taken as results are consumed, with a bounded look-ahead, so both may be endless.

    Example:
        >>> for square in runwide.imap(lambda x: x * x, range(3)):
        ...     print(square)
        0
        1
        4
    """
    _check(on_error)
    arriving = outcomes(function, items, workers=workers, timeout=timeout, retries=retries)
    return values(in_order(arriving), on_error)


def imap_unordered(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    on_error: str = "raise",
) -> Iterator[R]:
    """As `imap`, but yields results in the order in which they finish.

    Example:
        >>> sorted(runwide.imap_unordered(lambda x: x * x, range(3)))
        [0, 1, 4]
    """
    _check(on_error)
    return values(outcomes(function, items, workers=workers, timeout=timeout, retries=retries), on_error)


def outcomes(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    max_crashes: int = 2,
    on_event: Callable[[TaskEvent], None] | None = None,
) -> Iterator[Outcome]:
    """The outcome of every item, in the order in which they end; never raises for a task's failure.

    Args:
        function: Takes one item.
        items: At least one item.
        workers: Number of worker processes; None for one per physical core.
        timeout: Seconds that one attempt at one item may take.
        retries: Further attempts after an exception.
        max_crashes: Deaths of its worker after which an item is given up.
        on_event: Called with each `runwide.records.TaskEvent`, on another thread.

    Raises:
        NoItems: There are no items.
        FunctionNotPicklable: The function cannot be sent to a worker.

    Example:
        >>> sorted(outcome.value for outcome in outcomes(abs, [-1, -2]))
        [1, 2]
    """
    budget = Budget(retries=retries, max_crashes=max_crashes, timeout=timeout)
    items = _some(items)
    if worker.inside:
        return run_in_place(function, items)
    dumped = dump_function(function)
    return _own_pool(dumped, items, budget, workers, on_event)


def _own_pool(
    dumped: Any,
    items: Iterable[Any],
    budget: Budget,
    workers: int | None,
    on_event: Callable[[TaskEvent], None] | None,
) -> Iterator[Outcome]:
    with Base(workers, on_event=on_event) as pool:
        yield from stream(pool, dumped, items, budget)


def raise_or_return(ended: Sequence[Outcome], on_error: str) -> list[Any]:
    """Results by index; failures are raised or stand in their place.

    Args:
        ended: One outcome per item, in any order.
        on_error: ``"raise"`` or ``"return"``.

    Raises:
        Exception: The exception of the first failed item, caused by a `TasksFailed` that has all of them.

    Example:
        >>> raise_or_return([Outcome(1, "b"), Outcome(0, "a")], "raise")
        ['a', 'b']
    """
    _check(on_error)
    results: list[Any] = [None] * len(ended)
    failures = []
    for outcome in ended:
        results[outcome.index] = outcome.value if outcome.failure is None else outcome.failure
        if outcome.failure is not None:
            failures.append(outcome.failure)
    if failures and on_error == "raise":
        raise first_error(failures, results)
    return results


def first_error(failures: list[Failure], results: list[Any]) -> BaseException:
    """The exception of the first failed item, caused by the summary of all."""
    failures.sort(key=lambda failure: failure.index)
    lines = [str(failure) for failure in failures[:_LISTED]]
    if len(failures) > _LISTED:
        lines.append(f"and {len(failures) - _LISTED} more")
    summary = TasksFailed(
        f"{len(failures)} of {len(results)} tasks failed:\n  " + "\n  ".join(lines) + "\n",
        failures=failures,
        results=results,
        hint="the others are finished: see .results and .failures of this error, or use on_error='return'",
    )
    raised = exception_of(failures[0])
    summary.__cause__ = raised.__cause__
    raised.__cause__ = summary
    return raised


def function_bytes(function: Callable[..., Any]) -> bytes:
    """A function as cloudpickle bytes, for another program.

    Raises:
        FunctionNotPicklable: It, or something that it closes over, cannot be pickled.

    Example:
        >>> import pickle
        >>> pickle.loads(function_bytes(lambda x: x + 1))(1)
        2
    """
    return dump_function(function, out_of_band=False)[0]


def _some(items: Iterable[T]) -> Iterator[T]:
    """The items, of which there is at least one."""
    iterator = iter(items)
    try:
        first = next(iterator)
    except StopIteration:
        raise NoItems("there are no items to map over", hint="pass at least one") from None
    return chain([first], iterator)


def _check(on_error: str) -> None:
    if on_error not in ("raise", "return"):
        raise InputError(f"on_error must be 'raise' or 'return', not {on_error!r}")
