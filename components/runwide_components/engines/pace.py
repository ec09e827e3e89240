"""How fast a service may be asked, how often a refused call is made again, and how long to wait between looks."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from runwide.log import Log
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_log = Log("engine")
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Quota:
    """Lets so many calls through in any window of time, shared by the threads of this process.

    Args:
        calls: How many.
        seconds: Length of the window.
        clock: Seconds of a monotonic clock.
        sleep: Waits so many seconds.

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
        with self._lock:  # held while waiting: those behind it have to wait at least as long
            if len(self._taken) == self._taken.maxlen:
                wait = self._taken[0] + self._seconds - self._clock()
                if wait > 0:
                    _log.info("quota.reached", seconds=round(wait, 1), calls=self._taken.maxlen)
                    self._sleep(wait)
            self._taken.append(self._clock())


def retried(
    call: Callable[[], T],
    *,
    transient: Callable[[Exception], bool],
    patience: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What a call returns, made again after errors that pass.

    Pauses double from a second to a minute, each spread by a half so that many clients do not come back as one.

    Args:
        call: The call; it must be safe to make it twice.
        transient: Whether an error is one that passes.
        patience: Seconds after which the last error is raised.
        clock: Seconds of a monotonic clock.
        sleep: Waits so many seconds.

    Example:
        >>> answers = iter([ConnectionError(), 3])
        >>> def ask():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> retried(ask, transient=lambda error: True, patience=60, sleep=lambda _: None)
        3
    """
    deadline, pause = clock() + patience, _FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not transient(error) or clock() + pause > deadline:
                raise
            _log.warning(
                "call.retried", cause=shortened(f"{type(error).__name__}: {error}", 300), seconds=pause
            )
        sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
        pause = min(2 * pause, _LONGEST_PAUSE)


def looks(first: float, longest: float) -> Iterator[float]:
    """Seconds between looks at something that takes its time: each pause a quarter longer, up to a limit.

    Example:
        >>> pauses = looks(2, 3)
        >>> [round(next(pauses), 3) for _ in range(4)]
        [2, 2.5, 3, 3]
    """
    pause = first
    while True:
        yield pause
        pause = min(1.25 * pause, longest)
