"""`Pool` on this machine, whose maps may keep their results in a store."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from runwide.api import pools
from runwide.api.callbacks import AsyncResult
from runwide.api.maps import map
from runwide.api.pools import take_place
from runwide.api.where import check_reuse, needs_store
from runwide.errors import NoItems
from runwide.options import standard
from runwide.pickling.unpicklable import raising_what_pickle_raised
from runwide.pool import mp_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

    from typing_extensions import Unpack

    from runwide.api.callbacks import Callback
    from runwide.events.model import TaskEvent
    from runwide.options.record import WorkerOptions


class Pool(mp_pool.Pool, pools.Pool):
    """`runwide.Pool` on this machine."""

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
            take_place(self, pools.Pool).__init__(
                self, processes, initializer, initargs, maxtasksperchild,
                on=on, store=store, name=name, reuse=reuse, on_event=on_event, **options,
            )  # fmt: skip
            return
        check_reuse(name, reuse)
        if store is None and name is not None:
            raise needs_store("name=")
        super().__init__(processes, initializer, initargs, maxtasksperchild, on_event=on_event, **options)
        self._store = store
        self._name = name
        self._reuse = reuse
        self._calls = count()

    def map(  # noqa: D102 - as in runwide.Pool
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        if self._store is None:
            return super().map(func, iterable, chunksize)
        return self._stored(func, iterable, chunksize)()

    def map_async(  # noqa: D102 - as in runwide.Pool
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
        """As ``multiprocessing.Pool.imap``; with ``store=``, this call runs all items before it returns an iterator."""
        if self._store is None:
            return super().imap(func, iterable, chunksize)
        return iter(self.map(func, iterable, chunksize))

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As ``multiprocessing.Pool.imap_unordered``; with ``store=``, as `imap`, in the order of the items."""
        if self._store is None:
            return super().imap_unordered(func, iterable, chunksize)
        return iter(self.map(func, iterable, chunksize))

    def _stored(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> Callable[[], list[Any]]:
        """Return a function that runs one map, whose number is taken now."""
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
                if error.__cause__ is not None:  # raised by a task
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
