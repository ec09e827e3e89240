"""Turn outcomes of items into results, or into the exception of the first failure."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import naming
from runwide.errors import InputError, StopIterationRaised, TasksFailed, TooManyFailures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from runwide.records import Failure, Outcome

T = TypeVar("T")

_LINE = 300  # characters
_LISTED = 40  # failures that a summary lists; its record has all


def check_on_error(on_error: str) -> None:
    """Reject an invalid ``on_error``."""
    if on_error not in ("raise", "return"):
        raise InputError(f"invalid on_error={on_error!r}: expected 'raise' or 'return'")


def raise_or_return(ended: Sequence[Outcome], on_error: str) -> list[Any]:
    """Return results by index; raise the first failure, or return failures instead of results.

    Args:
        ended: One outcome per item, in any order.

    Raises:
        Exception: The exception of the first failed item; its cause is a `TasksFailed` with all failures.

    Example:
        >>> from runwide.records import Outcome
        >>> raise_or_return([Outcome(1, "b"), Outcome(0, "a")], "raise")
        ['a', 'b']
    """
    check_on_error(on_error)
    results = by_index(ended)
    failures = _failures(ended)
    if failures and on_error == "raise":
        raise first_error(failures, results)
    return results


def by_index(ended: Sequence[Outcome]) -> list[Any]:
    """Return values and failures by index; None for items that have not ended.

    Example:
        >>> from runwide.records import Outcome
        >>> by_index([Outcome(2, "c"), Outcome(0, "a")])
        ['a', None, 'c']
    """
    results: list[Any] = [None] * (1 + max((outcome.index for outcome in ended), default=-1))
    for outcome in ended:
        results[outcome.index] = outcome.value if outcome.failure is None else outcome.failure
    return results


def keep_finished(error: BaseException, ended: Sequence[Outcome]) -> None:
    """Add the results so far to the error that has ended a call, if its class has a place for them."""
    keep(error, by_index(ended), _failures(ended))


def keep(error: BaseException, results: list[Any], failures: Sequence[Failure]) -> None:
    """Run `keep_finished` with separate results and failures."""
    if hasattr(error, "results"):
        vars(error).update(results=results, failures=tuple(failures))


def _failures(ended: Sequence[Outcome]) -> list[Failure]:
    return [outcome.failure for outcome in ended if outcome.failure is not None]


def exception_of(failure: Failure) -> BaseException:
    """Return the exception of a failure; if only its text arrived, a RuntimeError with that text."""
    if failure.exception is not None:
        return failure.exception
    return RuntimeError(f"{failure.type}: {failure.message}")


def portable_exception_of(failure: Failure) -> BaseException:
    """Return `exception_of` a failure for iterators, futures and coroutines, which may not raise ``StopIteration``.

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


def first_error(
    failures: Sequence[Failure],
    results: list[Any],
    exception: Callable[[Failure], BaseException] = exception_of,
) -> BaseException:
    """Return the exception of the first failed item; its cause is a summary of all failures."""
    failures = sorted(failures, key=lambda failure: failure.index)
    lines = [line_of(failure) for failure in failures[:_LISTED]]
    if len(failures) > _LISTED:
        lines.append(f"and {len(failures) - _LISTED} more")
    summary = TasksFailed(
        f"{len(failures)} of {len(results)} tasks failed:\n  "
        + "\n  ".join(lines)
        + "\n",  # so that the hint has its own line
        failures=failures,
        results=results,
        hint="the others are finished: see .results and .failures of this error, or use on_error='return'",
    )
    raised = exception(failures[0])
    naming.caused(summary, raised.__cause__)
    return naming.caused(raised, summary)


def line_of(failure: Failure) -> str:
    r"""Return a failure as one line of a list; a long message is cut.

    Example:
        >>> from runwide.records import Failure, FailureKind
        >>> line_of(Failure(0, FailureKind.EXCEPTION, "ValueError", "first\n  second" + "!" * 500))[:48]
        'item 0: ValueError: first second!!!!!!!!!!!!!!!!'
    """
    from runwide.redaction import shortened  # slow to load

    return " ".join(shortened(str(failure), _LINE).split())


def too_many(failures: Sequence[Failure]) -> TooManyFailures:
    """Return the error of a map in which more items failed than ``max_failures`` allows."""
    return TooManyFailures(
        f"stopped after {len(failures)} failed items, the last: {line_of(failures[-1])}",
        failures=failures,
        hint="correct the function, or raise max_failures=",
    )


@contextmanager
def closed_after(arriving: T) -> Iterator[T]:
    """Close an iterator at the end of the block, and not on the thread that happens to collect it later."""
    try:
        yield arriving
    finally:
        close = getattr(arriving, "close", None)
        if close is not None:
            close()


def values(
    arriving: Iterator[Outcome],
    on_error: str,
    exception: Callable[[Failure], BaseException] | None = None,
) -> Generator[Any, None, None]:
    """Iterate over the values of outcomes; raise failures, or yield them instead of values."""
    with closed_after(arriving):
        for outcome in arriving:
            failure = outcome.failure
            if failure is not None and on_error == "raise":
                raise (exception or portable_exception_of)(failure)
            held = [outcome.value if failure is None else failure]
            del outcome, failure
            yield held.pop()  # no reference stays here, so its memory is free when the consumer drops it
