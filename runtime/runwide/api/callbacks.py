"""The user's callbacks, and the result that calls them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, StopIterationRaised
from runwide.log import Log
from runwide.naming import text_of
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    Callback = Callable[[Any], object] | None

_log = Log("pool")

_SAID = 2_000  # characters of an error


def undisturbed(function: Callable[..., object], *args: Any, logs: bool = True) -> bool:
    """Call a callback of the user; return False if it raised an exception, which is only logged."""
    try:
        function(*args)
    except BaseException as error:
        if logs:
            said = shortened(text_of(error), _SAID)  # the scheduler's thread must not spend much time here
            _log.error("callback.failed", type=type(error).__name__, error=said)
        return False
    return True


class AsyncResult:
    """The result of an asynchronous call, with the interface of ``multiprocessing.pool.AsyncResult``.

    Args:
        pool: Kept alive until the result arrives.
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
        """Wait for the result, for at most ``timeout`` seconds.

        Raises:
            multiprocessing.TimeoutError: It has not arrived.
            Exception: The function raised it.
        """
        if not self._ended.wait(timeout):
            import multiprocessing  # slow to load, and needed only here

            raise multiprocessing.TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result has arrived, for at most ``timeout`` seconds."""
        self._ended.wait(timeout)

    def ready(self) -> bool:
        """Return True if the call has ended."""
        return self._ended.is_set()

    def successful(self) -> bool:
        """Return True if the call has ended without an exception.

        Raises:
            ValueError: The call has not ended.
        """
        if not self.ready():
            raise InputError(f"{self!r} not ready")
        return self._error is None

    def take(self, future: Future[Any]) -> None:
        """End with the result of a future."""
        error = future.exception()
        if isinstance(error, StopIterationRaised):  # `get` may raise it
            error = error.__cause__
        self.settle(None if error is not None else future.result(), error)

    def settle(self, value: Any, error: BaseException | None) -> None:
        """End with a value or an error, and call the callback."""
        self._value, self._error = value, error
        callback = self._callback if error is None else self._error_callback
        if callback is not None:
            undisturbed(callback, value if error is None else error)
        self._pool = None
        self._ended.set()
