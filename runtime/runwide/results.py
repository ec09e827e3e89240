"""The results of a map: a list that can make a report."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.errors import RunwideError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runwide._report import Report
    from runwide.events.trace import Trace

T = TypeVar("T")


class Results(list[T]):
    """Results in the order of the items: a list with a method `report`.

    A slice, a copy, a pickle or a sum of it is a plain list.

    Args:
        values: The results.
        job: Reference of their job, if there is one.
        trace: Trace of a map without a job.

    Example:
        >>> results = runwide.map(lambda x: x * x, [1, 2, 3])
        >>> results
        [1, 4, 9]
        >>> results.report().metrics["results"]
        3
    """

    __slots__ = ("job", "trace")

    def __init__(
        self, values: Iterable[T] = (), *, job: str | None = None, trace: Trace | None = None
    ) -> None:
        super().__init__(values)
        self.job = job
        self.trace = trace

    def report(self) -> Report:
        """Return the report of the map, which a notebook shows as the last value of a cell; see `runwide.report`.

        Raises:
            InputError: The map recorded nothing.
        """
        import runwide

        return runwide.report(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)


@contextmanager
def reportable(*, job: str | None = None, trace: Trace | None = None) -> Iterator[None]:
    """Attach the job or the trace to results that an exception of the block carries, so that `.report()` works on them."""
    try:
        yield
    except BaseException as error:
        for one in (error, error.__cause__):
            if isinstance(one, RunwideError) and hasattr(one, "results"):
                one.results = Results(one.results, job=job, trace=trace)
        raise
