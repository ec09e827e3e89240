"""The exceptions for deaths of workers and pools; `runwide.errors` loads them on first use."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from runwide.errors import Partial, TaskError


class WorkerDied(TaskError, BrokenProcessPool):
    """The process that ran the task has died; the pool and all other tasks go on.

    Args:
        exitcode: Exit status of the process, negative for a signal, as in ``subprocess``.
        attempts: Number of times that the task was started.
        peak_rss: Peak resident memory of the dead process, in bytes; None if it could not be read.
        stderr: Last lines that the process wrote to its standard error.
    """

    def __init__(
        self,
        message: str,
        *,
        item: int | None = None,
        uri: str | None = None,
        hint: str | None = None,
        exitcode: int | None = None,
        attempts: int = 1,
        peak_rss: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message, item=item, uri=uri, hint=hint)
        self.exitcode = exitcode
        self.attempts = attempts
        self.peak_rss = peak_rss
        self.stderr = stderr


class WorkerOutOfMemory(WorkerDied, MemoryError):
    """The kernel's OOM killer ended the process that ran the task."""


class PoolBroken(Partial, BrokenProcessPool):
    """An error inside the pool, its ``__cause__``, has ended the pool and all running calls."""


for _one in (WorkerDied, WorkerOutOfMemory, PoolBroken):
    _one.__module__ = "runwide.errors"  # the public place, also for unpickling
