"""The limits of calls to a service: a quota in a window of time, and repetition after transient errors."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from runwide.log import Log
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_log = Log("engine")
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of HTTP after which a call is repeated."""


class Quota:
    """A limit of calls in any window of time, shared by the threads of this process.

    Example:
        >>> now = [0.0]
        >>> quota = Quota(2, seconds=60, clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
        >>> for _ in range(5):
        ...     quota.take()
        >>> now
        [120.0]
    """

    def __init__(
        self,
        calls: int,
        *,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._taken: deque[float] = deque(maxlen=calls)
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait until one more call may be made."""
        with self._lock:  # held while waiting: other threads have to wait at least as long
            if len(self._taken) == self._taken.maxlen:
                wait = self._taken[0] + self._seconds - self._clock()
                if wait > 0:
                    _log.info("quota.reached", seconds=round(wait, 1), calls=self._taken.maxlen)
                    self._sleep(wait)
            self._taken.append(self._clock())


def retried(call: Callable[[], T], *, transient: Callable[[Exception], bool], patience: float) -> T:
    """Return the result of a call, repeated after transient errors by `google.api_core.retry`.

    Pauses grow from a second to a minute. Each is drawn at random, so that many clients do not come back at once.

    Args:
        call: The call; it must be safe to make it twice.
        patience: Seconds after which the last error is raised.

    Example:
        >>> retried(lambda: 3, transient=lambda error: True, patience=60)
        3
    """
    from google.api_core.retry import exponential_sleep_generator, retry_target  # slow to load

    def failed(error: Exception) -> None:
        _log.warning("call.retried", cause=shortened(f"{type(error).__name__}: {error}", 300))

    result: T = retry_target(
        call,
        transient,
        exponential_sleep_generator(_FIRST_PAUSE, _LONGEST_PAUSE, multiplier=2.0),
        timeout=patience,
        on_error=failed,
        exception_factory=lambda errors, *_: (errors[-1], errors[-1].__cause__),
    )
    return result
