"""The pool of `multiprocessing` whose maps may keep their results in a store: `Pool`, with `register_joblib`."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from runwide import pools, standard
from runwide.async_result import AsyncResult
from runwide.errors import InputError, NoItems
from runwide.options import POOL, WorkerOptions
from runwide.pool import compat
from runwide.signatures import taking
from runwide.surface import map
from runwide.unpicklable import raising_what_pickle_raised
from runwide.where import check_reuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

    from typing_extensions import Unpack

    from runwide.async_result import Callback
    from runwide.records import TaskEvent


@taking(WorkerOptions, POOL)
class Pool(compat.Pool, pools.Pool):
    """Runs functions in worker processes, one per physical core, with the methods of ``multiprocessing.Pool``.

    ``from runwide import Pool`` in the place of ``from multiprocessing import Pool`` is all that changes. Functions may be
    closures, lambdas or nested; a worker that dies fails its own task and no other.

    Args:
        processes: Number of workers; None for one per physical core.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        maxtasksperchild: Tasks after which a worker is replaced by a fresh one.
        store: Where all forms of ``map`` keep results while they run, as `runwide.map` does. A job in a store has a known
            number of items and is read back when it has finished. So ``imap`` and ``imap_unordered`` return when all items
            have ended, raise the first failure then, and take no endless input; ``map_async`` takes all items first.
        name: Names their jobs there, with the number of the call: the same calls in the same order go on where an earlier
            process was killed.
        reuse: As for `runwide.map`, for each of these jobs.
        on: As for `runwide.Pool`, which chooses another class where one is given.
        **options: As in `runwide.options.WorkerOptions`.

    Example:
        >>> with runwide.Pool(processes=2) as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
        >>> with runwide.Pool(processes=2, store="memory://doc-pool", name="powers") as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
    """

    is_chosen = True

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        store: str | PathLike[str] | None = None,
        name: str | None = None,
        reuse: str | None = None,
        on_event: Callable[[TaskEvent], None] | None = None,
        on: Any = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        if on is not None:
            pools.take_place(self).__init__(
                self, processes, initializer, initargs, maxtasksperchild,
                on=on, store=store, name=name, reuse=reuse, on_event=on_event, **options,
            )  # fmt: skip
            return
        check_reuse(name, reuse)
        if store is None and name is not None:
            raise InputError("name= names jobs in a store, and there is none", hint="give store= as well")
        super().__init__(processes, initializer, initargs, maxtasksperchild, on_event=on_event, **options)
        self._store = store
        self._name = name
        self._reuse = reuse
        self._calls = count()

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
        options = {**self._chosen.given(), "chunksize": size}

        def run() -> list[Any]:
            try:
                with raising_what_pickle_raised():
                    found: list[Any] = map(
                        func, items, store=self._store, name=name, reuse=self._reuse, **options
                    )
                    return found
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
