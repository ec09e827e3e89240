"""`Executor` and `Pool`, which choose the class that runs their calls here or on a place."""

from __future__ import annotations

import concurrent.futures
import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from runwide import interpreter
from runwide.options.record import EXECUTOR, POOL, Options, WorkerOptions
from runwide.options.signatures import taking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from os import PathLike
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from runwide.api.callbacks import AsyncResult, Callback
    from runwide.events.model import TaskEvent


@taking(Options, EXECUTOR)
class Executor(concurrent.futures.Executor):
    """Runs calls in worker processes, one per physical core of this container, or on many components.

    It can be used wherever a ``concurrent.futures.Executor`` can. Functions may be closures, lambdas or nested. If a worker
    dies, its task is tried once more; if that worker dies too, the future of the task raises `runwide.errors.WorkerDied` (a
    ``BrokenProcessPool``). All other futures, and later ones, are not affected.

    With ``on``, calls that are submitted within a short time (0.1 seconds after the last, a second after the first, or
    100,000 calls) are one job with one pipeline run. One job runs at a time; calls that are submitted meanwhile become the
    next job. A future has its result soon after a component has stored it, long before the run ends. An error that ends the
    run, such as `runwide.errors.StepFailed`, is raised by the futures that have no result by then. A future can be cancelled
    until its job begins.

    Args:
        max_workers: Number of workers (with ``on``: in each component); None for one per physical core.
        on: Place to run instead of this container's cores, such as ``runwide_components.Components``.
        max_tasks_per_child: Tasks after which a worker is replaced by a fresh one.
        **options: As in `runwide.options.record.Options`.

    Raises:
        InputError: The place does not accept an option.

    Example:
        >>> with runwide.Executor(max_workers=2) as executor:
        ...     executor.submit(pow, 2, 10).result()
        1024
    """

    is_chosen = False  # True for a class that runs calls

    if not TYPE_CHECKING:  # type checkers would use its signature

        def __new__(cls, *args: Any, on: Any = None, **options: Any) -> Any:  # noqa: ARG004 - they are those of `__init__`
            """Make an object of the class that runs calls here or on a place."""
            kind: Any = cls
            return super().__new__(kind if cls.is_chosen else chosen(kind, Executor, placed=on is not None))

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        on: Any = None,
        max_tasks_per_child: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Give the signature only: the chosen class has an ``__init__`` of its own."""
        raise NotImplementedError

    def kill(self) -> None:
        """Stop all calls at once, from any thread."""
        raise NotImplementedError

    @staticmethod
    def running(*, placed: bool) -> Any:
        """Load the class that runs calls."""
        if placed:
            from runwide.api.placed import PlacedExecutor

            return PlacedExecutor
        from runwide import pool

        return pool.Executor


vars(Executor.__new__)["__signature__"] = inspect.signature(Executor.__init__)


def take_place(one: Any, base: Any) -> Any:
    """Turn an object that would run calls here into one that runs them on a place, and return the class that does.

    A subclass may pass ``on=`` only when its own ``__init__`` runs, after `__new__` has chosen a class without it.
    """
    kind = next((kind for kind in type(one).__mro__[1:] if not vars(kind).get("is_chosen")), base)
    one.__class__ = chosen(kind, base, placed=True)
    return chosen(base, base, placed=True)


@cache
def chosen(kind: Any, base: Any, *, placed: bool) -> Any:
    """Return the class that runs calls here or on a place; for a user's subclass, a class with the methods of both."""
    runs = base.running(placed=placed)
    return runs if kind is base else type(kind.__name__, (kind, runs), {"__module__": kind.__module__})


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
        **options: As in `runwide.options.record.WorkerOptions`.

    Raises:
        InputError: The place does not accept an option.

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
            from runwide.api.placed import PlacedPool

            return PlacedPool
        interpreter.check_interpreter()  # while the interpreter ends, imports fail
        from runwide import systems

        systems.refuse("runwide runs tasks", hint="use WSL, or a container of runwide's image")
        from runwide.api import stored_pool

        return stored_pool.Pool


vars(Pool.__new__)["__signature__"] = inspect.signature(Pool.__init__)
