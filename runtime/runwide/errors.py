"""The exceptions of runwide, in one tree.

::

    RunwideError                     has a message, an item or URI, and a hint what to do next
    ├── InputError                   ValueError: the call is invalid
    │   ├── NoItems                  there are no items
    │   ├── FunctionNotPicklable     PicklingError
    │   ├── ItemNotPicklable         PicklingError
    │   ├── FunctionChanged          the job of that name has results of another function
    │   ├── WrongType                TypeError: an argument has the wrong type
    │   ├── BadReference             a job, shard or store URI is malformed
    │   └── ShardOutOfRange          IndexError
    ├── TaskError                    a task failed, but not by an exception of its own
    │   ├── WorkerDied               BrokenProcessPool: the process that ran the task died
    │   │   └── WorkerOutOfMemory    MemoryError: the kernel's OOM killer killed it
    │   ├── TaskTimeout              TimeoutError
    │   ├── FunctionNotLoadable      UnpicklingError, in the worker
    │   ├── ItemNotLoadable          UnpicklingError, in the worker
    │   ├── ResultNotPicklable       PicklingError, in the worker
    │   ├── ResultNotLoadable        UnpicklingError, in the caller
    │   ├── ExceptionNotPortable     the task's exception could not be sent to the caller
    │   └── StopIterationRaised      RuntimeError: a StopIteration, which would end the iteration over results
    ├── RemoteTraceback              the cause of a task's exception: index, worker, remote traceback
    ├── Partial                      has the results and failures until then
    │   ├── TasksFailed              the summary of all failed tasks of one map
    │   │   └── TooManyFailures      more than max_failures=; the other tasks were not run
    │   └── PoolBroken               BrokenProcessPool: an internal error ended the pool
    ├── Preempted                    SystemExit: SIGTERM came; the exit status is 143
    ├── PoolClosed                   RuntimeError and ValueError, like the errors of the two standard pools
    ├── SystemNotSupported           NotImplementedError: tasks do not run on Windows
    ├── ScratchError                 OSError: a payload between two processes could not be written or read
    │   └── ScratchFull              there is no space for it
    ├── StoreError                   OSError
    │   ├── StoreNotFound            FileNotFoundError
    │   ├── StoreNotWritable         PermissionError
    │   ├── StoreNotReadable         PermissionError
    │   ├── StoreUnavailable         ConnectionError: no answer after retries
    │   ├── ObjectNotFound           FileNotFoundError
    │   └── ObjectExists             FileExistsError: an object with other bytes exists
    ├── IntegrityError               ValueError: bytes differ from those that were written
    │   ├── DigestMismatch
    │   └── FrameCorrupt
    ├── JobError                     RuntimeError
    │   ├── FormatTooNew
    │   ├── EnvironmentMismatch
    │   ├── JobIncomplete            shards are missing
    │   └── ReductionFailed          the function of reduce= raised an exception, or its worker died
    ├── ExchangeTimeout              TimeoutError: a value was not published in time
    └── EngineError                  RuntimeError: the engine of a pipeline refused or failed
        ├── StepFailed               a step of a run failed; has the end of its log
        └── RunsFailed               runs of a batch failed; has the batch

Each error inherits the builtin that a caller would expect, can be pickled, and is shown as one line.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.deaths import PoolBroken as PoolBroken  # noqa: PLC0414 - a re-export
    from runwide.deaths import WorkerDied as WorkerDied  # noqa: PLC0414 - a re-export
    from runwide.deaths import WorkerOutOfMemory as WorkerOutOfMemory  # noqa: PLC0414 - a re-export
    from runwide.records import Failure


def __getattr__(name: str) -> Any:
    """Load the deaths of workers and pools on first use: their bases load much of multiprocessing."""
    if name not in ("PoolBroken", "WorkerDied", "WorkerOutOfMemory"):
        raise AttributeError(f"module 'runwide.errors' has no attribute {name!r}")
    from runwide import deaths

    return getattr(deaths, name)


class RunwideError(Exception):
    """Base of all errors of runwide.

    Args:
        message: The problem, without full stop.
        item: Index of the item, from 0 in the input of the whole map.
        uri: URI or path of the object.
        hint: The next step, as an imperative sentence.

    Example:
        >>> str(RunwideError("the store cannot be written", uri="file:///x", hint="choose another store"))
        'the store cannot be written [file:///x]; choose another store'
    """

    def __init__(
        self, message: str, *, item: int | None = None, uri: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.item = item
        self.uri = uri
        self.hint = hint

    @property
    def message(self) -> str:
        """The problem, without item, URI and hint."""
        return str(self.args[0])

    def __str__(self) -> str:
        where = f"item {self.item}: " if self.item is not None else ""
        uri = f" [{self.uri}]" if self.uri else ""
        # the hint of a message of several lines is a line of its own
        between = "" if self.message.endswith("\n") else "; "
        hint = f"{between}{self.hint}" if self.hint else ""
        return f"{where}{self.message}{uri}{hint}"


class InputError(RunwideError, ValueError):
    """The call is invalid on any machine."""


class NoItems(InputError):
    """There are no items."""


class FunctionNotPicklable(InputError, pickle.PicklingError):
    """The function, or an object in its closure, cannot be sent to another process."""


class ItemNotPicklable(InputError, pickle.PicklingError):
    """An item cannot be sent to another process; ``item`` is its index."""


class FunctionChanged(InputError):
    """The job of that name has results of another function; ``uri`` is that of the job."""


class WrongType(InputError, TypeError):
    """An argument has the wrong type."""


class BadReference(InputError):
    """A job, shard or store reference is malformed."""


class ShardOutOfRange(InputError, IndexError):
    """The job has no shard with that index."""


class TaskError(RunwideError):
    """A task failed, but not by an exception of its own."""


class TaskTimeout(TaskError, TimeoutError):
    """The task ran longer than ``timeout=``, and its worker was stopped."""


class FunctionNotLoadable(TaskError, pickle.UnpicklingError):
    """The worker could not unpickle the function."""


class ItemNotLoadable(TaskError, pickle.UnpicklingError):
    """The worker could not unpickle the item."""


class ResultNotPicklable(TaskError, pickle.PicklingError):
    """The task returned an object that cannot be sent back; ``value`` shows it, shortened."""

    value = ""


class ResultNotLoadable(TaskError, pickle.UnpicklingError):
    """The caller could not unpickle the result."""


class ExceptionNotPortable(TaskError):
    """The task raised an exception that could not be sent back; its text and traceback are here."""


class StopIterationRaised(TaskError, RuntimeError):
    """A task raised ``StopIteration``, or an iterable did when its iteration began; that exception is the ``__cause__``.

    Iterators, futures and coroutines raise this error instead, since Python would treat a ``StopIteration`` from them as the
    end of the results, or reject it. `runwide.map`, which returns a list, raises the exception itself.

    Example:
        >>> def first(items):
        ...     return next(iter(items))
        >>> try:
        ...     list(runwide.imap(first, [[1], []], workers=1))
        ... except StopIterationRaised as error:
        ...     print(error.item, repr(error.__cause__))
        1 StopIteration()
    """


class RemoteTraceback(RunwideError):
    """The ``__cause__`` of a task's exception, with its traceback in the worker.

    Args:
        traceback: The traceback as text, formatted in the worker.
    """

    def __init__(self, message: str, *, item: int | None = None, traceback: str = "", **where: Any) -> None:
        super().__init__(message, item=item, **where)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'{super().__str__()}\n"""\n{self.traceback.rstrip()}\n"""'


class Partial(RunwideError):
    """Base of the errors that have the results and failures of a map until then.

    Args:
        failures: One record per failed item.
        results: Results by index; for a failed item its `Failure`, for an item that had not ended None.
    """

    def __init__(
        self,
        message: str,
        *,
        failures: Sequence[Failure] = (),
        results: Sequence[Any] = (),
        **where: Any,
    ) -> None:
        super().__init__(message, **where)
        self.failures = tuple(failures)
        self.results = list(results)


class TasksFailed(Partial):
    """The summary of a map in which tasks failed, with every failure and every result.

    Args:
        failures: One record per failed item, by index.
        results: The results in input order; for a failed item its `Failure`.

    Example:
        >>> try:
        ...     runwide.map(lambda x: 1 / x, [1, 0, 2])
        ... except ZeroDivisionError as error:
        ...     [failure.index for failure in error.__cause__.failures]
        [1]
    """


class TooManyFailures(TasksFailed):
    """More items failed than ``max_failures`` allows; ``results`` has None for items that had not ended."""


class Preempted(RunwideError, SystemExit):
    """SIGTERM asked the process to end; finished results are kept. If it is not caught, the process exits with status 143.

    For a map without a store, ``results`` has the finished results, and None for items that had not ended.
    """

    code = 143  # 128 + SIGTERM, as in a shell
    results: Sequence[Any] = ()


class PoolClosed(RunwideError, RuntimeError, ValueError):
    """The pool was closed before this call."""


class SystemNotSupported(RunwideError, NotImplementedError):
    """Tasks do not run on this operating system; the standard pools raise ``NotImplementedError``, too."""


class ScratchError(RunwideError, OSError):
    """A payload between two processes could not be written or read; ``uri`` is its path."""

    def __reduce__(self) -> Any:
        return type(self), self.args, {**vars(self), "errno": self.errno}  # it is not in vars()


class ScratchFull(ScratchError):
    """There is no space in shared memory or on disk for a payload between two processes."""


class StoreError(RunwideError, OSError):
    """An operation on a store failed."""


class StoreNotFound(StoreError, FileNotFoundError):
    """The bucket or directory does not exist."""


class StoreNotWritable(StoreError, PermissionError):
    """The store exists but this process may not write there."""


class StoreNotReadable(StoreError, PermissionError):
    """The store exists but this process may not read it, or has no credentials."""


class StoreUnavailable(StoreError, ConnectionError):
    """The store did not answer before the deadline of retries."""


class ObjectNotFound(StoreError, FileNotFoundError):
    """There is no object of that name."""


class ObjectExists(StoreError, FileExistsError):
    """An object of that name exists, with other bytes."""


class IntegrityError(RunwideError, ValueError):
    """Bytes differ from those that were written; they were not unpickled."""


class DigestMismatch(IntegrityError):
    """The SHA-256 digest of the bytes differs from that in the manifest or the reference."""


class FrameCorrupt(IntegrityError):
    """The bytes are not a frame of runwide, or the frame is damaged."""


class JobError(RunwideError, RuntimeError):
    """A job cannot continue."""


class FormatTooNew(JobError):
    """The job was written by a newer runwide."""


class EnvironmentMismatch(JobError):
    """This process differs from the process that made the job in a way that breaks pickles."""


class JobIncomplete(JobError):
    """Results are missing, since shards have not finished."""


class ReductionFailed(JobError):
    """The results are stored, but the function of ``reduce=`` failed; see the ``__cause__``."""


class ExchangeTimeout(RunwideError, TimeoutError):
    """A value of an exchange was not published in time."""


class EngineError(RunwideError, RuntimeError):
    """The engine of a pipeline refused or failed."""


class StepFailed(EngineError):
    """A step of a pipeline run failed.

    Args:
        step: Name of the step, such as ``shard 3``.
        exitcode: Exit status of its process or container.
        log: Last lines of its log.
        log_path: Path of its whole log, if it is on this machine.
    """

    def __init__(
        self,
        message: str,
        *,
        step: str = "",
        exitcode: int | None = None,
        log: str = "",
        log_path: str | None = None,
        **where: Any,
    ) -> None:
        super().__init__(message, **where)
        self.step = step
        self.exitcode = exitcode
        self.log = log
        self.log_path = log_path


class RunsFailed(EngineError):
    """Runs of a batch failed.

    Args:
        runs: All runs of the batch.
    """

    def __init__(self, message: str, *, runs: Sequence[Any] = (), **where: Any) -> None:
        super().__init__(message, **where)
        self.runs = runs
