"""The decisions of the pool, as pure functions of counts and times."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from runwide.causes import Cause
from runwide.pool.process import UNKNOWN

if TYPE_CHECKING:
    from runwide.options.record import RunOptions

TARGET_SECONDS = 0.1
"""Work in one chunk: much more than a round trip (0.1 ms), and short for a person who waits."""

CHUNK_BYTES = 4 << 20
"""Payload in one chunk, so that look-ahead stays bounded in memory."""

CHUNK_ITEMS = 20_000
GROWTH = 16
SHARES = 3
"""Each chunk takes at most a third of one worker's fair share of the remaining items (guided self-scheduling)."""

LEAST_SECONDS = 0.0005
"""Work below which a chunk is not split for balance: further round trips would cost more than idle cores lose."""

PREFETCH_SECONDS = 0.02
"""With chunks shorter than this, a worker would wait for the round trip, so the next chunk is sent in advance."""

_TRUSTED = 2
"""Tasks that are sent together to an idle worker if those of the last call were short, even if few are left."""

_MEMORY = 0.5  # weight of a new measurement: task times drift, and a first task pays for imports


class Pace(NamedTuple):
    """The measurements of one call's tasks.

    Args:
        seconds: Mean wall time of a task; None before the first measurement.
        bytes: Mean payload of a task, the larger of item and result.
        largest: The largest chunk that was measured.
        is_of_before: Whether this was measured in the last call of the same function; new items may take longer.
    """

    seconds: float | None = None
    bytes: float = 0.0
    largest: int = 1
    is_of_before: bool = False

    def after(self, *, tasks: int, seconds: float, payload: int) -> Pace:
        """Return the pace with one more measurement.

        Example:
            >>> Pace().after(tasks=10, seconds=1.0, payload=0).seconds
            0.1
        """
        mean, size = seconds / tasks, payload / tasks
        if self.seconds is None or self.is_of_before:
            return Pace(mean, size, tasks)
        keep = 1 - _MEMORY
        return Pace(
            keep * self.seconds + _MEMORY * mean, keep * self.bytes + _MEMORY * size, max(self.largest, tasks)
        )


def chunk_size(
    pace: Pace,
    *,
    available: int,
    final: bool,
    workers: int,
    at_hand: bool = False,
    idle: int | None = None,
) -> int:
    """Return the number of tasks to send together.

    Args:
        available: Items that can be taken now.
        final: Whether no more items will come.
        at_hand: Whether all items were there from the start. Items that come one by one may need each other, or differ
            from earlier ones, so as many as possible are started at once.
        idle: Number of workers that have nothing to do, including the one that gets these tasks; None for all.

    Example:
        >>> chunk_size(Pace(), available=1000, final=True, workers=2)
        1
        >>> chunk_size(Pace(0.001, 0, 50), available=1000, final=True, workers=2)
        100
        >>> chunk_size(Pace(0.001, 0, 50), available=10, final=True, workers=2)
        1
        >>> chunk_size(Pace(1e-6, 0, 5000), available=100, final=True, workers=2)
        16
        >>> chunk_size(Pace(1e-6, 0, 5000), available=100, final=True, workers=2, at_hand=True)
        500
        >>> before = Pace(1e-6, 0, 5000, is_of_before=True)
        >>> [chunk_size(before, available=n, final=True, workers=2, at_hand=True, idle=2) for n in (100, 4, 2)]
        [16, 2, 1]
    """
    if pace.seconds is None:
        return 1
    by_time = TARGET_SECONDS / max(pace.seconds, 1e-7)
    by_share = available / (workers * (SHARES if final else 1))
    if at_hand and pace.is_of_before:
        by_share = max(by_share, min(_TRUSTED, available / (idle or workers)))
    elif at_hand:
        by_share = max(by_share, LEAST_SECONDS / max(pace.seconds, 1e-7))
    by_bytes = CHUNK_BYTES / max(pace.bytes, 1.0)
    return max(1, int(min(by_time, by_share, by_bytes, pace.largest * GROWTH, CHUNK_ITEMS)))


