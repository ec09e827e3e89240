"""Turn reports and deaths of workers into failures of items."""

from __future__ import annotations

import pickle
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide.causes import Cause
from runwide.errors import RemoteTraceback, ResultNotPicklable, ScratchError, ScratchFull
from runwide.naming import caused, text_of
from runwide.pool import resources
from runwide.pool.outbox import NO_EXCEPTION
from runwide.pool.policy import NO_CHARGES, Charges
from runwide.pool.process import UNKNOWN
from runwide.pool.scratch import for_item
from runwide.records import Failure, FailureKind

if TYPE_CHECKING:
    from runwide.errors import RunwideError
    from runwide.pool.call import Chunk, Tasks
    from runwide.pool.channel import Doing
    from runwide.pool.workers import Slot


_SCRATCH = frozenset(f"runwide.errors.{kind.__name__}" for kind in (ScratchError, ScratchFull))


class Death(NamedTuple):
    """A worker that has died.

    Args:
        exitcode: Exit status, negative for a signal, or `runwide.pool.process.UNKNOWN`.
    """

    slot: Slot
    cause: Cause
    exitcode: int


def of_entry(entry: tuple[Any, ...], index: int, charges: Charges) -> Failure:
    """Return the failure that a worker reported."""
    _, name_of_cause, name, message, text, pickled, exitcode, value = entry
    cause = Cause[name_of_cause]
    if cause.value.error and name not in _SCRATCH:
        raised: BaseException = cause.error(item=index, reason=f"{name}: {message}")
        if isinstance(raised, ResultNotPicklable):
            raised.value = value
            caused(raised, _with_traceback(_loaded(pickled), index, text))
    elif name == "SystemExit":
        facts = {"exitcode": exitcode, "attempts": charges.starts}
        raised = _error(Cause.SYSTEM_EXIT, item=index, facts=facts, status=message)
    else:
        raised = _portable(pickled, name, message, index)
    return _failure(raised, cause.kind, index, charges, text)


def is_of_scratch(entry: tuple[Any, ...]) -> bool:
    """Return whether a worker reported that it could not read a payload file."""
    return entry[2] in _SCRATCH


def of_result(error: BaseException, index: int, charges: Charges) -> Failure:
    """Return the failure of a result that arrived, but could not be loaded here."""
    raised = Cause.RESULT_NOT_LOADABLE.error(item=index, reason=_reason(error))
    return _failure(caused(raised, error), FailureKind.PICKLING, index, charges, "")


def of_scratch(error: ScratchError, index: int, charges: Charges) -> Failure:
    """Return the failure of a task whose result could not be read from scratch. Other tasks may share the file."""
    return _failure(for_item(error, index), FailureKind.PICKLING, index, charges, "")


def of_pickling(raised: RunwideError, index: int) -> Failure:
    """Return the failure of a task whose item or result this process could not pickle, or not write."""
    return _failure(raised, FailureKind.PICKLING, index, NO_CHARGES.started(), "")


def of_death(death: Death, index: int, charges: Charges, *, timeout: float | None) -> Failure:
    """Return the failure of a task whose worker died too often."""
    slot, cause, exitcode = death
    stderr = slot.last_words()
    ended = cause.value.ended if cause is Cause.LINE_LOST else describe(exitcode)
    attempts = "1 attempt" if charges.starts == 1 else f"{charges.starts} attempts"
    peak = f" at {slot.peak_rss / 1e6:,.0f} MB" if slot.peak_rss else ""
    facts: dict[str, Any] = {
        "exitcode": known(exitcode),
        "attempts": charges.starts,
        "peak_rss": slot.peak_rss or None,
        "stderr": stderr,
    }
    raised = _error(
        cause,
        item=index,
        facts={} if cause is Cause.TIMEOUT else facts,
        ended=ended,
        attempts=attempts,
        peak=peak,
        timeout=timeout,
    )
    return _failure(raised, cause.kind, index, charges, stderr)


def of_start(exitcode: int, last_words: str) -> BaseException:
    """Return the error of all calls if no worker comes up."""
    facts = {"exitcode": known(exitcode), "stderr": last_words}
    return _error(Cause.START, facts=facts, ended=describe(exitcode))


def of_no_start(error: Exception) -> BaseException:
    """Return the error of all calls if no process can be started."""
    return caused(_error(Cause.NO_PROCESS, reason=text_of(error)), error)


def of_internal(error: BaseException) -> BaseException:
    """Return the error of a call that an error inside the pool has ended."""
    return caused(_error(Cause.POOL_ERROR, reason=_reason(error)), error)


def of_initializer(entry: tuple[Any, ...]) -> BaseException:
    """Return the error of all calls if the initializer has failed."""
    failure = of_entry(entry, 0, NO_CHARGES)
    error = _error(Cause.INITIALIZER, reason=f"{failure.type}: {failure.message}")
    return caused(error, failure.exception)


