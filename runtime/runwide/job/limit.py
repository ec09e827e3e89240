"""Limit the failed items of a job, counted in one process or over all components."""

from __future__ import annotations

import re
from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple

from runwide.errors import ObjectExists, PoolClosed, TooManyFailures
from runwide.job.reference import parse
from runwide.outcomes import too_many
from runwide.store.base import open_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.records import Failure
    from runwide.store.base import Store

FIRST = "first"
"""Name of the first attempt at a new job, such as a pipeline's."""

_COUNT = re.compile(r"failed/[^/]+/\d{6}-\d{6}-(\d{1,9})")


class Accepted(NamedTuple):
    """The accepted number of failed items in one attempt at a job.

    Args:
        most: The number; one more failed item stops the rest.
    """

    most: int
    attempt: str


def new_attempt() -> str:
    """Return a new name for an attempt at a job.

    Example:
        >>> len(new_attempt())
        16
    """
    return token_hex(8)


class Limit:
    """Counts the failures of one process.

    Args:
        most: The accepted number; one more failed item stops the rest. None for any number.

    Example:
        >>> from runwide.errors import TooManyFailures
        >>> from runwide.records import Failure, FailureKind
        >>> try:
        ...     Limit(0).count(Failure(3, FailureKind.EXCEPTION, "ValueError", "no"))
        ... except TooManyFailures as error:
        ...     print(error.message)
        stopped after 1 failed items, the last: item 3: ValueError: no
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._failures: list[Failure] = []

    def count(self, failure: Failure) -> None:
        """Count a failure.

        Raises:
            TooManyFailures: The limit is passed.
        """
        if self._most is None:
            return
        self._failures.append(failure)
        if len(self._failures) > self._most:
            raise too_many(self._failures)

    def start(self, stop: Callable[[], None]) -> None:
        """Start to count the failures of other components.

        Args:
            stop: Called on another thread when all components together have passed the limit.

        Raises:
            TooManyFailures: They have passed it already.
        """

    def stored(self, failed: int) -> None:
        """Record that results were stored, with this number of failures among them."""

    def check(self) -> None:
        """Raise `TooManyFailures` if all components together have passed the limit."""

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Check once more at the end of the block, when all results are stored or the pool was stopped."""
        try:
            yield
        except PoolClosed:
            self.check()
            raise
        self.check()


class SharedLimit(Limit):
    """Counts the failures of all components of a job: with each chunk, a component adds a record and reads all records.

    A record is an empty object, ``failed/<attempt>/<shard>-<number>-<failures>``, so one listing gives the sum. A forged
    record can stop the job, and can do no more.

    Args:
        attempt: Name of this attempt at the job; failures of other attempts do not count.
    """

    def __init__(self, most: int, *, store: Store, attempt: str, shard: int) -> None:
        super().__init__(most)
        self._accepted = most
        self._store = store
        self._folder = folder(attempt)
        self._shard = shard
        self._next = 0
        self._found = 0
        self._stop: Callable[[], object] = lambda: None

    def start(self, stop: Callable[[], None]) -> None:
        """See `Limit.start`."""
        self._stop = stop
        self._look()
        self.check()

    def stored(self, failed: int) -> None:
        """See `Limit.stored`."""
        if failed:
            while True:
                name = f"{self._folder}{self._shard:06d}-{self._next:06d}-{failed}"
                self._next += 1
                try:
                    self._store.create(name, b"")
                    break
                except ObjectExists:  # an earlier process of this shard wrote it
                    continue
        self._look()
        if self._found > self._accepted:
            self._stop()

    def check(self) -> None:
        """See `Limit.check`."""
        if self._found > self._accepted:
            raise _stopped(self._found, self._store.uri)

    def _look(self) -> None:
        self._found = total(self._store, self._folder)


def total(store: Store, below: str) -> int:
    """Return how many failures the components of an attempt have stored.

    Args:
        below: The attempt's folder, from `folder`.
    """
    counts = (_COUNT.fullmatch(info.name) for info in store.list(below))
    return sum(int(count[1]) for count in counts if count)


def too_many_stored(job: str, accepted: Accepted) -> TooManyFailures | None:
    """Return the error of a job whose components have stored too many failures; None if they have not."""
    with open_inside(parse(job).folder) as store:
        found = total(store, folder(accepted.attempt))
    return None if found <= accepted.most else _stopped(found, job)


def _stopped(found: int, uri: str) -> TooManyFailures:
    return TooManyFailures(
        f"stopped after {found} failed items of all components",
        uri=uri,
        hint="correct the function, or raise max_failures=",
    )


def folder(attempt: str) -> str:
    """Return the folder with the records of an attempt, below the job's.

    Example:
        >>> folder("first")
        'failed/first/'
    """
    return f"failed/{attempt}/"
