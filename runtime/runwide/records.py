"""The records of tasks: how a task ends, and why it failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any


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
