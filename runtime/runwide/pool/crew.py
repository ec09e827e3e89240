"""All workers of a pool: start them, watch them, ask them to leave, and remove those that have ended."""

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
    """The limits of time and number for the life of workers.

    Args:
        start_seconds: Time after which a worker that has not reported is replaced; imports from a cold disk take seconds.
        start_failures: Deaths in a row of workers that were not ready, after which the environment is to blame, and no task.
        start_kills: The same for deaths by a SIGKILL from outside, which says little about the environment.
        line_seconds: Time that a worker may live after its connection to the pool has ended.
        exit_seconds: Time after which a worker that was asked to leave is killed.
        memory_seconds: Interval at which the memory of busy workers is measured.
    """

    start_seconds: float = 60.0
    start_failures: int = 3
    start_kills: int = 20
    line_seconds: float = 1.0
    exit_seconds: float = 5.0
    memory_seconds: float = 0.1


TIMING = Timing()


class Workers:
    """All workers of one pool.

    Args:
        options: The options with which workers are started.
        selector: The selector that watches their sockets and their ends; its data are the slots.
    """

    def __init__(self, options: SlotOptions, selector: selectors.BaseSelector) -> None:
        self._options = options
        self.timing = TIMING
        self._selector = selector
        self._retired: list[Slot] = []
        self.slots: dict[int, Slot] = {}
        self.opened = 0
        """Number of workers that have been started."""

    def __iter__(self) -> Iterator[Slot]:
        """Iterate over all workers that are alive, also those that are leaving."""
        return iter((*self.slots.values(), *self._retired))

    @property
    def busy(self) -> bool:
        """Return whether any worker has work."""
        return any(slot.chunks for slot in self)

    def idle(self) -> Slot | None:
        """Return a worker that could start a task at once."""
        return next((slot for slot in self.slots.values() if slot.idle), None)

    def starting(self) -> int:
        """Return the number of workers whose interpreter is not up yet."""
        return sum(1 for slot in self.slots.values() if not slot.greeted)

    def free(self) -> int:
        """Return the number of workers without work, including those that are starting or about to finish."""
        # Once all results of a chunk have come, the message that it is done follows at once.
        return sum(
            1 for slot in self.slots.values() if all(chunk.ended == len(chunk) for chunk in slot.chunks)
        )

    def open(self, variables: Mapping[str, str]) -> None:
        """Start one more worker.

        Args:
            variables: Variables that limit the threads of libraries in it.
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
        """Pass on everything that the workers have printed until now."""
        for slot in self:
            for pipe in (slot.stdout, slot.stderr):
                self._options.output.catch_up(pipe, whole=not slot.chunks)

    def watch(self, slot: Slot) -> None:
        """Watch for room to write only while a message waits to be written."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if slot.channel.wants_to_write else 0)
        if slot.line_lost_at is None and self._selector.get_key(slot.channel).events != wanted:
            self._selector.modify(slot.channel, wanted, slot)

    def lose_line(self, slot: Slot) -> None:
        """Handle the end of a worker's connection: it is dying, or lives on and cannot be reached."""
        self._selector.unregister(slot.channel)
        slot.line_lost_at = time.monotonic()

    def retire(self, slot: Slot) -> None:
        """Let a worker leave, and another one take its place. Its messages are handled until it has left."""
        slot.leave(time.monotonic() + self.timing.exit_seconds)
        self.watch(slot)
        del self.slots[slot.number]
        self._retired.append(slot)

    def discard(self, slot: Slot) -> int:
        """Kill a worker if it still lives, free its place, and return its exit status."""
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
        """Close the pipes that would keep the workers alive, in a fork of the pool's process."""
        for slot in self:
            slot.abandon()

    def overdue(self) -> list[Slot]:
        """Return the workers that take too long: to start, to leave, or for their task."""
        now = time.monotonic()
        return [slot for slot in self if (deadline := self._deadline(slot)) is not None and now >= deadline]

    def patience(self) -> float | None:
        """Return the seconds until a worker may be overdue."""
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
        """End all workers: kill them, or ask them to leave and wait first."""
        if not kill:
            deadline = time.monotonic() + self.timing.exit_seconds
            for slot in self:
                slot.leave(deadline)
            for slot in self:
                slot.process.wait(max(0.0, deadline - time.monotonic()))
        for slot in list(self):
            with suppress(OSError):
                self.discard(slot)
