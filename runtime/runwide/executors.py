"""`Executor`: calls as futures, on the physical cores of this container or on a place."""

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

    Whatever takes a ``concurrent.futures.Executor`` takes it. Functions may be closures, lambdas or nested. A worker that
    dies fails the future of the task that it ran, with `runwide.errors.WorkerDied` (a ``BrokenProcessPool``), after one
    more try; every other future is served, and so are later ones.

    With ``on``, calls that are submitted within a short time (0.1 seconds after the last, a second after the first, or
    100,000 calls) are one job with one pipeline run. One runs at a time; calls that come meanwhile are the next. A future
    has its result soon after a component has stored it, long before the run ends. What ends the run, such as
    `runwide.errors.StepFailed`, is the error of the futures that have no result by then. A future can be cancelled until its
    job is begun.

    Args:
        max_workers: Number of workers (with ``on``: in each component); None for one per physical core.
        on: Where to run instead of here, such as ``runwide_components.Components``.
        max_tasks_per_child: Tasks after which a worker is replaced by a fresh one.
        **options: As in `runwide.options.Options`.

    Raises:
        InputError: An option cannot be honoured there.

    Example:
        >>> with runwide.Executor(max_workers=2) as executor:
        ...     executor.submit(pow, 2, 10).result()
        1024
    """

    is_chosen = False  # whether a class runs calls itself

    if not TYPE_CHECKING:  # which would check calls against this one

        def __new__(cls, *args: Any, on: Any = None, **options: Any) -> Any:  # noqa: ARG004 - they are those of `__init__`
            """Make an executor of the kind that runs calls here, or on a place."""
            kind: Any = cls
            return super().__new__(kind if cls.is_chosen else _chosen(kind, placed=on is not None))

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        on: Any = None,
        max_tasks_per_child: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Only for its signature: the class that is chosen has its own."""
        raise NotImplementedError

    def kill(self) -> None:
        """Stop the calls at once, without finishing; from any thread."""
        raise NotImplementedError


vars(Executor.__new__)["__signature__"] = inspect.signature(Executor.__init__)


def take_place(one: Executor) -> Any:
    """Make an object that was to run calls here one that runs them on a place, and return the class that does.

    A subclass may give ``on=`` to this class only when its own ``__init__`` runs.
    """
    kinds = type(one).__mro__
    kind = next(
        (kind for kind in kinds if kind is not kinds[0] and not kind.__dict__.get("is_chosen")), Executor
    )
    one.__class__ = _chosen(kind, placed=True)
    return _chosen(Executor, placed=True)


@cache
def _chosen(kind: Any, *, placed: bool) -> Any:
    """The class that runs calls here or there; of a user's subclass one with its methods."""
    if placed:
        from runwide.placed import PlacedExecutor as Chosen
    else:
        from runwide.pool import Executor as Chosen  # type: ignore[assignment]
    return (
        Chosen if kind is Executor else type(kind.__name__, (kind, Chosen), {"__module__": kind.__module__})
    )
