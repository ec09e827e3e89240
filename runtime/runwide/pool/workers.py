"""The workers of a pool: started, watched, asked to leave, and replaced."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import log, settings
from runwide.host import threads
from runwide.pool import channel, process, worker
from runwide.pool.channel import Channel
from runwide.pool.entry import Ends, Handed
from runwide.pool.output import STDERR, STDOUT
from runwide.pool.scratch import remove_file
from runwide.pool.worker_setup import Setup
from runwide.streams import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runwide.pool.call import Call, Chunk, Payload
    from runwide.pool.leases import Lease
    from runwide.pool.output import Output
    from runwide.pool.scratch import Scratch


_generations = count(1)

_FUNCTIONS = 64
"""Number of functions that a worker keeps; large functions, which come in a file, are kept for their call only."""


class SlotOptions(NamedTuple):
    """The options with which workers are started.

    Args:
        devices: Variables that give each worker its own device, by number of the slot; empty if there are no devices.
        initializer: The callable that a worker calls first.
        stays: Whether workers are kept between calls.
    """

    scratch: Scratch
    output: Output
    devices: Sequence[Mapping[str, str]]
    initializer: Payload | None = None
    stays: bool = False


class Slot:
    """A worker process and the chunks that it holds; replaced as a whole when the process dies."""

    def __init__(self, number: int, options: SlotOptions, variables: Mapping[str, str]) -> None:
        self.number = number
        self.environment = {**variables, **(options.devices[number] if options.devices else {})}
        self._variables = variables
        self.tag = f"w{number}-{next(_generations)}"
        self._options = options
        self.rss = 0
        self.peak_rss = 0
        self.chunks: deque[Chunk] = deque()
        self.functions: dict[str, None] = {}  # keys, in the order in which they were used first
        self.definitions: dict[str, int] = {}  # by key, a hash of the pickle that was sent
        self.greeted = False  # whether its interpreter is up
        self.ready = False  # whether its initializer has run
        self.leaving = False
        self.exit_deadline: float | None = None
        self.line_lost_at: float | None = None  # on the monotonic clock
        self.killed = False  # whether the pool has killed it
        self.timed_out = False  # whether its task has passed the timeout
        self.too_large = False  # whether it was stopped before memory ran out
        self.stopped = False  # whether its call was cancelled
        self.worn = False  # whether it is replaced once it is free
        self.stops = False  # whether it was asked to start no more tasks
        self.waits_for_room = False  # whether one of its results waits for room
        self.gone = False
        self.task_started = 0.0  # start of the task that killed it, on the monotonic clock
        self.tasks_run = 0
        self.started_at = time.monotonic()
        with ExitStack() as made:
            made.callback(options.scratch.forget, self.tag)
            self._open(made)
            self._release = made.pop_all().close
        self._fields = {**log.fields(), "worker": number}
        directories, tag = options.scratch.directories, f"{self.tag}-out"
        about = self._fields, log.for_workers(), settings.signing_key()
        self.channel.send(
            Setup(f"runwide-w{number}", self._status_path, directories, tag, os.getpid(), *about)
        )
        first = options.initializer
        initializer = (None, None) if first is None else (first.path, first.entry)
        self.channel.send((worker.PREPARE, *initializer, options.stays))
        self.stdout.known = self.stderr.known = self._fields
        try:
            options.output.watch(self.stdout, STDOUT)  # this may start a thread
            options.output.watch(self.stderr, STDERR)
        except BaseException:
            self.close()
            raise

    def _open(self, made: ExitStack) -> None:
        """Start the process. Its resources are released when ``made`` is closed."""
        output, number = self._options.output, self.number
        keep_standard_descriptors()
        with ExitStack() as handed:  # our copies are closed, so that the streams end with the worker
            self._status_path, words = self._options.scratch.make(f"{self.tag}.status", channel.BYTES)
            made.callback(remove_file, self._status_path)
            self.status = channel.StatusWords(words)
            made.callback(self.status.close)
            ours, theirs = socket.socketpair()
            handed.callback(theirs.close)
            self.channel = Channel(ours)
            made.callback(self.channel.close)
            # Only this process has the writing end, so the pipe ends with this process, in any case. There is one pipe for
            # each worker, since the kernel signals the end of an open file to one process only.
            alive, self._lifeline = os.pipe()
            handed.callback(os.close, alive)
            made.callback(self.abandon)
            self.stdout, stdout = output.pipe()
            handed.callback(os.close, stdout)
            made.callback(output.finish, self.stdout)
            self.stderr, stderr = output.pipe()
            handed.callback(os.close, stderr)
            made.callback(output.finish, self.stderr)
            ends = Ends(*map(Handed, (theirs.fileno(), alive, stdout, stderr)))
            self.process = process.start(f"runwide-worker-{number}", ends, self.environment)

    @property
    def idle(self) -> bool:
        """Return whether the worker could start a task at once."""
        return self.rests and not self.leaving and self.line_lost_at is None

    @property
    def rests(self) -> bool:
        """Return whether the worker runs no code of the user."""
        return self.ready and not self.chunks

    def task_deadline(self) -> float | None:
        """Return the deadline of the running task, on the monotonic clock; None for no limit."""
        timeout = self.chunks[0].call.budget.timeout
        if timeout is None:
            return None
        doing = self.status.read()
        if doing.position is None or doing.ended or doing.chunk != self.chunks[0].number:
            return time.monotonic() + timeout
        return doing.started + timeout

    def runs(self, lease: Lease) -> bool:
        """Return whether the worker has tasks of this lease."""
        return any(chunk.call.lease is lease for chunk in self.chunks)

    def stop(self) -> None:
        """Ask the worker to start no more tasks."""
        self.stops = True
        self.status.stop()

    def go_on(self) -> None:
        """Let a worker that was stopped start tasks again."""
        if self.stops:
            self.stops = False
            self.status.go_on()

    def send_function(self, call: Call) -> None:
        """Send the worker a function, which it keeps for later calls."""
        function = call.function
        if function.key not in self.functions:
            if len(self.functions) >= _FUNCTIONS:
                self._drop_function(next(iter(self.functions)))
            self.functions[function.key] = None
            self.channel.send((worker.FUNCTION, function.key, function.path, function.entry))

    def send_variables(self, variables: Mapping[str, str]) -> None:
        """Send variables that limit the threads of libraries in the worker."""
        if variables != self._variables:
            # Variables that only the last call has set get the user's values again.
            own = threads.of_the_user(self._variables.keys() - variables.keys())
            self._variables = variables
            self.channel.send((worker.VARIABLES, {**own, **variables}))

    def send_fields(self, fields: Mapping[str, Any]) -> None:
        """Send the fields of lines that the worker logs and prints."""
        fields = {**fields, "worker": self.number}
        if fields != self._fields:
            self._fields = self.stdout.known = self.stderr.known = fields
            self.channel.send((worker.FIELDS, fields))

    def send_definitions(self, definitions: Mapping[str, bytes]) -> None:
        """Send the definitions that are new to the worker, or have changed."""
        for key, data in definitions.items():
            if self.definitions.get(key) != (digest := hash(data)):
                self.definitions[key] = digest
                self.channel.send((worker.DEFINITION, key, data))

    def forget(self, call: Call) -> None:
        """Make the worker drop the function of a call."""
        if call.function.key in self.functions:
            self._drop_function(call.function.key)

    def _drop_function(self, key: str) -> None:
        del self.functions[key]
        self.channel.send((worker.FORGET, key))

    def leave(self, deadline: float) -> None:
        """Ask the worker to leave after its chunks, until the deadline."""
        if not self.leaving:
            self.leaving = True
            self.exit_deadline = deadline
            self.channel.send((worker.EXIT,))

    def abandon(self) -> None:
        """Close the pipe that shows the worker that the pool lives, in a fork of the pool's process."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def close(self) -> None:
        """Kill the process if it still runs, and release all resources of this slot."""
        self.process.kill_tree()
        self.process.close()
        self._release()

    def last_words(self) -> str:
        """Return the last lines that the worker wrote to standard error."""
        return "\n".join(self.stderr.tail.lines())


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
        """Start one more worker."""
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
