"""What a map returns: a list, which can also tell what happened."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.errors import RunwideError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runwide.pool.trace import Trace
    from runwide.report import Report

T = TypeVar("T")


class Results(list[T]):
    """Results in the order of the items: a list, of which `report` says how they came about.

    Whatever is made of it (a slice, a copy, a pickle, a sum) is a plain list.

    Args:
        values: The results.
        job: Reference of the job that they are of, where there is one.
        trace: What was kept of a map without one.

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
        """What happened, as one page: the last value of a notebook's cell shows it; see `runwide.report`.

        Raises:
            InputError: Nothing was recorded.
        """
        import runwide

        return runwide.report(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)


@contextmanager
def telling(*, job: str | None = None, trace: Trace | None = None) -> Iterator[None]:
    """Have the results that an error of the block carries tell what happened, as those of a success do."""
    try:
        yield
    except BaseException as error:
        for one in (error, error.__cause__):
            if isinstance(one, RunwideError) and hasattr(one, "results"):
                one.results = Results(one.results, job=job, trace=trace)
        raise
