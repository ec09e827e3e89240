"""How many failed items a job may have: counted in one process, or by all components together."""

from __future__ import annotations

import re
from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple

from runwide.ended import too_many
from runwide.errors import ObjectExists, PoolClosed, TooManyFailures
from runwide.job.reference import parse
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runwide.records import Failure
    from runwide.spill.store import Store

FIRST = "first"
"""The attempt at a job that nobody has named: that of a pipeline, whose job is new."""

_COUNT = re.compile(r"failed/[^/]+/\d{6}-\d{6}-(\d{1,9})")


class Accepted(NamedTuple):
    """How many failed items are accepted of one attempt at a job.

    Args:
        most: How many; one more stops the rest.
        attempt: Its name.
    """

    most: int
    attempt: str


def new_attempt() -> str:
    """Return a name for an attempt at a job.

    Example:
        >>> len(new_attempt())
        16
    """
    return token_hex(8)


class Limit:
    """Counts the failures of one process.

    Args:
        most: How many are accepted; one more stops the rest. None for any number.

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
        """Take one more.

        Raises:
            TooManyFailures: It is one too many.
        """
        if self._most is None:
            return
        self._failures.append(failure)
        if len(self._failures) > self._most:
            raise too_many(self._failures)

    def start(self, stop: Callable[[], None]) -> None:
        """Begin to look at what others have counted.

        Args:
            stop: Called, on another thread, when these are too many.

        Raises:
            TooManyFailures: They are by now.
        """

    def stored(self, failed: int) -> None:
        """Hear that results were stored, so many of them failures."""

    def check(self) -> None:
        """Raise what has stopped this process.

        Raises:
            TooManyFailures: All components together have too many.
        """

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Look once more when all of the block's results are stored, or when its pool was stopped.

        Raises:
            TooManyFailures: All components together have too many.
        """
        try:
            yield
        except PoolClosed:
            self.check()
            raise
        self.check()


class SharedLimit(Limit):
    """Counts the failures of all components of a job: each leaves a record of its own, and looks at all with each chunk.

    A record is an empty object, ``failed/<attempt>/<shard>-<number>-<failures>``: one list tells how many there are. What
    anyone else puts there can stop the job and no more.

    Args:
        most: As for `Limit`.
        store: The job's folder.
        attempt: Name of this attempt at the job, whose components count together.
        shard: Index of the shard.
    """

    def __init__(self, most: int, *, store: Store, attempt: str, shard: int) -> None:
        super().__init__(most)
        self._accepted = most
        self._store = store
        self._folder = folder(attempt)
        self._shard = shard
        self._next = 0
        self._found = 0
        self._stop: Callable[[], None] = _nothing

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
                except ObjectExists:  # of this shard's process before
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
        store: The job's folder.
        below: What `folder` returns.
    """
    counts = (_COUNT.fullmatch(info.name) for info in store.list(below))
    return sum(int(count[1]) for count in counts if count)


def too_many_stored(job: str, accepted: Accepted) -> TooManyFailures | None:
    """Return the error of a job whose components have stored more failures than are accepted, None if they have not.

    Args:
        job: The job's reference.
        accepted: How many are.
    """
    with open_inside(parse(job).folder) as store:
        found = total(store, folder(accepted.attempt))
    return None if found <= accepted.most else _stopped(found, job)


def _stopped(found: int, uri: str) -> TooManyFailures:
    return TooManyFailures(
        f"stopped after {found} failed items of all components",
        uri=uri,
        hint="mend the function, or raise max_failures=",
    )


def folder(attempt: str) -> str:
    """Return where the records of an attempt are, in the job's folder.

    Example:
        >>> folder("first")
        'failed/first/'
    """
    return f"failed/{attempt}/"


def _nothing() -> None: ...
