"""A few words of shared memory in which a worker says, at no cost, what it is doing.

When a worker dies nobody can ask it which task it ran; these words still stand. They are written by the worker
alone and read by the pool alone, but for two in which the pool asks it to stop; each is one aligned 8-byte store.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK, _POSITION, _STARTED, _COUNT, _STOP, _FULL, _ENDED, _WRITES = range(8)
BYTES = 64  # one cache line

_GO_NS = 50_000_000
"""How long tasks that run in one go may do so without saying more, in nanoseconds: they were to take one millisecond."""


class Doing(NamedTuple):
    """What a worker was doing when the words were read.

    Args:
        chunk: Number of the chunk.
        position: Position of the task in it, from 0; None between tasks.
        tasks: Number of tasks from there that it ran in one go, without saying more.
        started: ``time.monotonic()`` of their start, in seconds.
        ended: Whether they have run, and only their results are still to be sent.
    """

    chunk: int
    position: int | None
    tasks: int
    started: float
    ended: bool


class StatusWords:
    """The words of one worker, mapped by both sides from a file of `BYTES` zeros that the pool has made.

    Args:
        file: Its path, or a descriptor, which is closed.
    """

    def __init__(self, file: str | int) -> None:
        descriptor = file if isinstance(file, int) else os.open(file, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, BYTES)
        finally:
            os.close(descriptor)
        self.words = memoryview(self._map).cast("Q")
        self._items: Sequence[int] = ()  # known in the worker only
        self._attempt = 1  # likewise
        self.results: list[object] = []  # of the tasks that run in one go, so far; known in the worker only
        self.pending: list[Any] = []  # their items; the run ends with the task that runs when this is emptied

    def begin(self, chunk: int, items: Sequence[int], attempt: int) -> None:
        """The worker takes up a chunk, whose items have these indices, and are tried for so many times now."""
        self.words[_POSITION] = 0
        self._items = items
        self._attempt = attempt
        self.words[_CHUNK] = chunk

    def enter(self, position: int, count: int = 1) -> None:
        """The worker starts a task, or some in one go."""
        self.words[_STARTED] = time.monotonic_ns()
        self.words[_COUNT] = count
        self.words[_ENDED] = 0
        self.words[_POSITION] = position + 1

    def end(self) -> None:
        """What ran has ended; until its results are sent, a death is still its own: they may be what kills."""
        self.words[_ENDED] = 1

    def leave(self) -> None:
        """The worker is between tasks."""
        self.words[_POSITION] = 0

    def stop(self) -> None:
        """The pool asks the worker to start no further task."""
        self.words[_STOP] = 1

    def go_on(self) -> None:
        """The pool takes that back; the worker has no tasks now."""
        self.words[_STOP] = 0

    @property
    def stopping(self) -> bool:
        """Whether the worker is to start no further task."""
        return bool(self.words[_STOP])

    def hope(self) -> None:
        """The worker begins to wait for room for a result."""
        self.words[_FULL] = self.words[_WRITES] = 0

    def give_up(self) -> None:
        """The pool tells the worker that there will be no room."""
        self.words[_FULL] = 1

    @property
    def hopeless(self) -> bool:
        """Whether there will be no room for the result that waits."""
        return bool(self.words[_FULL])

    @property
    def writing(self) -> bool:
        """Whether a result that has waited is being written, or is on its way; it may want for room after all."""
        return bool(self.words[_WRITES])

    @writing.setter
    def writing(self, writes: bool) -> None:
        self.words[_WRITES] = writes

    def cut(self) -> None:
        """End what runs in one go after the task that runs now, if it takes long or is to stop; any thread may."""
        if self.pending and (self.stopping or time.monotonic_ns() - self.words[_STARTED] > _GO_NS):
            self.pending.clear()

    def item(self) -> int | None:
        """Index of the item that runs now."""
        position = self.words[_POSITION]
        return self._items[position - 1 + len(self.results)] if position else None

    def task(self) -> dict[str, int]:
        """The item and the attempt that run now, for a log; nothing between tasks."""
        item = self.item()
        return {} if item is None else {"item": item, "attempt": self._attempt}

    def read(self) -> Doing:
        """What the worker is, or was last, doing."""
        position = self.words[_POSITION]
        return Doing(
            self.words[_CHUNK],
            position - 1 if position else None,
            self.words[_COUNT],
            self.words[_STARTED] / 1e9,
            bool(self.words[_ENDED]),
        )

    def close(self) -> None:
        """Unmap; the file belongs to the pool's scratch directory."""
        self.words.release()
        self._map.close()
