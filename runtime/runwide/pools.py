"""`Pool`, which chooses the class that runs its calls here or on a place."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from runwide import ending
from runwide.executors import chosen
from runwide.options import POOL, WorkerOptions
from runwide.signatures import taking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from runwide.async_result import AsyncResult, Callback
    from runwide.events.model import TaskEvent


@taking(WorkerOptions, POOL)
class Pool:
    """Runs functions in worker processes, or on components, with the methods of ``multiprocessing.Pool``.

    To use it, change ``from multiprocessing import Pool`` to ``from runwide import Pool``. Functions may be closures,
    lambdas or nested. A worker that dies fails its own task and no other.

    With ``on``, each call of a method is one job with one pipeline run; single calls within a short time are one job, too
    (see `runwide.Executor`). All items are taken when a method is called; ``imap`` and ``imap_unordered`` yield results as
    components store them.

    Args:
        processes: Number of workers (with ``on``: in each component); None for one per physical core.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        maxtasksperchild: Tasks after which a worker is replaced by a fresh one.
        store: Place to keep the results of all forms of ``map`` while they run, as for `runwide.map`. A job in a store has a
            known number of items and is read back when it has finished. So ``imap`` and ``imap_unordered`` return when all
            items have ended, raise the first failure then, and take no endless input; ``map_async`` takes all items first.
        name: Name of their jobs there, to which the number of the call is added: the same calls in the same order continue
            those of a process that was killed.
        reuse: As for `runwide.map`, for each of these jobs.
        on: Place to run instead of this container's cores, such as ``runwide_components.Components``.
        on_event: Called with each `runwide.events.TaskEvent`.
        **options: As in `runwide.options.WorkerOptions`.

    Raises:
        InputError: The place cannot honour an option.

    Example:
        >>> with runwide.Pool(processes=2) as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
        >>> with runwide.Pool(processes=2, store="memory://doc-pools", name="powers") as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
    """

    is_chosen = False  # True for a class that runs calls

    if not TYPE_CHECKING:  # type checkers would use its signature

        def __new__(cls, *args: Any, on: Any = None, **options: Any) -> Any:  # noqa: ARG004 - they are those of `__init__`
            """Make an object of the class that runs tasks here or on a place."""
            kind: Any = cls
            return super().__new__(kind if cls.is_chosen else chosen(kind, Pool, placed=on is not None))

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
        on: Any = None,
        on_event: Callable[[TaskEvent], None] | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        """Give the signature only: the chosen class has an ``__init__`` of its own."""
        raise NotImplementedError

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function in a worker and return its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `apply`, but return at once."""
        raise NotImplementedError

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Apply the function to each item; return the results in order."""
        results: list[Any] = self.map_async(func, iterable, chunksize).get()
        return results

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `map`, but return when all items have been taken."""
        raise NotImplementedError

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with each item unpacked into arguments."""
        results: list[Any] = self.starmap_async(func, iterable, chunksize).get()
        return results

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As `starmap`, but return when all items have been taken."""
        raise NotImplementedError

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Yield results in order, each as soon as it and all earlier results have arrived."""
        raise NotImplementedError

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As `imap`, in the order in which the tasks finish."""
        raise NotImplementedError

    def close(self) -> None:
        """Take no more tasks."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Stop all tasks at once."""
        raise NotImplementedError

    def join(self) -> None:
        """Wait for the workers to end, after `close` or `terminate`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    @staticmethod
    def running(*, placed: bool) -> Any:
        """Load the class that runs tasks."""
        if placed:
            from runwide.placed_pool import PlacedPool

            return PlacedPool
        ending.check_interpreter()  # while the interpreter ends, imports fail
        from runwide import systems

        systems.refuse("runwide runs tasks", hint="use WSL, or a container of runwide's image")
        from runwide import stored_pool

        return stored_pool.Pool


vars(Pool.__new__)["__signature__"] = inspect.signature(Pool.__init__)
