"""The ends of workers and of pools among the exceptions of `runwide.errors`, which loads them on first use."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from runwide.errors import Partial, TaskError


class WorkerDied(TaskError, BrokenProcessPool):
    """The process that ran the task is gone; the pool, and every other task, goes on.

    Args:
        exitcode: Exit status of the process, negative for a signal, as in ``subprocess``.
        attempts: How often the task was started.
        peak_rss: Peak resident memory of the dead process, in bytes, where it could be read.
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
    """The kernel's OOM killer took the process that ran the task."""


class PoolBroken(Partial, BrokenProcessPool):
    """An error inside the pool, which is its ``__cause__``, has ended the pool and every call that was under way."""


for _one in (WorkerDied, WorkerOutOfMemory, PoolBroken):
    _one.__module__ = "runwide.errors"  # where everybody finds them, unpickling included
