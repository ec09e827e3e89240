"""The calls that may run elsewhere than on this container's cores alone, or tell of themselves: `map` and `amap`.

The pool is loaded where a call runs here: a map on components works where no pool does, as on Windows.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from runwide.errors import InputError
from runwide.naming import name_of
from runwide.results import Results, telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from runwide.pool.trace import Trace

T = TypeVar("T")
R = TypeVar("R")


class Place(Protocol):
    """Where a map can run instead of here: what ``on=`` takes."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], **options: Any) -> list[Any]:
        """As `runwide.map`."""


def map(  # noqa: A001 - the field's name
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    shards: int = 1,
    on_error: str = "raise",
    **options: Any,
) -> Results[R]:
    """Apply a function to every item, on the physical cores of this container or on many components.

    The function may be a closure, a lambda or nested; results come back in the order of the items. A task that raises, or
    whose worker dies, fails alone: the others are finished first.

    With ``store``, results are stored as they finish, from when all items are known. A call with the same ``name`` and the
    same items goes on where an earlier one was killed: what has succeeded is not run again, what has failed is. It may run
    elsewhere: here with ``store``, or with ``on`` on components with the same store.

    Args:
        function: Takes one item.
        items: At least one item. What takes its time is advanced on this thread, and each item is started as soon as it is
            there; with ``store`` too, but for a ``name`` that has a job there already.
        on: Where to run instead of on this container's cores, such as ``runwide_components.Components``.
        store: Where to keep results while this runs: ``gs://bucket/prefix`` or a folder.
        name: Names the job in its store; the same for one function and one list of items, and no other. None for a new job.
        reuse: What to do where the job of that name has another function than this call. None is the error
            `FunctionChanged`. ``"results"`` keeps its results, and runs what is missing with this function. ``"nothing"``
            begins a new job of that name and runs all items, whether the function has changed or not; the items may be
            others, too. The next call without ``reuse`` finds the job that was begun last.
        shards: Into how many parts a new job is divided, for components that may go on with it.
        on_error: ``"raise"`` the first failed item's own exception, its ``__cause__`` a `TasksFailed` with every failure
            and every result; or ``"return"`` a `Failure` in the place of each failed result.
        **options: ``workers``, ``timeout`` (seconds for one attempt at one item), ``retries`` (after an exception; a
            worker's death is tried once more in any case), ``max_failures``, ``chunksize``, ``progress`` and the others of
            `runwide.pool.mapping.Options`; further ones of ``on``.

    Returns:
        The results, a list; its ``.report()`` is one page of what happened. Where failures are raised, the results in
        ``error.__cause__`` have it as well.

    Raises:
        NoItems: There are no items.
        FunctionNotPicklable: The function cannot be sent to a worker.
        FunctionChanged: The job of that name has another function, and ``reuse`` is None.
        InputError: The job of that name has other items.
        Exception: Whatever the function raised, by ``on_error``.
        TooManyFailures: ``max_failures`` was passed.
        StoreUnavailable: The store did not answer; what was finished is stored.
        Preempted: SIGTERM came, also while the next item was waited for; without ``store``, its ``results`` are those that
            there are.

    Example:
        >>> runwide.map(lambda x: x * x, [1, 2, 3])
        [1, 4, 9]
        >>> runwide.map(lambda x: x * x, [1, 2, 3], store="memory://doc-map", name="powers")
        [1, 4, 9]
        >>> runwide.map(lambda x: x**3, [1, 2, 3], store="memory://doc-map", name="powers")
        Traceback (most recent call last):
        runwide.errors.FunctionChanged: the function of the job 'powers' has changed since its results were made ...
        >>> runwide.map(lambda x: x**3, [1, 2, 3], store="memory://doc-map", name="powers", reuse="nothing")
        [1, 8, 27]
    """
    place = _place(on, store, name, shards, reuse)
    if place is None:
        trace = _traced(function, options)
        with telling(trace=trace):
            try:
                values = _here()[0].map(function, items, on_error=on_error, **options)
            finally:
                trace.end()
        return Results(values, trace=trace)
    if on is not None and name is not None:
        options["name"] = name
    if on is not None and reuse is not None:
        options["reuse"] = reuse
    found = place.map(function, items, on_error=on_error, **options)
    return found if isinstance(found, Results) else Results(found)


async def amap(
    function: Callable[[T], R], items: Iterable[T], *, on_error: str = "raise", **options: Any
) -> Results[R]:
    """As `map` on this container's cores, without blocking the event loop; cancelling it stops the workers.

    Items are taken on a thread of their own, with this coroutine's context variables.

    Example:
        >>> import asyncio
        >>> asyncio.run(runwide.amap(lambda x: x * x, [1, 2, 3]))
        [1, 4, 9]
    """
    trace = _traced(function, options)
    with telling(trace=trace):
        try:
            values = await _here()[0].amap(function, items, on_error=on_error, **options)
        finally:
            trace.end()
    return Results(values, trace=trace)


@cache
def _here() -> tuple[Any, Any]:
    """Load what runs a map here, once: while the interpreter ends, nothing can be imported any more."""
    from runwide.pool import mapping
    from runwide.pool.trace import Trace

    return mapping, Trace


def _traced(function: Any, options: dict[str, Any]) -> Trace:
    """Have a map leave its trace, whoever else listens."""
    trace: Trace = _here()[1](
        name_of(function), workers=options.get("workers"), listener=options.get("on_event")
    )
    options["on_event"] = trace
    return trace


def _place(
    on: Place | None, store: str | PathLike[str] | None, name: str | None, shards: int, reuse: str | None
) -> Place | None:
    check_reuse(name, reuse)
    if on is not None and store is not None:
        raise InputError("both on= and store= were given", hint="give the store to the place that on= names")
    if on is not None and not callable(getattr(on, "map", None)):
        raise InputError(
            f"on={on!r} is no place to run", hint="name one, such as runwide_components.Components(4)"
        )
    if store is not None:
        from runwide.job import Checkpoint

        return Checkpoint(store, name, shards, reuse)
    if shards != 1:
        raise InputError(
            f"shards={shards} divides a job in a store=, and there is none", hint="give store= as well"
        )
    if on is None and name is not None:
        raise InputError("name= names a job in a store, and there is none", hint="give store= as well")
    return on


def check_reuse(name: str | None, reuse: str | None) -> None:
    """Refuse a wrong ``reuse=``, or one without a name.

    Raises:
        InputError: It is wrong.
    """
    if reuse is not None:
        from runwide.job import names

        names.check(name, reuse)
