"""The causes of failures, in one table: the kind of each, the words of its error, and the report's finding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from runwide import errors
from runwide.records import FailureKind

if TYPE_CHECKING:
    from runwide.errors import RunwideError


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence of the report about all attempts that failed for one kind of causes.

    Args:
        noun: The thing that is counted, in the singular.
        one: The rest of the sentence for one of them.
        many: The rest of the sentence for several.
        advice: A remedy, a template for `str.format`.
        is_error: Whether the finding is an error, and not only a warning.
    """

    noun: str
    one: str
    many: str
    advice: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """One row of the table.

    Args:
        kind: The kind that records of failures and events have.
        error: Name of the class in `runwide.errors`; empty if the task's own exception is the error.
        message: The error's message, a template for `str.format`.
        ended: The end of the worker in a few words, for events and log lines; empty if the worker goes on.
        finding: The sentence of the report; None if the report has none for this cause.
    """

    kind: FailureKind
    error: str = ""
    message: str = ""
    hint: str = ""
    ended: str = ""
    finding: Finding | None = None


_DIED = "the worker {ended} while it ran this task ({attempts})"
_ALONE = "run this item alone to see why"
_CRASHES = Finding(
    "worker",
    "died of a task; only that task was run again or given up.",
    "died of a task; only that task was run again or given up.",
    "Look at the item below. Usual causes are native code that crashes, and a call of `exit`.",
)
_KILLS = Finding(
    "worker",
    "was killed for lack of memory.",
    "were killed for lack of memory.",
    "Raise the memory of the component{or_fewer_workers}.",
    is_error=True,
)
_TIMEOUTS = Finding(
    "attempt",
    "ran into the timeout.",
    "ran into the timeout.",
    "Raise `timeout=` if these items need that long.",
)


class Cause(Enum):
    """The reason why a task failed, why a worker died, or why no worker runs.

    Example:
        >>> Cause.TIMEOUT.error(item=3, timeout=5)
        TaskTimeout('the task ran longer than 5 s and was stopped')
    """

    # A worker died of the task that it ran.
    EXIT = Description(FailureKind.CRASH, "WorkerDied", _DIED, _ALONE, "exited", _CRASHES)
    SIGNAL = Description(FailureKind.CRASH, "WorkerDied", _DIED, _ALONE, "was killed by a signal", _CRASHES)
    LINE_LOST = Description(
        FailureKind.CRASH,
        "WorkerDied",
        _DIED,
        _ALONE,
        "closed its connection to the pool, as by closing all files",
        _CRASHES,
    )
    UNKNOWN = Description(
        FailureKind.CRASH, "WorkerDied", _DIED, _ALONE, "ended with an unknown status", _CRASHES
    )
    OUT_OF_MEMORY = Description(
        FailureKind.OUT_OF_MEMORY,
        "WorkerOutOfMemory",
        "the worker was killed for lack of memory{peak} ({attempts})",
        "use fewer workers or more memory",
        "was killed for lack of memory",
        _KILLS,
    )
    TIMEOUT = Description(
        FailureKind.TIMEOUT,
        "TaskTimeout",
        "the task ran longer than {timeout} s and was stopped",
        "raise timeout=",
        "was stopped after the timeout",
        _TIMEOUTS,
    )

    # The task raised an exception.
    EXCEPTION = Description(FailureKind.EXCEPTION)
    SYSTEM_EXIT = Description(
        FailureKind.EXCEPTION,
        "WorkerDied",
        "the task called sys.exit({status})",
        "return a value or raise an exception instead",
    )
    NOT_PASSED_ON = Description(
        FailureKind.EXCEPTION,
        "ExceptionNotPortable",
        "the task raised {reason}",
        "it is not passed on, since it would end this program; raise an Exception instead",
    )
    EXCEPTION_NOT_PORTABLE = Description(
        FailureKind.EXCEPTION,
        "ExceptionNotPortable",
        "{reason}",
        "its type cannot be pickled; give it a __reduce__ to receive it as it is",
    )

    # A function, an item, a result or its file could not travel.
    FUNCTION_NOT_LOADABLE = Description(
        FailureKind.PICKLING,
        "FunctionNotLoadable",
        "the function cannot be unpickled in the worker: {reason}",
        "make everything that it needs importable in the worker",
    )
    ITEM_NOT_PICKLABLE = Description(
        FailureKind.PICKLING, "ItemNotPicklable", "{reason}", "pass plain data, or build it in the function"
    )
    ITEM_NOT_LOADABLE = Description(
        FailureKind.PICKLING,
        "ItemNotLoadable",
        "the item cannot be unpickled in the worker: {reason}",
        "make its type importable in the worker, or pass plain data",
    )
    RESULT_NOT_PICKLABLE = Description(
        FailureKind.PICKLING,
        "ResultNotPicklable",
        "the result cannot be pickled: {reason}",
        "return plain data, arrays or importable types",
    )
    RESULT_NOT_LOADABLE = Description(
        FailureKind.PICKLING,
        "ResultNotLoadable",
        "the result cannot be unpickled here: {reason}",
        "return something that this program can unpickle",
    )
    PAYLOAD = Description(FailureKind.PICKLING)

    # No worker runs, so all calls of the pool fail.
    START = Description(
        FailureKind.CRASH, "WorkerDied", "no worker starts: the last one {ended}", "see its .stderr"
    )
    NO_PROCESS = Description(
        FailureKind.CRASH,
        "WorkerDied",
        "no worker can be started: {reason}",
        "free processes, memory or descriptors, then call again",
    )
    INITIALIZER = Description(
        FailureKind.EXCEPTION, "WorkerDied", "the initializer failed: {reason}", "correct the initializer"
    )
    POOL_ERROR = Description(
        FailureKind.CRASH,
        "PoolBroken",
        "an error inside the pool has ended it: {reason}",
        "what had finished is in .results of this error; make a new pool, and report its cause",
    )

    @property
    def kind(self) -> FailureKind:
        """The kind that records of failures and events have."""
        return self.value.kind

    def error(
        self,
        *,
        item: int | None = None,
        hint: str | None = None,
        facts: dict[str, Any] | None = None,
        **words: object,
    ) -> RunwideError:
        """Return the error of this cause.

        Args:
            hint: A hint for this place; None for that of the table.
        """
        row = self.value
        made: RunwideError = getattr(errors, row.error)(
            row.message.format(**words), item=item, hint=hint or row.hint, **facts or {}
        )
        return made


FINDINGS = {cause.kind: cause.value.finding for cause in Cause if cause.value.finding is not None}
"""The report's sentences, by kind of failure."""