def lookahead(pace: Pace, *, workers: int) -> int:
    """Return how many items of a lazy iterable may be in the pool, unfinished or not yet fetched by the consumer.

    Example:
        >>> lookahead(Pace(), workers=2)
        8
    """
    if pace.seconds is None:
        return 4 * workers
    return 4 * workers * chunk_size(pace, available=CHUNK_ITEMS * workers, final=False, workers=workers)


def may_prefetch(pace: Pace, *, tasks: int, available: int, workers: int) -> bool:
    """Return whether a busy worker may get its next chunk, of this many tasks, in advance.

    Example:
        >>> [may_prefetch(Pace(1e-6, is_of_before=before), tasks=5, available=20, workers=2) for before in (False, True)]
        [True, False]
    """
    if pace.seconds is None or pace.is_of_before:
        return False
    return pace.seconds * tasks < PREFETCH_SECONDS and available > tasks * workers


class Charges(NamedTuple):
    """The attempts that one task has used.

    Args:
        crashes: Number of workers that it killed.
        losses: Number of times that a file was gone before the task began.
    """

    starts: int = 0
    errors: int = 0
    crashes: int = 0
    losses: int = 0

    def started(self) -> Charges:
        """Return these charges and one more start."""
        return self._replace(starts=self.starts + 1)

    def crashed(self) -> Charges:
        """Return these charges and one more death of its worker."""
        return self._replace(crashes=self.crashes + 1)

    def lost(self) -> Charges:
        """Return these charges and one more file that was gone."""
        return self._replace(losses=self.losses + 1)

    def raised(self) -> Charges:
        """Return these charges and one more exception."""
        return self._replace(errors=self.errors + 1)


NO_CHARGES = Charges()
_MAX_LOSSES = 3
"""Number of files that may be gone, for any budget: a loss is not the task's fault, and the task has not begun."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The attempts and the time that a task may use before the pool gives it up.

    Args:
        retries: Further attempts after an exception.
        max_crashes: Deaths of its worker after which the task fails: one death may be bad luck, two are not.
        timeout: Seconds that one attempt may take; None for no limit.
    """

    retries: int = 0
    max_crashes: int = 2
    timeout: float | None = None

    @classmethod
    def of(cls, options: RunOptions) -> Budget:
        """Return the budget of a task under these options."""
        return cls(options.retries, options.max_crashes, options.timeout)

    def allows(self, charges: Charges) -> bool:
        """Return whether a task with these charges is tried again.

        Example:
            >>> Budget().allows(Charges(crashes=1)), Budget().allows(Charges(crashes=2)), Budget().allows(Charges(errors=1))
            (True, False, False)
        """
        return (
            charges.errors <= self.retries
            and charges.crashes < self.max_crashes
            and charges.losses < _MAX_LOSSES
        )


def cause_of_death(exitcode: int, *, timed_out: bool, oom_credits: int) -> Cause:
    """Distinguish an OOM kill and the pool's own timeout from other deaths.

    Args:
        exitcode: Exit status, negative for a signal, or `runwide.pool.process.UNKNOWN`.
        oom_credits: OOM kills that the cgroup has counted, and that explain no earlier death.

    Example:
        >>> cause_of_death(-9, timed_out=False, oom_credits=1).name
        'OUT_OF_MEMORY'
        >>> cause_of_death(-11, timed_out=False, oom_credits=1).name
        'SIGNAL'
        >>> cause_of_death(UNKNOWN, timed_out=False, oom_credits=1).name
        'OUT_OF_MEMORY'
    """
    if timed_out:
        return Cause.TIMEOUT
    if exitcode in (-signal.SIGKILL, UNKNOWN) and oom_credits > 0:
        return Cause.OUT_OF_MEMORY
    if exitcode == UNKNOWN:
        return Cause.UNKNOWN
    return Cause.SIGNAL if exitcode < 0 else Cause.EXIT
