"""The calls that may run elsewhere than on this container's cores alone, or tell of themselves: `map`, `amap`, `Pool`."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from runwide.errors import InputError, NoItems
from runwide.naming import name_of
from runwide.pool import compat, mapping, standard
from runwide.pool.compat import AsyncResult
from runwide.pool.trace import Trace
from runwide.results import Results, telling
from runwide.unpicklable import raising_what_pickle_raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

    from runwide.pool.compat import Callback

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
                values = mapping.map(function, items, on_error=on_error, **options)
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
            values = await mapping.amap(function, items, on_error=on_error, **options)
        finally:
            trace.end()
    return Results(values, trace=trace)


def _traced(function: Any, options: dict[str, Any]) -> Trace:
    """Have a map leave its trace, whoever else listens."""
    trace = Trace(name_of(function), workers=options.get("workers"), listener=options.get("on_event"))
    options["on_event"] = trace
    return trace


def _place(
    on: Place | None, store: str | PathLike[str] | None, name: str | None, shards: int, reuse: str | None
) -> Place | None:
    _check_reuse(name, reuse)
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


def _check_reuse(name: str | None, reuse: str | None) -> None:
    if reuse is not None:
        from runwide.job import names

        names.check(name, reuse)


class Pool(compat.Pool):
    """Runs functions in worker processes, one per physical core, with the methods of ``multiprocessing.Pool``.

    ``from runwide import Pool`` in the place of ``from multiprocessing import Pool`` is all that changes. Functions may be
    closures, lambdas or nested; a worker that dies fails its own task and no other.

    Args:
        processes: Number of workers; None for one per physical core.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        maxtasksperchild: Tasks after which a worker is replaced by a fresh one.
        timeout: Seconds that one attempt at one task may take before its worker is stopped.
        retries: Further attempts after an exception.
        store: Where all forms of ``map`` keep results while they run, as `runwide.map` does. A job in a store has a known
            number of items and is read back when it has finished. So ``imap`` and ``imap_unordered`` return when all items
            have ended, raise the first failure then, and take no endless input; ``map_async`` takes all items first.
        name: Names their jobs there, with the number of the call: the same calls in the same order go on where an earlier
            process was killed.
        reuse: As for `runwide.map`, for each of these jobs.

    Example:
        >>> with runwide.Pool(processes=2) as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
        >>> with runwide.Pool(processes=2, store="memory://doc-pool", name="powers") as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
        store: str | PathLike[str] | None = None,
        name: str | None = None,
        reuse: str | None = None,
    ) -> None:
        _check_reuse(name, reuse)
        if store is None and name is not None:
            raise InputError("name= names jobs in a store, and there is none", hint="give store= as well")
        initargs = tuple(initargs)
        super().__init__(processes, initializer, initargs, maxtasksperchild, timeout=timeout, retries=retries)
        self._store = store
        self._name = name
        self._reuse = reuse
        self._calls = count()
        self._options: dict[str, Any] = {
            "workers": standard.workers(processes, standard.PROCESSES), "initializer": initializer, "initargs": initargs,
            "max_tasks": maxtasksperchild,
            "timeout": timeout, "retries": retries,
        }  # fmt: skip

    def map(  # noqa: D102 - as the class it stands for
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        if self._store is None:
            return super().map(func, iterable, chunksize)
        return self._stored(func, iterable, chunksize)()

    def map_async(  # noqa: D102 - as the class it stands for
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        if self._store is None:
            return super().map_async(func, iterable, chunksize, callback, error_callback)
        result = AsyncResult(callback, error_callback)
        run = self._stored(func, list(iterable), chunksize)

        def settle() -> None:
            try:
                result.settle(run(), None)
            except BaseException as error:
                result.settle(None, error)

        threading.Thread(target=settle, name="runwide-stored-map", daemon=True).start()
        return result

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As ``multiprocessing.Pool.imap``; with ``store=``, all items are run by this call, and then iterated over."""
        if self._store is None:
            return super().imap(func, iterable, chunksize)
        return iter(self.map(func, iterable, chunksize))

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As ``multiprocessing.Pool.imap_unordered``; with ``store=`` as `imap`, in the order of the items."""
        if self._store is None:
            return super().imap_unordered(func, iterable, chunksize)
        return iter(self.map(func, iterable, chunksize))

    def _stored(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> Callable[[], list[Any]]:
        """One map, numbered now and ready to be run."""
        with self._running():
            self._lease.check_open()
        size = standard.positive(chunksize, standard.POOL_CHUNKSIZE)
        name = None if self._name is None else f"{self._name}/{next(self._calls)}"
        options = {**self._options, "chunksize": size}

        def run() -> list[Any]:
            try:
                with raising_what_pickle_raised():
                    return map(func, items, store=self._store, name=name, reuse=self._reuse, **options)
            except NoItems as error:
                if error.__cause__ is not None:  # a task's own
                    raise
                return []

        return run


def register_joblib() -> None:
    """Make the backend ``runwide`` known to joblib, as ``import runwide.joblib`` does.

    Raises:
        ImportError: joblib is not installed.

    Example:
        >>> from joblib import Parallel, delayed, parallel_config
        >>> runwide.register_joblib()
        >>> with parallel_config(backend="runwide", n_jobs=2):
        ...     Parallel()(delayed(abs)(x) for x in [-1, -2])
        [1, 2]
    """
    from runwide.joblib import register

    register()