def _error(cause: Cause, **words: Any) -> RunwideError:
    """Return the error of a cause, also if no descriptor is free to load its class."""
    resources.import_modules("runwide.deaths")
    return cause.error(**words)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def known(exitcode: int) -> int | None:
    """Return an exit status, or None if it is unknown.

    Example:
        >>> known(3), known(UNKNOWN)
        (3, None)
    """
    return None if exitcode == UNKNOWN else exitcode


def describe(exitcode: int) -> str:
    """Return the meaning of an exit status, in words.

    Example:
        >>> describe(-11), describe(3)
        ('was killed by SIGSEGV', 'exited with status 3')
    """
    if exitcode == UNKNOWN:
        return "ended with an unknown status, since this program ignores SIGCHLD or waits for it elsewhere,"
    if exitcode >= 0:
        return f"exited with status {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


def _failure(raised: BaseException, kind: FailureKind, index: int, charges: Charges, text: str) -> Failure:
    try:
        return _record(raised, kind, index, charges, text)
    except BaseException:  # an exception may be of a class whose own code fails
        name, message = type(raised).__qualname__, text_of(raised)
        return _record(_portable(None, name, message, index), kind, index, charges, text)


def _record(raised: BaseException, kind: FailureKind, index: int, charges: Charges, text: str) -> Failure:
    _with_traceback(raised, index, text)
    name = type(raised).__qualname__
    message = getattr(raised, "message", None) or str(raised)
    return Failure(index, kind, name, message, text, charges.starts, raised)


def _with_traceback(raised: BaseException | None, index: int, text: str) -> BaseException | None:
    """Add the traceback that an exception had in its worker."""
    if raised is not None and text and raised.__cause__ is None:
        caused(raised, RemoteTraceback("in a worker", item=index, traceback=text))
    return raised


def _portable(pickled: bytes | None, name: str, message: str, index: int) -> BaseException:
    """Return the task's own exception, or one of ours with its text if it did not arrive."""
    reason = f"{name}: {message}" if message else name
    if pickled == NO_EXCEPTION:
        return Cause.NOT_PASSED_ON.error(item=index, reason=reason)
    raised = _loaded(pickled)
    if isinstance(raised, ScratchError) and raised.item is None:
        raised.item = index
    if raised is not None:
        return raised
    return Cause.EXCEPTION_NOT_PORTABLE.error(item=index, reason=reason)


def _loaded(pickled: bytes | None) -> BaseException | None:
    """Return the exception that a worker has sent; None if there is none, or if it cannot be loaded."""
    if not pickled:
        return None
    try:
        raised = pickle.loads(pickled)  # noqa: TID251 - of a worker of this pool
    except BaseException:  # the code of the user's classes runs here
        return None
    return raised if isinstance(raised, BaseException) else None


class Remains(NamedTuple):
    """The tasks of a dead worker's chunk that have no result.

    Args:
        uncharged: Tasks that had not begun, or that had ended and whose results had not arrived, in order of index.
        guilty: The task that ran when the worker died, if that is known.
    """

    uncharged: tuple[Tasks, ...] = ()
    guilty: Tasks | None = None


def split(chunk: Chunk, doing: Doing | None) -> Remains:
    """Separate the task that killed a worker from the other tasks of its chunk.

    Args:
        chunk: The chunk; its first ``ended`` results have arrived.
        doing: The worker's work on this chunk; None if it worked on another one.
    """
    tasks, ended, size = chunk.tasks, chunk.ended, len(chunk)
    if doing is None or doing.position is None or doing.position < ended:
        return Remains(_not_empty(tasks.part(ended)))
    position, stop = doing.position, min(doing.position + doing.tasks, size)
    before, after = tasks.part(ended, position), tasks.part(stop)
    if doing.tasks == 1:
        return Remains(_not_empty(before, after), tasks.part(position, stop))
    # The worker ran several tasks in one go, and one of them killed it: they run again one by one.
    among = tasks.part(position, stop)
    among.fine = True
    return Remains(_not_empty(before, among, after))


def _not_empty(*parts: Tasks) -> tuple[Tasks, ...]:
    return tuple(part for part in parts if part.items)


def salvage(chunk: Chunk, doing: Doing | None, death: Death) -> None:
    """Give the rest of a dead worker's chunk back to its call. The arguments mean the same as in `split`."""
    remains = split(chunk, doing)
    chunk.call.again.extendleft(reversed(remains.uncharged))
    if remains.guilty is not None:
        _charge(chunk, remains.guilty, death)


def _charge(chunk: Chunk, task: Tasks, death: Death) -> None:
    cause = death.cause
    call, charges = chunk.call, task.charges.started().crashed()
    reporter = call.lease.reporter
    tried_again = cause is not Cause.TIMEOUT and call.budget.allows(charges)
    if reporter is not None:
        end = cause.kind, f"the worker {cause.value.ended}", tried_again
        reporter.died(death.slot, chunk, task.first, charges=charges, end=end)
    if tried_again:
        task.charges = charges
        task.alone = cause is Cause.OUT_OF_MEMORY
        call.again.append(task)
        return
    call.sink.failure(of_death(death, task.first, charges, timeout=call.budget.timeout))
