"""The exception that a failed task raises in its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runwide import naming
from runwide.errors import ResultNotPicklable, StopIterationRaised, TasksFailed
from runwide.pool import reserve
from runwide.unpicklable import raised_by_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.records import Failure

_LISTED = 40  # failures spelled out in a summary; the record has them all


def exception_of(failure: Failure) -> BaseException:
    """The exception of a failure, or its text as one where the exception itself did not come across."""
    return (
        failure.exception
        if failure.exception is not None
        else RuntimeError(f"{failure.type}: {failure.message}")
    )


def portable_exception_of(failure: Failure) -> BaseException:
    """As `exception_of`, for what may not raise a ``StopIteration``: iterators, futures and coroutines.

    Example:
        >>> from runwide.records import Failure, FailureKind
        >>> error = StopIteration("no more")
        >>> portable_exception_of(Failure(2, FailureKind.EXCEPTION, "StopIteration", "no more", exception=error))
        StopIterationRaised('the task raised StopIteration: no more')
    """
    error = exception_of(failure)
    if not isinstance(error, StopIteration):
        return error
    named = f"{failure.type}: {failure.message}" if failure.message else failure.type
    hint = "use next(iterator, default), or raise another exception"
    raised = StopIterationRaised(f"the task raised {named}", item=failure.index, hint=hint)
    raised.__cause__ = error
    return raised


def in_executor(failure: Failure) -> BaseException:
    """As `portable_exception_of`, as a ``ProcessPoolExecutor`` has it: what pickling raised, where it did.

    Example:
        >>> from runwide.errors import ItemNotPicklable
        >>> from runwide.records import Failure
        >>> from runwide.records import FailureKind
        >>> error = naming.caused(ItemNotPicklable("no", item=2), TypeError("cannot pickle"))
        >>> in_executor(Failure(2, FailureKind.PICKLING, "ItemNotPicklable", "no", exception=error))
        TypeError('cannot pickle')
    """
    return raised_by_pickle(portable_exception_of(failure))


def in_pool(
    failure: Failure, exception: Callable[[Failure], BaseException] = portable_exception_of
) -> BaseException:
    """As ``multiprocessing.Pool`` has it: as `in_executor`, and a ``MaybeEncodingError`` for a result.

    Args:
        failure: Of one item.
        exception: Makes the exception that `runwide.map` raises.
    """
    error = exception(failure)
    if isinstance(error, ResultNotPicklable):
        return naming.caused(_maybe_encoding_error(error), error)
    return raised_by_pickle(error)


def _maybe_encoding_error(error: ResultNotPicklable) -> BaseException:
    reserve.load("multiprocessing.pool")
    # Few raise one, and typeshed does not know it.
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    cause = error.__cause__
    reason = error.message if cause is None else f"{type(cause).__name__}({naming.text_of(cause)!r})"
    raised: Exception = MaybeEncodingError(None, None)
    raised.args = reason, error.value  # which it would quote once more
    vars(raised).update(exc=reason, value=error.value)
    return raised


def first_error(
    failures: Sequence[Failure],
    results: list[Any],
    exception: Callable[[Failure], BaseException] = exception_of,
) -> BaseException:
    """The exception of the first failed item, caused by the summary of all.

    Args:
        failures: At least one.
        results: All results.
        exception: Makes the exception of a failure.
    """
    failures = sorted(failures, key=lambda failure: failure.index)
    lines = [str(failure) for failure in failures[:_LISTED]]
    if len(failures) > _LISTED:
        lines.append(f"and {len(failures) - _LISTED} more")
    summary = TasksFailed(
        f"{len(failures)} of {len(results)} tasks failed:\n  "
        + "\n  ".join(lines)
        + "\n",  # the hint has a line of its own
        failures=failures,
        results=results,
        hint="the others are finished: see .results and .failures of this error, or use on_error='return'",
    )
    raised = exception(failures[0])
    naming.caused(summary, raised.__cause__)
    return naming.caused(raised, summary)
