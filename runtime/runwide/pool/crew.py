"""The workers of a pool as a set: they are started, watched, asked to leave, and buried here."""

from __future__ import annotations

import selectors
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from runwide.pool.slot import Slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runwide.pool.slot import SlotOptions


class Timing(NamedTuple):
    """How long a pool waits for what.

    Args:
        start_seconds: A worker that has not said hello by then is replaced; imports from a cold disk take seconds.
        start_failures: Deaths in a row before a worker is ready after which the environment, not a task, is to blame.
        start_kills: The same for deaths by a SIGKILL from outside, which says little about the environment.
        line_seconds: How long a worker may live on after its line to the pool has ended.
        exit_seconds: How long a worker that was asked to leave may take before it is killed.
        memory_seconds: How often the memory of busy workers is looked at.
    """

    start_seconds: float = 60.0
    start_failures: int = 3
    start_kills: int = 20
    line_seconds: float = 1.0
    exit_seconds: float = 5.0
    memory_seconds: float = 0.1


class Crew:
    """All workers of one pool.

    Args:
        options: How they are started.
        timing: How long they may take.
        selector: Where their sockets and ends are watched, with the slot as data.
    """

    def __init__(self, options: SlotOptions, timing: Timing, selector: selectors.BaseSelector) -> None:
        self._options = options
        self.timing = timing
        self._selector = selector
        self._retired: list[Slot] = []
        self.slots: dict[int, Slot] = {}
        self.opened = 0
        """How many have been started."""

    def __iter__(self) -> Iterator[Slot]:
        """All that are alive, those that are leaving included."""
        return iter((*self.slots.values(), *self._retired))

    @property
    def busy(self) -> bool:
        """Whether any worker has something to do."""
        return any(slot.chunks for slot in self)

    def idle(self) -> Slot | None:
        """A worker that could start at once."""
        return next((slot for slot in self.slots.values() if slot.idle), None)

    def starting(self) -> int:
        """How many have an interpreter that is not up yet."""
        return sum(1 for slot in self.slots.values() if not slot.greeted)

    def free(self) -> int:
        """How many workers have, or will have in a moment or when they have started, nothing to do."""
        # Of a chunk whose results have all come, the word that it is done follows at once.
        return sum(
            1 for slot in self.slots.values() if all(chunk.ended == len(chunk) for chunk in slot.chunks)
        )

    def open(self, variables: Mapping[str, str]) -> None:
        """Start one more.

        Args:
            variables: What limits the threads of libraries in it.
        """
        number = next(number for number in count() if number not in self.slots)
        self.opened += 1
        slot = Slot(number, self._options, variables)
        try:
            self._selector.register(slot.channel, selectors.EVENT_READ, slot)
            self._selector.register(slot.process.sentinel, selectors.EVENT_READ, slot)
        except BaseException:  # the kernel watches no more files
            with suppress(KeyError):
                self._selector.unregister(slot.channel)
            slot.close()
            raise
        self.slots[number] = slot

    def catch_up(self) -> None:
        """Pass on all that the workers have printed until now."""
        for slot in self:
            for pipe in (slot.stdout, slot.stderr):
                self._options.output.catch_up(pipe, whole=not slot.chunks)

    def watch(self, slot: Slot) -> None:
        """Ask the selector for room to write only while something waits to be written."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if slot.channel.wants_to_write else 0)
        if slot.line_lost_at is None and self._selector.get_key(slot.channel).events != wanted:
            self._selector.modify(slot.channel, wanted, slot)

    def lose_line(self, slot: Slot) -> None:
        """Its line has ended: it is dying, or lives on and cannot be talked to."""
        self._selector.unregister(slot.channel)
        slot.line_lost_at = time.monotonic()

    def retire(self, slot: Slot) -> None:
        """Let a worker leave and its place be taken; it is attended until it has left."""
        slot.leave(time.monotonic() + self.timing.exit_seconds)
        self.watch(slot)
        del self.slots[slot.number]
        self._retired.append(slot)

    def bury(self, slot: Slot) -> int:
        """Kill a worker if it still lives, and give its place free; returns its exit status."""
        slot.process.kill_tree(rests=slot.rests)
        exitcode = slot.process.exitcode()
        if slot.line_lost_at is None:
            self._selector.unregister(slot.channel)
        self._selector.unregister(slot.process.sentinel)
        slot.gone = True
        slot.close()
        if self.slots.get(slot.number) is slot:
            del self.slots[slot.number]
        else:
            self._retired.remove(slot)
        return -9 if exitcode is None else exitcode

    def abandon(self) -> None:
        """In a fork of the pool's process: let go of what would keep the workers alive."""
        for slot in self:
            slot.abandon()

    def overdue(self) -> list[Slot]:
        """Workers that take too long: to start, to leave, or with their task."""
        now = time.monotonic()
        return [slot for slot in self if (deadline := self._deadline(slot)) is not None and now >= deadline]

    def patience(self) -> float | None:
        """Seconds until one may be overdue."""
        deadlines = [deadline for slot in self if (deadline := self._deadline(slot)) is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _deadline(self, slot: Slot) -> float | None:
        if slot.line_lost_at is not None:
            return slot.line_lost_at + self.timing.line_seconds
        if not slot.greeted:
            return slot.started_at + self.timing.start_seconds
        if slot.chunks:
            return slot.task_deadline()
        return slot.exit_deadline

    def close(self, *, kill: bool) -> None:
        """End all of them: by asking and waiting first, unless told to kill."""
        if not kill:
            deadline = time.monotonic() + self.timing.exit_seconds
            for slot in self:
                slot.leave(deadline)
            for slot in self:
                slot.process.wait(max(0.0, deadline - time.monotonic()))
        for slot in list(self):
            with suppress(OSError):
                self.bury(slot)
