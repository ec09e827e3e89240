"""The calls that run a function over items, here, with a store, or on components: `map` and its streams.

The pool is loaded where a call runs here: a map on components works where no pool does, as on Windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from runwide.arguments import made, values_of
from runwide.options import MAP, Options
from runwide.results import Results, telling
from runwide.signatures import taking
from runwide.where import Where, here, reduced_at, streamed, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike

    from typing_extensions import Unpack

    from runwide.where import Place

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

    The function may be a closure, a lambda or nested; results come back in the order of the items. A task that raises, or
    whose worker dies, fails alone: the others are finished first.

    With ``store``, results are stored as they finish, from when all items are known. A call with the same ``name`` and the
    same items goes on where an earlier one was killed: what has succeeded is not run again, what has failed is. It may run
    elsewhere: here with ``store``, or with ``on`` on components with the same store.

    Args:
        function: Takes one item; with further iterables, one of each.
        items: At least one item. What takes its time is advanced on this thread, and each item is started as soon as it is
            there; with ``store`` too, but for a ``name`` that has a job there already.
        *iterables: Further arguments of the function, as the built-in ``map`` takes them: the shortest ends it.
        on: Where to run instead of on this container's cores, such as ``runwide_components.Components``.
        store: Where to keep results while this runs: ``gs://bucket/prefix`` or a folder.
        name: Names the job in its store; the same for one function and one list of items, and no other. None for a new job.
        reuse: What to do where the job of that name has another function than this call. None is the error
            `FunctionChanged`. ``"results"`` keeps its results, and runs what is missing with this function. ``"nothing"``
            begins a new job of that name and runs all items, whether the function has changed or not; the items may be
            others, too. The next call without ``reuse`` finds the job that was begun last.
        shards: Into how many parts a new job is divided, for components that may go on with it.
        constants: Further keyword arguments of the function, the same for each item.
        reduce: Makes one value of two results, and is associative: then this returns one value of all. Workers fold the
            results of neighbouring items, and components those of each other, as a tree.
        on_error: ``"raise"`` the first failed item's own exception, its ``__cause__`` a `TasksFailed` with every failure
            and every result; or ``"return"`` a `Failure` in the place of each failed result.
        **options: As in `runwide.options.Options`.

    Returns:
        The results, a list; its ``.report()`` is one page of what happened. Where failures are raised, the results in
        ``error.__cause__`` have it as well. With ``reduce``, the one value.

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
    function, items = made(function, items, iterables, constants)
    where = Where(on, store, name, reuse, shards)
    place = where.place()
    if reduce is not None:
        return reduced_at(function, items, reduce, where, on_error=on_error, options=options)
    if place is None:
        trace, listened = traced(function, options)
        with telling(trace=trace):
            try:
                values = here()[0].map(function, values_of(items), on_error=on_error, **listened)
            finally:
                trace.end()
        return Results(values, trace=trace)
    found = place.map(function, items, on_error=on_error, **where.words(), **options)
    return found if isinstance(found, Results) else Results(found)


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
    """As `map`, with each item taken apart into the function's arguments, as ``multiprocessing.Pool.starmap`` does.

    Args:
        function: Takes what is in one item.
        items: At least one item, each of some arguments.
        on: This and the following are as for `map`.
        store: As for `map`.
        name: As for `map`.
        reuse: As for `map`.
        shards: As for `map`.
        constants: As for `map`.
        reduce: As for `map`.
        on_error: As for `map`.
        **options: As in `runwide.options.Options`.

    Example:
        >>> runwide.starmap(pow, [(2, 5), (3, 2)])
        [32, 9]
    """
    function, items = made(function, items, starred=True, constants=constants)
    run: Callable[..., Any] = map
    return run(
        function,
        items,
        on=on,
        store=store,
        name=name,
        reuse=reuse,
        shards=shards,
        reduce=reduce,
        on_error=on_error,
        **options,
    )


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
    """As `map`, but yields each result as soon as those before it are there.

    Items are taken as results are consumed, with a bounded look-ahead, so both may be endless. Where taking them may take
    time it is done on a thread, with the caller's context variables: the iterable may wait for anything, such as earlier
    results. With ``on``, all items are spilled first, and results come as components store them. Who stops iterating
    cancels what still runs, but for components that run a named job.

    Args:
        function: As for `map`.
        items: As for `map`.
        *iterables: As for `map`.
        on: As for `map`.
        store: As for `map`; results come as they are stored, within seconds.
        name: As for `map`: a client that was killed gets all results in the same call again, and what is
            stored is not run again.
        reuse: As for `map`.
        constants: As for `map`.
        on_error: ``"raise"`` a failed item's own exception when its turn comes, or ``"return"`` a `Failure` in its place.
        **options: As in `runwide.options.Options`.

    Example:
        >>> for square in runwide.imap(lambda x: x * x, range(3)):
        ...     print(square)
        0
        1
        4
    """
    function, items = made(function, items, iterables, constants)
    return streamed(
        function, items, Where(on, store, name, reuse), ordered=True, on_error=on_error, options=options
    )


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
    """As `imap`, but yields results in the order in which they finish.

    Args:
        function: As for `map`.
        items: As for `map`.
        *iterables: As for `map`.
        on: As for `map`.
        store: As for `map`.
        name: As for `imap`.
        reuse: As for `map`.
        constants: As for `map`.
        on_error: As for `imap`.
        **options: As in `runwide.options.Options`.

    Example:
        >>> sorted(runwide.imap_unordered(lambda x: x * x, range(3)))
        [0, 1, 4]
    """
    function, items = made(function, items, iterables, constants)
    return streamed(
        function, items, Where(on, store, name, reuse), ordered=False, on_error=on_error, options=options
    )
