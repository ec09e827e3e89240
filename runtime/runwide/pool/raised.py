"""The exceptions that failed tasks raise in their caller, like those of the standard library's pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide import naming
from runwide.ended import portable_exception_of
from runwide.errors import ResultNotPicklable
from runwide.pool import reserve
from runwide.unpicklable import raised_by_pickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.records import Failure


def in_executor(failure: Failure) -> BaseException:
    """Return the exception that a ``ProcessPoolExecutor`` raises: if pickling failed, the one that pickling raised.

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
    """Return the exception that ``multiprocessing.Pool`` raises: for a result, a ``MaybeEncodingError``.

    Args:
        failure: The failure of one item.
        exception: Returns the exception that `runwide.map` raises.
    """
    error = exception(failure)
    if isinstance(error, ResultNotPicklable):
        return naming.caused(_maybe_encoding_error(error), error)
    return raised_by_pickle(error)


def _maybe_encoding_error(error: ResultNotPicklable) -> BaseException:
    reserve.load("multiprocessing.pool")
    # Loaded here, since it is rarely needed; typeshed does not list it.
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    cause = error.__cause__
    reason = error.message if cause is None else f"{type(cause).__name__}({naming.text_of(cause)!r})"
    raised: Exception = MaybeEncodingError(None, None)
    raised.args = reason, error.value  # set afterwards, since the constructor would quote them again
    vars(raised).update(exc=reason, value=error.value)
    return raised
