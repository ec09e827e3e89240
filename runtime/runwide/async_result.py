"""A result to come, as the standard library's pool has it."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

from runwide.callbacks import undisturbed
from runwide.errors import InputError, StopIterationRaised

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    Callback = Callable[[Any], object] | None


class AsyncResult:
    """A result to come, as ``multiprocessing.pool.AsyncResult``.

    Args:
        callback: Called with the value.
        error_callback: Called with the exception.
        pool: Kept until then.
    """

    def __init__(
        self, callback: Callback = None, error_callback: Callback = None, pool: object = None
    ) -> None:
        self._pool: object = pool
        self._ended = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._callback = callback
        self._error_callback = error_callback

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result, so many seconds at most.

        Raises:
            multiprocessing.TimeoutError: It is not there yet.
            Exception: Whatever the function raised.
        """
        if not self._ended.wait(timeout):
            raise multiprocessing.TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, so many seconds at most."""
        self._ended.wait(timeout)

    def ready(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    def successful(self) -> bool:
        """Whether it has ended without an exception.

        Raises:
            ValueError: It has not ended.
        """
        if not self.ready():
            raise InputError(f"{self!r} not ready")
        return self._error is None

    def take(self, future: Future[Any]) -> None:
        """End as a future has."""
        error = future.exception()
        if isinstance(error, StopIterationRaised):  # which `get` may raise itself
            error = error.__cause__
        self.settle(None if error is not None else future.result(), error)

    def settle(self, value: Any, error: BaseException | None) -> None:
        """End with a value or an error, and call back."""
        self._value, self._error = value, error
        callback = self._callback if error is None else self._error_callback
        if callback is not None:
            undisturbed(callback, value if error is None else error)
        self._pool = None
        self._ended.set()
