"""From what came back of a task to the record and the exception that its caller sees."""

from __future__ import annotations

import pickle
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import errors
from runwide.errors import (
    ExceptionNotPortable,
    FunctionNotLoadable,
    ItemNotLoadable,
    RemoteTraceback,
    ResultNotLoadable,
    ResultNotPicklable,
    ScratchError,
    ScratchFull,
    TaskTimeout,
)
from runwide.naming import caused, text_of
from runwide.pool import reserve
from runwide.pool.child import UNKNOWN
from runwide.pool.failed import NO_EXCEPTION
from runwide.pool.policy import NO_CHARGES, Cause, Charges
from runwide.pool.scratch import for_item
from runwide.records import Failure, FailureKind

if TYPE_CHECKING:
    from runwide.errors import RunwideError, TaskError

_KINDS = {
    Cause.EXIT: FailureKind.CRASH,
    Cause.SIGNAL: FailureKind.CRASH,
    Cause.OUT_OF_MEMORY: FailureKind.OUT_OF_MEMORY,
    Cause.LINE_LOST: FailureKind.CRASH,
    Cause.TIMEOUT: FailureKind.TIMEOUT,
    Cause.UNKNOWN: FailureKind.CRASH,
}


_DEATHS = "runwide.deaths"
_SCRATCH = frozenset(f"runwide.errors.{kind.__name__}" for kind in (ScratchError, ScratchFull))


def kind_of(cause: Cause) -> FailureKind:
    """How a death is classified for the caller.

    Example:
        >>> kind_of(Cause.SIGNAL).value
        'crash'
    """
    return _KINDS[cause]


def of_entry(entry: tuple[Any, ...], index: int, charges: Charges) -> Failure:
    """The failure that a worker reported."""
    _, kind, what, name, message, text, pickled, exitcode, value = entry
    if what and name not in _SCRATCH:
        raised: BaseException = _pickling(what, f"{name}: {message}", index)
        if isinstance(raised, ResultNotPicklable):
            raised.value = value
            caused(raised, _of_worker(_loaded(pickled), index, text))
    elif name == "SystemExit":
        raised = errors.WorkerDied(
            f"the task called sys.exit({message})",
            item=index,
            exitcode=exitcode,
            attempts=charges.starts,
            hint="return a value or raise an exception instead",
        )
    else:
        raised = _portable(pickled, name, message, index)
    return _failure(raised, FailureKind(kind), index, charges, text)


def is_of_scratch(entry: tuple[Any, ...]) -> bool:
    """Whether a worker reports that a payload file could not be read."""
    return entry[3] in _SCRATCH


def of_result(error: BaseException, index: int, charges: Charges) -> Failure:
    """The failure of a result that arrived but could not be loaded here."""
    raised = ResultNotLoadable(
        f"the result cannot be unpickled here: {type(error).__name__}: {text_of(error)}",
        item=index,
        hint="return something that this program can unpickle",
    )
    return _failure(caused(raised, error), FailureKind.PICKLING, index, charges, "")


def of_scratch(error: ScratchError, index: int, charges: Charges) -> Failure:
    """The failure of a task whose result could not be read from scratch, with others' perhaps."""
    return _failure(for_item(error, index), FailureKind.PICKLING, index, charges, "")


def of_pickling(raised: RunwideError, index: int) -> Failure:
    """The failure of a task whose item or result this process could not pickle, or not write."""
    return _failure(raised, FailureKind.PICKLING, index, NO_CHARGES.started(), "")


class Death(NamedTuple):
    """What is known of a worker's death.

    Args:
        cause: Why.
        exitcode: Exit status, negative for a signal, or `runwide.pool.child.UNKNOWN`.
        peak_rss: Highest resident memory that was seen, in bytes; 0 if none was.
        last_words: Last lines that it wrote to standard error.
    """

    cause: Cause
    exitcode: int
    peak_rss: int = 0
    last_words: str = ""


def of_death(death: Death, index: int, charges: Charges, *, timeout: float | None) -> Failure:
    """The failure of a task whose worker died once too often."""
    reserve.load(_DEATHS)
    raised: TaskError
    if death.cause is Cause.TIMEOUT:
        message = f"the task ran longer than {timeout} s and was stopped"
        raised = TaskTimeout(message, item=index, hint="raise timeout=")
    elif death.cause is Cause.OUT_OF_MEMORY:
        message = f"the worker was killed for lack of memory{_peak(death)} ({_times(charges)})"
        raised = errors.WorkerOutOfMemory(
            message, item=index, hint="use fewer workers or more memory", **_facts(death, charges)
        )
    else:
        what = death.cause.value if death.cause is Cause.LINE_LOST else describe(death.exitcode)
        message = f"the worker {what} while it ran this task ({_times(charges)})"
        raised = errors.WorkerDied(
            message, item=index, hint="run this item alone to see why", **_facts(death, charges)
        )
    return _failure(raised, _KINDS[death.cause], index, charges, death.last_words)


