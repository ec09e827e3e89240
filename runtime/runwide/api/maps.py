"""The calls that run a function over items: `map`, `starmap` and the streams.

A call that runs on this machine loads the pool. A map on components does not, so it works on Windows, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from runwide.api.where import Where, here, made, streamed, traced, values_of
from runwide.options.record import MAP, Options, RunOptions
from runwide.options.signatures import taking
from runwide.records import Results, reportable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike

    from typing_extensions import Unpack

    from runwide.api.where import Place

R = TypeVar("R")


@overload
def map(  # noqa: A001 - the field's name
    function: Callable[..., R],
    items: Iterable[Any],
    *iterables: Iterable[Any],
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    shards: int = 1,
    constants: Mapping[str, Any] | None = None,
    reduce: None = None,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Results[R]: ...


@overload
def map(  # noqa: A001 - the field's name
    function: Callable[..., R],
    items: Iterable[Any],
    *iterables: Iterable[Any],
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    shards: int = 1,
    constants: Mapping[str, Any] | None = None,
    reduce: Callable[[R, R], R],
    on_error: str = "raise",
    **options: Unpack[Options],
) -> R: ...


@taking(Options, MAP)
def map(  # noqa: A001 - the field's name
    function: Callable[..., R],
    items: Iterable[Any],
    *iterables: Iterable[Any],
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    shards: int = 1,
    constants: Mapping[str, Any] | None = None,
    reduce: Callable[[Any, Any], Any] | None = None,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Any:
    """Apply a function to every item, on the physical cores of this container or on many components.

    The function may be a closure, a lambda or nested. Results are in the order of the items. A task that raises an
    exception, or whose worker dies, fails alone: the others are finished first.

    With ``store``, results are stored as they finish, once all items are known. A call with the same ``name`` and the same
    items continues a call that was killed: items that succeeded are not run again, items that failed are. The calls may run
    on different machines: one here with ``store``, another with ``on`` on components with the same store.

    Args:
        function: Takes one item; with further iterables, one item of each.
        items: At least one item. A slow iterator is advanced on this thread, and each item is started as soon as it
            arrives; with ``store``, too, unless ``name`` names an existing job.
        *iterables: Further arguments of the function, as for the built-in ``map``: the shortest iterable ends the call.
        on: Place to run instead of this container's cores, such as ``runwide_components.Components``.
        store: Place to keep results while this runs: ``gs://bucket/prefix`` or a folder.
        name: Name of the job in its store, for one function and one list of items. None for a new job.
        reuse: Action if the job of that name has another function than this call. None raises `FunctionChanged`.
            ``"results"`` keeps its results, and runs the missing items with this function. ``"nothing"`` begins a new job of
            that name and runs all items, with the same or another function, and with the same or other items. The next call
            without ``reuse`` finds the job that was begun last.
        shards: Number of parts of a new job, for components that may continue it.
        constants: Further keyword arguments of the function, the same for each item.
        reduce: Makes one value of two results, and must be associative. This call then returns one value for all items.
            Workers fold the results of neighbouring items, and components the results of each other, as a tree.
        on_error: ``"raise"`` raises the exception of the first failed item; its ``__cause__`` is a `TasksFailed` with every
            failure and every result. ``"return"`` returns a `Failure` instead of each failed result.
        **options: As in `runwide.options.record.Options`.

    Returns:
        The results, a list with a method ``.report()``, as have the results in ``error.__cause__`` of a raised failure. With
        ``reduce``, one value.

    Raises:
        NoItems: There are no items.
        FunctionNotPicklable: The function cannot be sent to a worker.
        FunctionChanged: The job of that name has another function, and ``reuse`` is None.
        InputError: The job of that name has other items.
        Exception: The function raised it; see ``on_error``.
        TooManyFailures: More items failed than ``max_failures`` allows.
        StoreUnavailable: The store did not answer; finished results are stored.
        Preempted: SIGTERM came, perhaps while the call waited for an item; without ``store``, its ``results`` are those that
            had finished.

    Example:
        >>> runwide.map(lambda x: x * x, [1, 2, 3])
        [1, 4, 9]
        >>> runwide.map(pow, [2, 3], [5, 2]), runwide.map(round, [1.25, 2.5], constants={"ndigits": 1})
        ([32, 9], [1.2, 2.5])
        >>> runwide.map(len, ["a", "bcd"], reduce=lambda one, other: one + other)
        4
        >>> runwide.map(lambda x: x * x, [1, 2, 3], store="memory://doc-map", name="powers")
        [1, 4, 9]
        >>> runwide.map(lambda x: x**3, [1, 2, 3], store="memory://doc-map", name="powers")
        Traceback (most recent call last):
        runwide.errors.FunctionChanged: the function of the job 'powers' has changed since its results were made ...
        >>> runwide.map(lambda x: x**3, [1, 2, 3], store="memory://doc-map", name="powers", reuse="nothing")
        [1, 8, 27]
    """
    work, where = made(function, items, iterables, constants), Where(on, store, name, reuse, shards)
    return _run(*work, where, reduce=reduce, on_error=on_error, options=options)


@taking(Options, MAP)
def starmap(
    function: Callable[..., R],
    items: Iterable[Iterable[Any]],
    *,
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    shards: int = 1,
    constants: Mapping[str, Any] | None = None,
    reduce: Callable[[Any, Any], Any] | None = None,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Any:
    """As `map`, with each item unpacked into the arguments of the function, as for ``multiprocessing.Pool.starmap``.

    Args:
        function: Takes the elements of one item.
        items: At least one item, each an iterable of arguments. All other arguments are as for `map`.
        **options: As in `runwide.options.record.Options`.

    Example:
        >>> runwide.starmap(pow, [(2, 5), (3, 2)])
        [32, 9]
    """
    work = made(function, items, starred=True, constants=constants)
    where = Where(on, store, name, reuse, shards)
    return _run(*work, where, reduce=reduce, on_error=on_error, options=options)


def _run(
    function: Callable[[Any], R],
    items: Iterable[Any],
    where: Where,
    *,
    reduce: Callable[[Any, Any], Any] | None,
    on_error: str,
    options: Mapping[str, Any],
) -> Any:
    """Run a map at its place."""
    place = where.place()
    if place is None and reduce is not None:
        from runwide.api.reducing import reduced

        return reduced(function, values_of(items), reduce, on_error=on_error, **options)
    if place is None:
        trace, chosen = traced(function, RunOptions.on(MAP, options))
        with reportable(trace=trace):
            try:
                values = here()[0].run(function, values_of(items), chosen, on_error)
            finally:
                trace.end()
        return Results(values, trace=trace)
    if reduce is not None:
        return place.map(function, items, reduce=reduce, on_error=on_error, **where.words(), **options)
    found = place.map(function, items, on_error=on_error, **where.words(), **options)
    return found if isinstance(found, Results) else Results(found)


@taking(Options, MAP)
def imap(
    function: Callable[..., R],
    items: Iterable[Any],
    *iterables: Iterable[Any],
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    constants: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Iterator[R]:
    """As `map`, but yield each result as soon as it and all earlier results have arrived.

    Items are taken as results are consumed, with a bounded look-ahead, so both may be endless. An iterator that may be slow
    is advanced on a thread, with the caller's context variables: it may wait for anything, such as earlier results. With
    ``on``, all items are stored first, and results arrive as components store them. Leaving the iteration cancels the tasks
    that still run, except on components that run a named job.

    Args:
        function: As for `map`, and so are all arguments that are not listed.
        store: As for `map`; results arrive within seconds after they are stored.
        name: As for `map`: a client that was killed gets all results when it makes the same call again, and items whose
            results are stored are not run again.
        on_error: ``"raise"`` raises the exception of a failed item when it is its turn; ``"return"`` yields a `Failure`
            instead.
        **options: As in `runwide.options.record.Options`.

    Example:
        >>> for square in runwide.imap(lambda x: x * x, range(3)):
        ...     print(square)
        0
        1
        4
    """
    work, where = made(function, items, iterables, constants), Where(on, store, name, reuse)
    return streamed(*work, where, ordered=True, on_error=on_error, options=options)


@taking(Options, MAP)
def imap_unordered(
    function: Callable[..., R],
    items: Iterable[Any],
    *iterables: Iterable[Any],
    on: Place | None = None,
    store: str | PathLike[str] | None = None,
    name: str | None = None,
    reuse: str | None = None,
    constants: Mapping[str, Any] | None = None,
    on_error: str = "raise",
    **options: Unpack[Options],
) -> Iterator[R]:
    """As `imap`, but yield results in the order in which they finish.

    Args:
        function: As for `imap`, and so are all arguments that are not listed.
        **options: As in `runwide.options.record.Options`.

    Example:
        >>> sorted(runwide.imap_unordered(lambda x: x * x, range(3)))
        [0, 1, 4]
    """
    work, where = made(function, items, iterables, constants), Where(on, store, name, reuse)
    return streamed(*work, where, ordered=False, on_error=on_error, options=options)
