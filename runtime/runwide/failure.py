"""What is known of a task that failed for good."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runwide.records import FailureKind


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of one task that failed for good.

    Args:
        index: Index of the item in the input of the whole map, from 0.
        kind: Why.
        type: Qualified name of the exception's type.
        message: The exception's text, one line.
        traceback: The remote traceback as text, empty where there is none (a crash has none).
        attempts: How often the task was started.
        exception: The exception itself, where it could cross processes.
    """

    index: int
    kind: FailureKind
    type: str
    message: str
    traceback: str = field(default="", repr=False)
    attempts: int = 1
    exception: BaseException | None = field(default=None, compare=False, repr=False)

    def but(self, **changes: Any) -> Failure:
        """The same with other values of some fields.

        Example:
            >>> from runwide.records import FailureKind
            >>> Failure(0, FailureKind.CRASH, "WorkerDied", "killed").but(index=7).index
            7
        """
        return replace(self, **changes)

    def __str__(self) -> str:
        return f"item {self.index}: {self.type}: {self.message}"
