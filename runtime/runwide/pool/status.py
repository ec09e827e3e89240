"""Status words: a few words of shared memory in which a worker notes, at no cost, which task it runs.

The pool reads them when the worker has died. The worker writes them, and the pool reads them, except for two words with
which the pool asks the worker to stop. Each write is one aligned 8-byte store.
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
"""The longest run of several tasks in one go, in nanoseconds; they were expected to take one millisecond."""


class Doing(NamedTuple):
    """The work of a worker when the words were read.

    Args:
        chunk: Number of the chunk.
        position: Position of the task in it, from 0; None between tasks.
        tasks: Number of tasks from there that it ran in one go.
        started: ``time.monotonic()`` of their start, in seconds.
        ended: Whether they have run, and only their results were not sent yet.
    """

    chunk: int
    position: int | None
    tasks: int
    started: float
    ended: bool


class StatusWords:
    """The status words of one worker. Both sides map a file of `BYTES` zeros that the pool has made.

    Args:
        file: Path of the file, or a descriptor, which is closed here.
    """

    def __init__(self, file: str | int) -> None:
        descriptor = file if isinstance(file, int) else os.open(file, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, BYTES)
        finally:
            os.close(descriptor)
        self.words = memoryview(self._map).cast("Q")
        self._items: Sequence[int] = ()  # set in the worker only
        self._attempt = 1  # likewise
        self.results: list[object] = []  # of the tasks that run in one go, so far; set in the worker only
        self.pending: list[Any] = []  # their items; if this is emptied, the run ends after the present task

    def begin(self, chunk: int, items: Sequence[int], attempt: int) -> None:
        """Note that the worker begins a chunk: the indices of its items, and the number of the attempt."""
        self.words[_POSITION] = 0
        self._items = items
        self._attempt = attempt
        self.words[_CHUNK] = chunk

    def enter(self, position: int, count: int = 1) -> None:
        """Note that the worker starts a task, or several in one go."""
        self.words[_STARTED] = time.monotonic_ns()
        self.words[_COUNT] = count
        self.words[_ENDED] = 0
        self.words[_POSITION] = position + 1

    def end(self) -> None:
        """Note that the tasks have ended. Until their results are sent, a death is still charged to them."""
        self.words[_ENDED] = 1

    def leave(self) -> None:
        """Note that the worker is between tasks."""
        self.words[_POSITION] = 0

    def stop(self) -> None:
        """Ask the worker to start no more tasks."""
        self.words[_STOP] = 1

    def go_on(self) -> None:
        """Let the worker start tasks again; it has none now."""
        self.words[_STOP] = 0

    @property
    def stopping(self) -> bool:
        """Return whether the worker should start no more tasks."""
        return bool(self.words[_STOP])

    def begin_waiting(self) -> None:
        """Note that the worker begins to wait for room for a result."""
        self.words[_FULL] = self.words[_WRITES] = 0

    def give_up(self) -> None:
        """Tell the worker that there will be no room for the result that waits."""
        self.words[_FULL] = 1

    @property
    def given_up(self) -> bool:
        """Return whether the pool has given up the result that waits."""
        return bool(self.words[_FULL])

    @property
    def writing(self) -> bool:
        """Return whether a result that has waited is being written or sent; it may find no room after all."""
        return bool(self.words[_WRITES])

    @writing.setter
    def writing(self, writes: bool) -> None:
        self.words[_WRITES] = writes

    def cut(self) -> None:
        """End a run of several tasks after the present task, if it takes long or should stop. Any thread may call it."""
        if self.pending and (self.stopping or time.monotonic_ns() - self.words[_STARTED] > _GO_NS):
            self.pending.clear()

    def item(self) -> int | None:
        """Return the index of the item that runs now; None between tasks."""
        position = self.words[_POSITION]
        return self._items[position - 1 + len(self.results)] if position else None

    def task(self) -> dict[str, int]:
        """Return the item and the attempt that run now, for a log; an empty dict between tasks."""
        item = self.item()
        return {} if item is None else {"item": item, "attempt": self._attempt}

    def read(self) -> Doing:
        """Return the present or last work of the worker."""
        position = self.words[_POSITION]
        return Doing(
            self.words[_CHUNK],
            position - 1 if position else None,
            self.words[_COUNT],
            self.words[_STARTED] / 1e9,
            bool(self.words[_ENDED]),
        )

    def close(self) -> None:
        """Unmap the file, which belongs to the pool's scratch directory."""
        self.words.release()
        self._map.close()
