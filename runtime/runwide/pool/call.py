"""One function over one input: where its items come from, what was measured, where its results go."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from runwide import log
from runwide.pool.output import are_named
from runwide.pool.policy import NO_CHARGES, Charges, Pace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.pool.lease import Lease
    from runwide.pool.policy import Budget
    from runwide.records import Failure

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Payload:
    """A pickled function, where workers find it.

    Args:
        key: Workers keep it under that: for the same bytes the same, unless they are in a file.
        path: File in which its bytes are; None where they are in the entry.
        entry: As `runwide.pool.transfer.load` takes it.
    """

    key: str
    path: str | None
    entry: Any


class Sink(Protocol):
    """Takes what a call brings, from the scheduler's thread; must be quick and must not raise."""

    claims: bool  # whether items have to be claimed before they are sent

    def values(self, first: int, values: list[Any]) -> None:
        """Results of consecutive items."""

    def failure(self, failure: Failure) -> None:
        """One item has failed for good."""

    def finished(self) -> None:
        """Every item has ended."""

    def broken(self, error: BaseException) -> None:
        """The call cannot go on: the pool was closed, or no worker starts."""

    def claim(self, index: int) -> bool:
        """Whether an item is still wanted, asked when it is about to be sent."""

    def may_drop(self) -> bool:
        """Whether results that were delivered may be dropped before more are: their room would be free."""


class Tasks:
    """Consecutive items that were taken, or one that is tried again."""

    __slots__ = ("alone", "charges", "fine", "first", "full_since", "items")

    def __init__(self, first: int, items: Sequence[Any], charges: Charges = NO_CHARGES) -> None:
        self.first = first
        self.items = items
        self.charges = charges
        self.alone = False  # to be run while no other worker is busy
        self.fine = False  # to be run task by task: one of them killed a worker
        self.full_since: float | None = None  # when there was no room for it and nothing that could make some

    def part(self, start: int, stop: int | None = None) -> Tasks:
        """A slice, by position."""
        part = Tasks(self.first + start, self.items[start:stop], self.charges)
        part.alone, part.fine = self.alone, self.fine
        return part


class Source:
    """Items in order; filled ahead of time or by another thread."""

    def __init__(self, items: Iterable[Any] = (), *, closed: bool = True) -> None:
        self._sequence: Sequence[Any] | None = (
            items if isinstance(items, (list, tuple, range)) and closed else None
        )
        self._queue: deque[Any] = deque() if self._sequence is not None else deque(items)
        self._next = 0
        self.closed = closed

    def put(self, item: Any) -> None:
        """Add an item at the end; any thread may."""
        self._queue.append(item)

    def close(self) -> None:
        """No more will come."""
        self.closed = True

    def available(self) -> int:
        """How many items can be taken now."""
        return len(self._queue) if self._sequence is None else len(self._sequence) - self._next

    @property
    def at_hand(self) -> bool:
        """Whether all items were there from the start."""
        return self._sequence is not None

    @property
    def exhausted(self) -> bool:
        """Whether every item was taken and none will come."""
        return self.closed and not self.available()  # `closed` is read first: the feeder puts, then closes

    def take(self, number: int) -> Tasks:
        """Take up to so many items."""
        first = self._next
        if self._sequence is None:
            items: Sequence[Any] = [self._queue.popleft() for _ in range(min(number, len(self._queue)))]
        else:
            items = self._sequence[first : first + number]
        self._next += len(items)
        return Tasks(first, items)


class Call:
    """The state of one call in the scheduler.

    Args:
        function: As sent to each worker once.
        source: Its items.
        sink: Its results.
        budget: What each task may use.
        chunksize: Fixed number of items per chunk; None adapts it.
        indices: Index of each item in a larger input, as workers are to call it; None for 0, 1, ….
        named: Whether what its tasks print may be shown with their items.
        hungry: Set by the scheduler when it waits for items, cleared by whoever puts some.
    """

    lease: Lease
    """Whose it is; set when it is started."""

    def __init__(
        self,
        function: Payload,
        source: Source,
        sink: Sink,
        budget: Budget,
        *,
        chunksize: int | None = None,
        indices: Sequence[int] | None = None,
        named: bool = False,
        hungry: bool = False,
    ) -> None:
        self.function = function
        self.source = source
        self.sink = sink
        self.budget = budget
        self.chunksize = chunksize
        self.indices = indices
        self.named = named and are_named()
        self.fields = log.fields()
        self.hungry = hungry
        self.number = next(_numbers)
        self.pace = Pace()
        self.again: deque[Tasks] = deque()
        self.running = 0
        self.over = False

    def indices_of(self, tasks: Tasks) -> Sequence[int]:
        """What workers are to call these items."""
        own = range(tasks.first, tasks.first + len(tasks.items))
        return own if self.indices is None else self.indices[own.start : own.stop]

    @property
    def has_work(self) -> bool:
        """Whether there is something to start now."""
        return bool(self.again) or self.source.available() > 0

    @property
    def goes_on(self) -> bool:
        """Whether further tasks of it are to be started."""
        return self.lease.drained_at is None

    @property
    def done(self) -> bool:
        """Whether every item has ended."""
        return self.source.exhausted and not self.again and not self.running
