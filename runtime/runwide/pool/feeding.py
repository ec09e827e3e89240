"""Move items from an iterable to a call, a bounded number ahead of the consumed outcomes."""

from __future__ import annotations

import sys
import threading
import weakref
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from runwide.pool import policy
from runwide.pool.sinks import SIGNAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runwide.pool.call import Call

ALL = sys.maxsize
"""The number of items ahead that means: read all of them now."""

_STEPS = 4
"""More items are read when a quarter of the places for them is free, and not after each consumed outcome."""

_END = object()

_AT_HAND = (list, tuple, range, set, frozenset, dict, str, bytes, bytearray)


def is_at_hand(items: Iterable[Any]) -> bool:
    """Return whether reading an item runs none of the user's code, and so cannot wait for anything.

    Example:
        >>> is_at_hand([1, 2]), is_at_hand(iter([1, 2]))
        (True, False)
    """
    return type(items) in _AT_HAND


def taken(items: Iterable[Any]) -> Sequence[Any] | None:
    """Return all items as they are now; None if reading them may take time.

    Example:
        >>> taken({1: "a"}), taken(range(3)), taken(iter([1]))
        ([1], range(0, 3), None)
    """
    if not is_at_hand(items):
        return None
    return items if isinstance(items, (tuple, range)) else list(items)  # other types may change


class Feeder:
    """Moves items from an iterable to a call.

    Items are read on the thread that calls `feed`, or on a thread of the feeder (`start`). That thread may wait in the
    user's code for any time, even for results of earlier items; the consumer does not wait for it.

    Args:
        ahead: Number of items that may be in the call and not consumed; None adapts it; `ALL` reads all of them.
        one_by_one: Read an item only when the consumer waits for an outcome: its task runs at once, in this thread.
    """

    def __init__(
        self,
        call: Call,
        items: Iterable[Any],
        ring: Callable[[], None],
        *,
        ahead: int | None = ALL,
        workers: int = 1,
        one_by_one: bool = False,
    ) -> None:
        self._call = call
        self._source = call.source
        self._items: Iterable[Any] = items
        self.at_hand = is_at_hand(items)
        self._iterator: Iterator[Any] | None = None
        self._ring = ring
        self._ahead = 1 if one_by_one and ahead != ALL else ahead
        self._workers = workers
        self._one_by_one = one_by_one
        self._inline = False  # whether the consumer's thread reads the items
        self._low = 0  # number of items ahead at which more are read
        self._consumed = 0
        self._thread: threading.Thread | None = None
        self._room = threading.Event()
        self._waits = False  # whether the thread waits for a free place
        self._taking = False  # whether the thread is in the user's code
        self._stopped = False
        self.fed = 0
        self.error: BaseException | None = None  # raised by the iterable; the earlier items are run
        _feeders.add(self)

    def begin(self) -> None:
        """Read the first items; on a thread if that may take time, unless all are to be read now."""
        if self._ahead != ALL and not self.at_hand and not self._one_by_one:
            self.start()
            return
        self.feed()
        if self._ahead == ALL:
            self.check()
        else:
            self._inline = True

    def check(self) -> None:
        """Raise the exception of the iterable, if it has raised one."""
        error, self.error = self.error, None
        if error is None:
            return
        try:
            raise error
        finally:
            del error  # its traceback has this frame: a cycle would keep all values of the frames

    def start(self) -> None:
        """Read items on a thread of its own, in the caller's context."""
        main = copy_context().run
        self._thread = threading.Thread(target=main, args=(self._main,), name="runwide-feeder", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Read all items in this thread, as places become free."""
        while not self._source.closed:
            self._taking = True
            self.feed()
            self._taking = False
            self._wait_for_room()

    def feed(self) -> None:
        """Read as many items as may be ahead now."""
        limit = self._ahead or self._adapted()
        self._low = limit - max(1, limit // _STEPS)
        try:
            while not self._source.closed and self.fed - self._consumed < limit and self._put_next():
                pass
        except Exception as error:
            self.error = error
            self._end()
        # The scheduler sets `hungry` and then looks once more, so it never misses an item.
        if self._call.hungry and self._source.available():
            self._wake()

    def consume(self, number: int = 1) -> None:
        """Note that outcomes have been consumed: as many more items may be read."""
        self._consumed += number
        if self._one_by_one or self.fed - self._consumed > self._low:
            return
        if self._waits:
            self._room.set()
        elif self._inline:
            self.feed()

    def supply(self) -> None:
        """Read an item, if items are read one by one: the consumer is about to wait for an outcome."""
        if self._one_by_one:
            self.feed()

    def feed_all(self) -> None:
        """Read all items, even if no outcomes are consumed."""
        self._ahead = ALL
        if self._thread is None:
            self.feed()
        self._room.set()

    def stop(self, error: BaseException | None = None) -> None:
        """Read no more items. This does not wait for the iterable, which may wait for anything.

        Args:
            error: Raised in the consumer, if there may have been more items.
        """
        if not self._source.closed and self.error is None:
            self.error = error
        self._stopped = True
        self._items = ()
        self._end()
        self._room.set()

    def join(self) -> None:
        """Wait for the thread of a stopped feeder, unless it is in the user's code."""
        thread = self._thread
        waits = not self._taking and not sys.is_finalizing()  # then threads do not run any more
        if thread is not None and thread is not threading.current_thread() and waits:
            thread.join()

    def _adapted(self) -> int:
        adapted = policy.lookahead(self._call.pace, workers=self._workers)
        return max(adapted, 2 * self._workers * (self._call.chunksize or 1))

    def _put_next(self) -> bool:
        """Read one item, and add it to the call unless the feeder was stopped meanwhile."""
        if self._iterator is None:
            self._iterator = iter(self._items)
        item = next(self._iterator, _END)
        if item is _END:
            self._end()
        if item is _END or self._stopped:
            return False
        self._source.put(item)
        self.fed += 1
        if self._call.hungry:
            self._wake()
        return True

    def _wake(self) -> None:
        self._call.hungry = False
        self._ring()

    def _end(self) -> None:
        """Close the source."""
        self._source.close()
        self._ring()

    def _main(self) -> None:
        try:
            self.run()
        except BaseException as error:  # such as sys.exit() in the iterable; the consumer gets it
            self.stop(error)
        finally:
            self._taking = False
            # If this is the last reference to a generator, it is closed here.
            self._items, self._iterator = (), None

    def _wait_for_room(self) -> None:
        self._waits = True  # set first, since the consumer counts before it looks
        while not self._source.closed and self._ahead != ALL and self.fed - self._consumed > self._low:
            self._room.wait(SIGNAL_SECONDS)
            self._room.clear()
        self._waits = False


_feeders: weakref.WeakSet[Feeder] = weakref.WeakSet()


def forget_all() -> None:
    """Forget the feeders in a fork: they belong to the parent."""
    _feeders.clear()


def stop_all() -> None:
    """Read no more items of iterables that may wait for anything, when the program ends."""
    for feeder in list(_feeders):
        if not feeder.at_hand:
            feeder.stop()
