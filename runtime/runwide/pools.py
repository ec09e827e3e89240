"""`Pool`: the interface of ``multiprocessing.Pool``, on the physical cores of this container or on a place."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from runwide import ending
from runwide.options import POOL, WorkerOptions
from runwide.signatures import taking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from runwide.async_result import AsyncResult, Callback
    from runwide.records import TaskEvent


@taking(WorkerOptions, POOL)
class Pool:
    """Runs functions in worker processes, one per physical core, or on components, with ``multiprocessing.Pool``'s methods.

    ``from runwide import Pool`` instead of ``from multiprocessing import Pool`` is all that changes. Functions may be
    closures, lambdas or nested; a worker that dies fails its own task and no other.

    With ``on``, each call of a method is one job with one pipeline run, and so are single calls that come within a short
    time (see `runwide.Executor`). All items are taken when a method is called; ``imap`` and ``imap_unordered`` give results
    as components store them.

    Args:
        processes: Number of workers (with ``on``: in each component); None for one per physical core.
        initializer: Called once in each worker before its first task.
        initargs: Arguments of ``initializer``.
        maxtasksperchild: Tasks after which a worker is replaced by a fresh one.
        store: Where all forms of ``map`` keep results while they run, as `runwide.map` does. A job in a store has a known
            number of items and is read back when it has finished. So ``imap`` and ``imap_unordered`` return when all items
            have ended, raise the first failure then, and take no endless input; ``map_async`` takes all items first.
        name: Names their jobs there, with the number of the call: the same calls in the same order go on where an earlier
            process was killed.
        reuse: As for `runwide.map`, for each of these jobs.
        on: Where to run instead of here, such as ``runwide_components.Components``.
        on_event: Called with each `runwide.records.TaskEvent`.
        **options: As in `runwide.options.WorkerOptions`.

    Raises:
        InputError: An option cannot be honoured there.

    Example:
        >>> with runwide.Pool(processes=2) as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
        >>> with runwide.Pool(processes=2, store="memory://doc-pools", name="powers") as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
    """

    is_chosen = False  # whether a class runs calls itself

    if not TYPE_CHECKING:  # which would check calls against this one

        def __new__(cls, *args: Any, on: Any = None, **options: Any) -> Any:  # noqa: ARG004 - they are those of `__init__`
            """Make a pool of the kind that runs tasks here, or on a place."""
            kind: Any = cls
            return super().__new__(kind if cls.is_chosen else _chosen(kind, placed=on is not None))

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
        """Only for its signature: the class that is chosen has its own."""
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
        """As `apply`, but returns at once."""
        raise NotImplementedError

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Apply the function to each item; results in order."""
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
        """As `map`, but returns when all items have been taken."""
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
        """As `starmap`, but returns when all items have been taken."""
        raise NotImplementedError

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """Results in order, each as soon as those before it are there."""
        raise NotImplementedError

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As `imap`, in the order in which they finish."""
        raise NotImplementedError

    def close(self) -> None:
        """Take no more tasks."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Stop at once, without finishing."""
        raise NotImplementedError

    def join(self) -> None:
        """Wait for the workers to leave, after `close` or `terminate`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()


vars(Pool.__new__)["__signature__"] = inspect.signature(Pool.__init__)


def take_place(one: Pool) -> Any:
    """Make an object that was to run calls here one that runs them on a place, and return the class that does.

    A subclass may give ``on=`` to this class only when its own ``__init__`` runs.
    """
    kinds = type(one).__mro__
    kind = next((kind for kind in kinds if kind is not kinds[0] and not kind.__dict__.get("is_chosen")), Pool)
    one.__class__ = _chosen(kind, placed=True)
    return _chosen(Pool, placed=True)


@cache
def _chosen(kind: Any, *, placed: bool) -> Any:
    """The class that runs tasks here or there; of a user's subclass one with its methods."""
    if placed:
        from runwide.placed_pool import PlacedPool as Chosen
    else:
        ending.check_interpreter()  # after which nothing can be imported
        from runwide import systems

        systems.refuse("runwide runs tasks", hint="use WSL, or a container of runwide's image")
        from runwide.stored_pool import Pool as Chosen  # type: ignore[assignment]
    return Chosen if kind is Pool else type(kind.__name__, (kind, Chosen), {"__module__": kind.__module__})
