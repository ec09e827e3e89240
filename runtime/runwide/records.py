"""The records of a map: how tasks end, and the list of their results."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from runwide.errors import RunwideError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runwide._report import Report
    from runwide.events.trace import Trace


class FailureKind(str, Enum):
    """The causes of a failure."""

    EXCEPTION = "exception"
    CRASH = "crash"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    PICKLING = "pickling"


@dataclass(frozen=True, slots=True)
class Failure:
    """The facts of a task that failed and is not tried again.

    Args:
        index: Index of the item in the input of the whole map, from 0.
        kind: Cause.
        type: Qualified name of the exception's type.
        message: The exception's text, one line.
        traceback: The remote traceback as text; empty if there is none, as for a crash.
        attempts: Number of times that the task was started.
        exception: The exception itself, if it could be sent between processes.
    """

    index: int
    kind: FailureKind
    type: str
    message: str
    traceback: str = field(default="", repr=False)
    attempts: int = 1
    exception: BaseException | None = field(default=None, compare=False, repr=False)

    def but(self, **changes: Any) -> Failure:
        """Return a copy with other values of some fields.

        Example:
            >>> Failure(0, FailureKind.CRASH, "WorkerDied", "killed").but(index=7).index
            7
        """
        return replace(self, **changes)

    def __str__(self) -> str:
        return f"item {self.index}: {self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one task: its value or its failure.

    Args:
        index: Index of the item, from 0.
        value: Return value of the function; without meaning if ``failure`` is set.
        failure: Set if the task failed.
    """

    index: int
    value: Any = None
    failure: Failure | None = None


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
