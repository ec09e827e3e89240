"""Read ahead and write in the background, with a bounded number of calls at once."""

from __future__ import annotations

import concurrent.futures  # it loads its threads on first use
import threading
from collections import deque
from contextlib import closing, contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], inputs: Iterable[T], *, threads: int) -> Iterator[R]:
    """Call a function on several threads, and yield the results in input order.

    At most ``threads`` calls are running or have results that were not yielded yet.

    Example:
        >>> list(ahead(abs, [-1, -2, -3], threads=2))
        [1, 2, 3]
    """
    several = iter(inputs)
    first = list(islice(several, 2))
    if len(first) <= 1:  # no thread is needed
        yield from map(function, first)
        return
    with concurrent.futures.ThreadPoolExecutor(threads, "runwide-ahead") as pool:
        under_way: deque[Future[R]] = deque()
        try:
            for value in chain(first, several):
                under_way.append(pool.submit(function, value))
                if len(under_way) >= threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def call_after_first(
    inputs: Generator[T, None, None], action: Callable[[], None]
) -> Generator[T, None, None]:
    """Yield the inputs, and call ``action`` when the caller has used the first one and asks for the next.

    Example:
        >>> list(call_after_first((letter for letter in "ab"), lambda: print("called")))
        called
        ['a', 'b']
    """
    with closing(inputs):
        yield from islice(inputs, 1)
        action()
        yield from inputs


@contextmanager
def closed(inputs: Generator[T, None, None]) -> Iterator[Generator[T, None, None]]:
    """Close a generator at the end of the block, as `contextlib.closing` does, unless another thread is running it.

    Example:
        >>> with closed(letter for letter in "ab") as letters:
        ...     next(letters)
        'a'
        >>> list(letters)
        []
    """
    try:
        yield inputs
    finally:
        try:
            inputs.close()
        except ValueError as error:
            if "already executing" not in str(error):
                raise


class Behind:
    """Makes calls in the background, at most ``threads`` at once; a context manager.

    The end of the block waits for all calls and raises the first error.

    Example:
        >>> done = []
        >>> with Behind(threads=2) as behind:
        ...     behind.submit(done.append, 1)
        >>> done
        [1]
    """

    def __init__(self, *, threads: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "runwide-behind")
        self._free = threading.Semaphore(threads)
        self._failed: Future[Any] | None = None

    def submit(self, function: Callable[..., object], *args: object) -> None:
        """Wait for a free thread and make a call on it; raise the error of an earlier call."""
        self._free.acquire()
        if self._failed is not None:
            self._free.release()
            self._failed.result()
        self._pool.submit(function, *args).add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        if future.exception() is not None and self._failed is None:
            self._failed = future
        self._free.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None and self._failed is not None:
            self._failed.result()
