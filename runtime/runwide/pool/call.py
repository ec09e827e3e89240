"""A call: one function, the items it runs over, and the sink that takes its results."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from runwide import log
from runwide.pool import transfer
from runwide.pool.output import are_named
from runwide.pool.policy import NO_CHARGES, Charges, Pace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.pool.leases import Lease
    from runwide.pool.policy import Budget
    from runwide.pool.scratch import Kept, Scratch
    from runwide.records import Failure


_numbers = count(1)
_chunks = count(1)


@dataclass(frozen=True, slots=True)
class Payload:
    """A pickled function, as workers receive it.

    Args:
        key: The key under which workers keep it: the same for the same bytes, unless they are in a file.
        path: The file that has its bytes; None if they are in the entry.
    """

    key: str
    path: str | None
    entry: Any


class Sink:
    """The receiver of a call's results.

    The scheduler's thread calls its methods, so they must be quick and must not raise.
    """

    claims = False  # whether items have to be claimed before they are sent

    def values(self, first: int, values: list[Any]) -> None:
        """Take results of consecutive items."""
        raise NotImplementedError

    def failure(self, failure: Failure) -> None:
        """Take the failure of one item, which is not tried again."""
        raise NotImplementedError

    def finished(self) -> None:
        """Note that every item has ended."""

    def broken(self, error: BaseException) -> None:
        """Note that the call cannot go on: the pool was closed, or no worker starts."""
        raise NotImplementedError

    def claim(self, index: int) -> bool:  # noqa: ARG002 - every item is wanted
        """Return whether an item is still wanted; called when it is about to be sent."""
        return True

    def may_drop(self) -> bool:
        """Return whether the consumer may yet drop results that it has, so that their room becomes free."""
        return False


class Tasks:
    """Consecutive items that were taken from the source, or one that is tried again."""

    __slots__ = ("alone", "charges", "fine", "first", "full_since", "items")

    def __init__(self, first: int, items: Sequence[Any], charges: Charges = NO_CHARGES) -> None:
        self.first = first
        self.items = items
        self.charges = charges
        self.alone = False  # to be run while no other worker is busy
        self.fine = False  # to be run task by task, since one of them killed a worker
        self.full_since: float | None = None  # since when there is no room for it, and none to be expected

    def part(self, start: int, stop: int | None = None) -> Tasks:
        """Return some of the items, by position."""
        part = Tasks(self.first + start, self.items[start:stop], self.charges)
        part.alone, part.fine = self.alone, self.fine
        return part


class Chunk:
    """Tasks that were sent to a worker together."""

    __slots__ = ("call", "ended", "exhausted", "number", "payload", "queued", "tasks")

    def __init__(self, call: Call, tasks: Tasks, payload: int) -> None:
        self.number = next(_chunks)
        self.call = call
        self.tasks = tasks
        self.payload = payload
        self.ended = 0  # number of results that have come
        self.exhausted = False  # whether its worker has no descriptors left
        self.queued = time.monotonic()

    def __len__(self) -> int:
        return len(self.tasks.items)


class Source:
    """The items of a call, in order. Another thread may add more."""

    def __init__(self, items: Iterable[Any] = (), *, closed: bool = True) -> None:
        self._sequence: Sequence[Any] | None = (
            items if isinstance(items, (list, tuple, range)) and closed else None
        )
        self._queue: deque[Any] = deque() if self._sequence is not None else deque(items)
        self._next = 0
        self.closed = closed

    def put(self, item: Any) -> None:
        """Add an item at the end. Any thread may call it."""
        self._queue.append(item)

    def close(self) -> None:
        """Note that no more items will come."""
        self.closed = True

    def available(self) -> int:
        """Return how many items can be taken now."""
        return len(self._queue) if self._sequence is None else len(self._sequence) - self._next

    @property
    def at_hand(self) -> bool:
        """Return whether all items were there from the start."""
        return self._sequence is not None

    @property
    def exhausted(self) -> bool:
        """Return whether every item was taken and no more will come."""
        return self.closed and not self.available()  # `closed` is read first: the feeder puts, then closes

    def take(self, number: int) -> Tasks:
        """Take at most this many items."""
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
        chunksize: Fixed number of items per chunk; None adapts it.
        indices: The index of each item in a larger input, which workers show; None for 0, 1, ….
        named: Whether lines that its tasks print may be shown with their items.
        hungry: Whether the scheduler waits for items. The scheduler sets it; the thread that adds items clears it.
    """

    lease: Lease
    """The lease of its pool; set when the call is started."""

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
        """Return the indices of these items that workers show."""
        own = range(tasks.first, tasks.first + len(tasks.items))
        return own if self.indices is None else self.indices[own.start : own.stop]

    @property
    def has_work(self) -> bool:
        """Return whether a task could be started now."""
        return bool(self.again) or self.source.available() > 0

    @property
    def goes_on(self) -> bool:
        """Return whether further tasks may be started."""
        return self.lease.drained_at is None

    @property
    def done(self) -> bool:
        """Return whether every item has ended."""
        return self.source.exhausted and not self.again and not self.running


_REMEMBERED = 64  # paces


class Functions:
    """The functions of one scheduler."""

    def __init__(self, scratch: Scratch, kept: Kept) -> None:
        self._scratch = scratch
        self._kept = kept
        self._numbers = count()
        self._paces: dict[str, Pace] = {}  # by key; the pace of the last call is at the end

    def payload(self, dumped: transfer.Dumped) -> Payload:
        """Return a function as workers receive it: in the message, or in a file that all map. Any thread may call it."""
        tag = f"function-{next(self._numbers)}"
        path, entries = transfer.seal([(transfer.FRAME, *dumped)], self._scratch.tagged(tag))
        if path is None:
            return Payload(transfer.digest(dumped), None, entries[0])
        self._kept.add(path)
        return Payload(tag, path, entries[0])  # a large function is kept for its call only

    def begin(self, call: Call) -> None:
        """Begin a call with the pace of the last call of the same function, if all its items are there."""
        if call.source.at_hand:
            call.pace = self._paces.get(call.function.key, call.pace)

    def end(self, call: Call) -> None:
        """Remember the pace of a call that has ended, and remove the file of its function."""
        key, path = call.function.key, call.function.path
        if path is not None:
            self._kept.remove(path)
        elif call.pace.seconds is not None:
            self._paces.pop(key, None)
            self._paces[key] = call.pace._replace(is_of_before=True)
            if len(self._paces) > _REMEMBERED:
                del self._paces[next(iter(self._paces))]
