"""The exceptions of runwide, in one tree.

::

    RunwideError                     what went wrong, where (item or URI), what to do next
    ├── InputError                   ValueError: the call cannot be right
    │   ├── NoItems                  there is nothing to map over
    │   ├── FunctionNotPicklable     PicklingError
    │   ├── ItemNotPicklable         PicklingError
    │   ├── FunctionChanged          the job of that name has results of another function
    │   ├── WrongType                TypeError: an argument is of another type
    │   ├── BadReference             a job, shard or store URI is malformed
    │   └── ShardOutOfRange          IndexError
    ├── TaskError                    one task failed for a reason that is not its own exception
    │   ├── WorkerDied               BrokenProcessPool: the process that ran it is gone
    │   │   └── WorkerOutOfMemory    MemoryError: the kernel's OOM killer took it
    │   ├── TaskTimeout              TimeoutError
    │   ├── FunctionNotLoadable      UnpicklingError, in the worker
    │   ├── ItemNotLoadable          UnpicklingError, in the worker
    │   ├── ResultNotPicklable       PicklingError, in the worker
    │   ├── ResultNotLoadable        UnpicklingError, in the caller
    │   ├── ExceptionNotPortable     the task's own exception could not cross processes
    │   └── StopIterationRaised      RuntimeError: a StopIteration, which would end what iterates over results
    ├── RemoteTraceback              the cause of a task's exception: index, worker, remote traceback
    ├── Partial                      has what a map had brought until then
    │   ├── TasksFailed              the summary of all failed tasks of one map
    │   │   └── TooManyFailures      max_failures= was passed; the rest was not run
    │   └── PoolBroken               BrokenProcessPool: an error inside the pool has ended it
    ├── Preempted                    SystemExit: SIGTERM came; the exit status is 143
    ├── PoolClosed                   RuntimeError and ValueError, as the two standard pools raise
    ├── SystemNotSupported           NotImplementedError: tasks do not run on Windows
    ├── ScratchError                 OSError: a payload between two processes could not be written or read
    │   └── ScratchFull              there is no room for it
    ├── StoreError                   OSError
    │   ├── StoreNotFound            FileNotFoundError
    │   ├── StoreNotWritable         PermissionError
    │   ├── StoreNotReadable         PermissionError
    │   ├── StoreUnavailable         ConnectionError: gave up after retries
    │   ├── ObjectNotFound           FileNotFoundError
    │   └── ObjectExists             FileExistsError: somebody else's bytes are there
    ├── IntegrityError               ValueError: bytes are not those that were promised
    │   ├── DigestMismatch
    │   └── FrameCorrupt
    ├── JobError                     RuntimeError
    │   ├── FormatTooNew
    │   ├── EnvironmentMismatch
    │   ├── JobIncomplete            shards are missing
    │   └── ReductionFailed          the function of reduce= raised an exception, or its worker died
    ├── ExchangeTimeout              TimeoutError: a value was not published in time
    └── EngineError                  RuntimeError: what runs the pipelines refused or failed
        ├── StepFailed               one step of a run ended with an error; has the end of its log
        └── RunsFailed               runs of a batch did not succeed; has the batch

Every one inherits the builtin that a caller would expect, pickles, and reads as one line.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.deaths import PoolBroken as PoolBroken  # noqa: PLC0414 - so that it is known to be passed on
    from runwide.deaths import WorkerDied as WorkerDied  # noqa: PLC0414 - likewise
    from runwide.deaths import WorkerOutOfMemory as WorkerOutOfMemory  # noqa: PLC0414 - likewise
    from runwide.records import Failure


def __getattr__(name: str) -> Any:
    """Load the ends of workers and pools on first use: what they inherit brings half of multiprocessing along."""
    if name not in ("PoolBroken", "WorkerDied", "WorkerOutOfMemory"):
        raise AttributeError(f"module 'runwide.errors' has no attribute {name!r}")
    from runwide import deaths

    return getattr(deaths, name)


class RunwideError(Exception):
    """Base of all errors of runwide.

    Args:
        message: What went wrong, without full stop.
        item: Index of the item concerned, counted from 0 in the input of the whole map.
        uri: URI or path of the object concerned.
        hint: What to do next, as an imperative sentence.

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
        """What went wrong, alone."""
        return str(self.args[0])

    def __str__(self) -> str:
        where = f"item {self.item}: " if self.item is not None else ""
        uri = f" [{self.uri}]" if self.uri else ""
        between = (
            "" if self.message.endswith("\n") else "; "
        )  # what takes several lines has its hint on its own
        hint = f"{between}{self.hint}" if self.hint else ""
        return f"{where}{self.message}{uri}{hint}"


class InputError(RunwideError, ValueError):
    """The call cannot be right, whatever the machine does."""


class NoItems(InputError):
    """There is nothing to map over."""


class FunctionNotPicklable(InputError, pickle.PicklingError):
    """The function, or something that it closes over, cannot be sent to another process."""


class ItemNotPicklable(InputError, pickle.PicklingError):
    """An item cannot be sent to another process; ``item`` is its index."""


class FunctionChanged(InputError):
    """The job of that name has results of another function; ``uri`` is the job's."""


class WrongType(InputError, TypeError):
    """An argument is of another type than it may be."""


class BadReference(InputError):
    """A job, shard or store reference is malformed."""


class ShardOutOfRange(InputError, IndexError):
    """The job has no shard of that index."""


class TaskError(RunwideError):
    """A task failed for a reason that is not an exception of its own."""


