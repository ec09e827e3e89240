"""The executor on a place: `runwide.Executor` with ``on=``."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from runwide import standard
from runwide.batches import Batches, Call, checked, in_time, until_left
from runwide.executors import Executor
from runwide.options import EXECUTOR, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Unpack

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"


class PlacedExecutor(Executor):
    """`runwide.Executor` on a place; it rejects ``name``, ``reuse`` and ``store``."""

    is_chosen = True

    def __init__(
        self,
        max_workers: Any = None,
        *,
        on: Any,
        max_tasks_per_child: int | None = None,
        name: str | None = None,
        reuse: str | None = None,
        store: Any = None,
        **options: Unpack[Options],
    ) -> None:
        checked("Executor", on, {"name": name, "reuse": reuse, "store": store})
        chosen = standard.chosen(
            EXECUTOR,
            options,
            (max_workers, standard.MAX_WORKERS),
            (max_tasks_per_child, standard.MAX_TASKS_PER_CHILD),
        )
        self._batches = Batches(on, chosen.given())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)`` and return its future.

        Raises:
            PoolClosed: The executor is shut down; this is a ``RuntimeError``.
        """
        call = Call(fn, args, kwargs)
        self._batches.submit([call], AFTER_SHUTDOWN)
        return call.future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Yield results of ``fn`` over the zipped iterables, in order; all are one job, unless ``buffersize`` is given.

        Args:
            fn: Takes one item of each iterable.
            *iterables: Taken completely now, unless ``buffersize`` is given.
            timeout: Seconds from this call after which ``TimeoutError`` is raised, if the next result has not arrived.
            chunksize: Ignored: components choose how many items travel to a worker together.
            buffersize: Most items to take ahead of the consumed results.
        """
        standard.positive(chunksize, standard.CHUNKSIZE)
        ahead = standard.positive(buffersize, standard.BUFFERSIZE)
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = (Call(fn, args, {}) for args in zip(*iterables))  # noqa: B905 - the shortest ends it
        first = list(calls if ahead is None else islice(calls, ahead))
        self._batches.submit(first, AFTER_SHUTDOWN)
        futures = deque(call.future for call in first)
        del first
        return in_time(until_left(futures) if ahead is None else self._buffered(futures, calls), deadline)

    def _buffered(
        self, futures: deque[Future[Any]], calls: Iterator[Call]
    ) -> Generator[Future[Any], None, None]:
        """Yield futures, and submit one more call after each."""
        with closing(until_left(futures)) as several:
            for future in several:
                yield future
                for call in islice(calls, 1):
                    self._batches.submit([call], AFTER_SHUTDOWN)
                    futures.append(call.future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's
        """Take no more calls.

        Args:
            wait: True to return only when all submitted calls have ended.
            cancel_futures: True to cancel the calls that were not sent.
        """
        self._batches.close(cancel=cancel_futures)
        if wait:
            self._batches.join()

    def kill(self) -> None:
        """Cancel the run and the calls that were not sent, from any thread."""
        self._batches.kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C: do not wait for the other calls
            self.kill()
        self.shutdown()