def of_start(exitcode: int, last_words: str) -> BaseException:
    """The error of all calls where no worker comes up."""
    reserve.load(_DEATHS)
    message = f"no worker starts: the last one {describe(exitcode)}"
    return errors.WorkerDied(message, exitcode=known(exitcode), stderr=last_words, hint="see its .stderr")


def of_no_start(error: Exception) -> BaseException:
    """The error of all calls where no process can be started."""
    reserve.load(_DEATHS)
    raised = errors.WorkerDied(
        f"no worker can be started: {text_of(error)}",
        hint="free processes, memory or descriptors, then call again",
    )
    return caused(raised, error)


def of_internal(error: BaseException) -> BaseException:
    """The error of a call which an error inside the pool has ended."""
    reserve.load(_DEATHS)
    raised = errors.PoolBroken(
        f"an error inside the pool has ended it: {type(error).__name__}: {text_of(error)}",
        hint="what had finished is in .results of this error; make a new pool, and report its cause",
    )
    return caused(raised, error)


def of_initializer(entry: tuple[Any, ...]) -> BaseException:
    """The error of all calls where the initializer has failed."""
    failure = of_entry(entry, 0, NO_CHARGES)
    error = errors.WorkerDied(
        f"the initializer failed: {failure.type}: {failure.message}", hint="mend the initializer"
    )
    return caused(error, failure.exception)


def _facts(death: Death, charges: Charges) -> dict[str, Any]:
    return {
        "exitcode": known(death.exitcode),
        "attempts": charges.starts,
        "peak_rss": death.peak_rss or None,
        "stderr": death.last_words,
    }


def _times(charges: Charges) -> str:
    return "1 attempt" if charges.starts == 1 else f"{charges.starts} attempts"


def _peak(death: Death) -> str:
    return f" at {death.peak_rss / 1e6:,.0f} MB" if death.peak_rss else ""


def known(exitcode: int) -> int | None:
    """An exit status, or None where there is none to be had.

    Example:
        >>> known(3), known(UNKNOWN)
        (3, None)
    """
    return None if exitcode == UNKNOWN else exitcode


def describe(exitcode: int) -> str:
    """What an exit status says, in words.

    Example:
        >>> describe(-11), describe(3)
        ('was killed by SIGSEGV', 'exited with status 3')
    """
    if exitcode == UNKNOWN:
        return "ended with a status that is unknown, since this program ignores SIGCHLD or waits for it elsewhere,"
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

    _of_worker(raised, index, text)
    name = type(raised).__qualname__
    message = getattr(raised, "message", None) or str(raised)
    return Failure(index, kind, name, message, text, charges.starts, raised)


def _of_worker(raised: BaseException | None, index: int, text: str) -> BaseException | None:
    """Add the traceback that an exception had in its worker."""
    if raised is not None and text and raised.__cause__ is None:
        caused(raised, RemoteTraceback("in a worker", item=index, traceback=text))
    return raised


def _pickling(what: str, message: str, index: int) -> BaseException:
    if what == "function":
        return FunctionNotLoadable(
            f"the function cannot be unpickled in the worker: {message}",
            item=index,
            hint="make what it needs importable there",
        )
    if what == "item":
        return ItemNotLoadable(
            f"the item cannot be unpickled in the worker: {message}",
            item=index,
            hint="make it importable there, or pass plain data",
        )
    return ResultNotPicklable(
        f"the result cannot be pickled: {message}",
        item=index,
        hint="return plain data, arrays or importable types",
    )


def _portable(pickled: bytes | None, name: str, message: str, index: int) -> BaseException:
    if pickled == NO_EXCEPTION:
        hint = "it is not passed on, since it would end this program; raise an Exception instead"
        return ExceptionNotPortable(f"the task raised {_told(name, message)}", item=index, hint=hint)
    raised = _loaded(pickled)
    if isinstance(raised, ScratchError) and raised.item is None:
        raised.item = index
    if raised is not None:
        return raised
    return ExceptionNotPortable(
        _told(name, message),
        item=index,
        hint="its type cannot be pickled; give it a __reduce__ to receive it as it is",
    )


def _loaded(pickled: bytes | None) -> BaseException | None:
    """Return the exception that came across; None where none did."""
    if not pickled:
        return None
    try:
        raised = pickle.loads(pickled)  # noqa: TID251 - of a worker of this pool
    except BaseException:  # the code of the user's classes runs here
        return None
    return raised if isinstance(raised, BaseException) else None


def _told(name: str, message: str) -> str:
    return f"{name}: {message}" if message else name