class TaskTimeout(TaskError, TimeoutError):
    """The task ran longer than ``timeout=`` and its worker was stopped."""


class FunctionNotLoadable(TaskError, pickle.UnpicklingError):
    """The function arrived in the worker but could not be unpickled there."""


class ItemNotLoadable(TaskError, pickle.UnpicklingError):
    """The item arrived in the worker but could not be unpickled there."""


class ResultNotPicklable(TaskError, pickle.PicklingError):
    """The task returned something that cannot be sent back; ``value`` shows it, shortened."""

    value = ""


class ResultNotLoadable(TaskError, pickle.UnpicklingError):
    """The result came back but could not be unpickled in the caller."""


class ExceptionNotPortable(TaskError):
    """The task raised an exception that could not cross processes; its text and traceback did."""


class StopIterationRaised(TaskError, RuntimeError):
    """A task raised ``StopIteration``, or an iterable did where its iteration begins; that is the ``__cause__``.

    Iterators, futures and coroutines raise this instead: Python takes a ``StopIteration`` that comes out of them for the
    end of the results, or refuses it. `runwide.map`, which returns a list, raises the exception itself.

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
    """The ``__cause__`` of a task's exception: where it was raised.

    Args:
        traceback: The traceback as text, formatted in the worker.
    """

    def __init__(self, message: str, *, item: int | None = None, traceback: str = "", **where: Any) -> None:
        super().__init__(message, item=item, **where)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'{super().__str__()}\n"""\n{self.traceback.rstrip()}\n"""'


class Partial(RunwideError):
    """Base of the errors that have what a map had brought until then.

    Args:
        failures: One record per failed item.
        results: Results by index, the `Failure` itself where an item had failed; None where it had not ended.
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
    """The summary of a map in which tasks failed: every failure, and every result that there is.

    Args:
        failures: One record per failed item, by index.
        results: The results in input order, with the `Failure` itself in the place of a failed item.

    Example:
        >>> try:
        ...     runwide.map(lambda x: 1 / x, [1, 0, 2])
        ... except ZeroDivisionError as error:
        ...     [failure.index for failure in error.__cause__.failures]
        [1]
    """


class TooManyFailures(TasksFailed):
    """More items failed than ``max_failures`` allows; ``results`` has None for those that had not ended."""


class Preempted(RunwideError, SystemExit):
    """The process was asked to leave by SIGTERM; what had finished is kept. Uncaught, it exits with status 143.

    Of a map that keeps nothing in a store, ``results`` are those that there are, with None for items that had not ended.
    """

    code = 143  # 128 + SIGTERM, as a shell has it
    results: Sequence[Any] = ()


class PoolClosed(RunwideError, RuntimeError, ValueError):
    """The pool was closed before this call."""


class SystemNotSupported(RunwideError, NotImplementedError):
    """Tasks do not run on this operating system; the standard pools raise a ``NotImplementedError`` too."""


class ScratchError(RunwideError, OSError):
    """A payload between two processes could not be written or read; ``uri`` is where."""

    def __reduce__(self) -> Any:
        return type(self), self.args, {**vars(self), "errno": self.errno}  # which is no attribute of its own


class ScratchFull(ScratchError):
    """There is no room, in shared memory or on disk, for a payload between two processes."""


class StoreError(RunwideError, OSError):
    """A store did not do what was asked."""


class StoreNotFound(StoreError, FileNotFoundError):
    """The bucket or directory does not exist."""


class StoreNotWritable(StoreError, PermissionError):
    """The store exists but this process may not write there."""


class StoreNotReadable(StoreError, PermissionError):
    """The store is there but this process may not read it, or has no credentials at all."""


class StoreUnavailable(StoreError, ConnectionError):
    """The store did not answer within the retry deadline."""


class ObjectNotFound(StoreError, FileNotFoundError):
    """There is no object of that name."""


class ObjectExists(StoreError, FileExistsError):
    """An object of that name is there already, with other bytes."""


class IntegrityError(RunwideError, ValueError):
    """Bytes are not those that were promised; they were not unpickled."""


class DigestMismatch(IntegrityError):
    """The SHA-256 digest of what was read is not the one in the manifest or the reference."""


class FrameCorrupt(IntegrityError):
    """The bytes are not a frame of runwide, or a damaged one."""


class JobError(RunwideError, RuntimeError):
    """A job cannot go on as it stands."""


class FormatTooNew(JobError):
    """The job was written by a newer runwide."""


class EnvironmentMismatch(JobError):
    """This process differs from the one that made the job in a way that breaks pickles."""


class JobIncomplete(JobError):
    """Results are missing: some shard has not finished."""


class ReductionFailed(JobError):
    """The results are stored, and the function of ``reduce=`` did not fold them into one value; the cause says why."""


class ExchangeTimeout(RunwideError, TimeoutError):
    """What was waited for in an exchange was not published in time."""


class EngineError(RunwideError, RuntimeError):
    """The engine that runs the pipelines refused or failed."""


class StepFailed(EngineError):
    """One step of a pipeline run ended with an error.

    Args:
        step: Name of the step, such as ``shard 3``.
        exitcode: Exit status of its process or container.
        log: Last lines of its log.
        log_path: Path of its whole log, where that is on this machine.
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
    """Some runs of a batch did not succeed.

    Args:
        runs: All runs of the batch.
    """

    def __init__(self, message: str, *, runs: Sequence[Any] = (), **where: Any) -> None:
        super().__init__(message, **where)
        self.runs = runs
