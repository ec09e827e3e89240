"""`Executor`, which chooses the class that runs its calls here or on a place."""

from __future__ import annotations

import concurrent.futures
import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from runwide.options import EXECUTOR, Options
from runwide.signatures import taking

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
        **options: As in `runwide.options.Options`.

    Raises:
        InputError: The place cannot honour an option.

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
            from runwide.placed import PlacedExecutor

            return PlacedExecutor
        from runwide import pool

        return pool.Executor


vars(Executor.__new__)["__signature__"] = inspect.signature(Executor.__init__)


def take_place(one: Any, base: Any) -> Any:
    """Turn an object that would run calls here into one that runs them on a place, and return the class that does.

    A subclass may pass ``on=`` only when its own ``__init__`` runs, after `__new__` has chosen a class without it.

    Args:
        one: The object.
        base: `Executor` or `runwide.Pool`.
    """
    kind = next((kind for kind in type(one).__mro__[1:] if not vars(kind).get("is_chosen")), base)
    one.__class__ = chosen(kind, base, placed=True)
    return chosen(base, base, placed=True)


@cache
def chosen(kind: Any, base: Any, *, placed: bool) -> Any:
    """Return the class that runs calls here or on a place; for a user's subclass, a class with the methods of both.

    Args:
        kind: The class of which an object is made.
        base: `Executor` or `runwide.Pool`.
        placed: True for a place.
    """
    runs = base.running(placed=placed)
    return runs if kind is base else type(kind.__name__, (kind, runs), {"__module__": kind.__module__})
