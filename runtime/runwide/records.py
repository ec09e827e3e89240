"""Frozen records that cross module boundaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class FailureKind(str, Enum):
    """Why a task failed."""

    EXCEPTION = "exception"
    CRASH = "crash"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    PICKLING = "pickling"


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

    def __str__(self) -> str:
        return f"item {self.index}: {self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one task: its value or its failure.

    Args:
        index: Index of the item, from 0.
        value: What the function returned; meaningless when ``failure`` is set.
        failure: Set when the task failed for good.
    """

    index: int
    value: Any = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One attempt at a task, from the queue to its end.

    All its phases are in one record: when it was queued, started and ended, and what became of it. ``kind`` tells an
    exception from a worker that was killed.

    Args:
        name: ``task.ended`` with a value, ``task.failed`` for good, or ``task.retried``: it failed, another one follows.
        time: When it ended, Unix time in seconds.
        index: Index of the item, from 0.
        worker: Number of the worker slot, from 0.
        pid: Process id of the worker.
        attempt: 1 for the first one.
        seconds: Its wall time.
        peak_rss: Highest resident memory of the worker until then in bytes, 0 where unknown.
        detail: One line of cause, where it failed.
        queued: When it was sent to the worker, Unix time in seconds.
        started: When it started, Unix time in seconds.
        cpu_seconds: What the worker's process spent in the meantime, its threads included, its children not; 0 for one
            whose worker died.
        cpu: The CPU that the worker was on when it sent the result; None where unknown.
        bytes: What its result took on the way from the worker, 0 for a number or a short text.
        kind: Why it failed; None where it did not.
    """

    name: str
    time: float
    index: int
    worker: int
    pid: int
    attempt: int = 1
    seconds: float = 0.0
    peak_rss: int = 0
    detail: str = ""
    queued: float = 0.0
    started: float = 0.0
    cpu_seconds: float = 0.0
    cpu: int | None = None
    bytes: int = 0
    kind: FailureKind | None = None
