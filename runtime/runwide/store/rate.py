"""The number of requests that a process may send to a service each second.

Cloud Storage starts a bucket at about 1,000 writes and 5,000 reads a second and asks clients to double the rate at most
every 20 minutes above that ("Request rate and access distribution guidelines"); it answers faster requests with 429.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WRITES = 1000.0
READS = 5000.0
_DOUBLING = 1200.0  # seconds
_RECOVERY = 30.0  # seconds after which a rate that was halved has doubled again
_LEAST = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """A rate that grows with time, and falls when the service says so.

    Args:
        start: Requests a second at the beginning.
        since: When it began, in seconds of a monotonic clock.
        factor: The share of the rate that refusals have left, 1 for all.
    """

    start: float
    since: float
    factor: float = 1.0
    at: float = 0.0

    def rate(self, now: float) -> float:
        """Return the number of requests a second that may be sent now.

        Example:
            >>> pace = Pace(1000, since=0)
            >>> pace.rate(0), pace.rate(1200), pace.refused(0).rate(0), round(pace.refused(0).rate(30))
            (1000.0, 2000.0, 500.0, 1017)
        """
        grown = self.start * 2 ** min(60.0, (now - self.since) / _DOUBLING)
        return max(_LEAST, grown * self._recovered(now))

    def refused(self, now: float) -> Pace:
        """Return the pace after a 429 or 503."""
        return Pace(self.start, self.since, self._recovered(now) / 2, now)

    def _recovered(self, now: float) -> float:
        return min(1.0, self.factor * 2 ** min(60.0, (now - self.at) / _RECOVERY))


class Limiter:
    """Delays requests to keep a pace that the threads of a process share."""

    def __init__(
        self,
        start: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pace = Pace(start, clock())
        self._next = clock()

    def share(self, parts: int, start: float) -> None:
        """Use only a part of the rate, since ``parts`` processes use the service at once."""
        with self._lock:
            self._pace = Pace(start / parts, self._clock())

    def wait(self) -> float:
        """Wait until a request may be sent, and return that time; after a pause, a second's requests may go at once."""
        with self._lock:
            now = self._clock()
            step = 1 / self._pace.rate(now)
            self._next = max(self._next, now - 1) + step
            late = self._next - now
        if late > 0:
            self._sleep(late)
        return self._clock()

    def refused(self, sent: float) -> None:
        """Slow down, as the service has asked; ``sent`` is the time that `wait` returned for the request.

        Requests that were sent before the last refusal do not count again.
        """
        with self._lock:
            if sent > self._pace.at:
                self._pace = self._pace.refused(self._clock())
