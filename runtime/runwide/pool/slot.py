"""One worker's place in the pool: its process, its line, and what was sent there."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import log, settings
from runwide.host import threads
from runwide.pool import process, status, worker
from runwide.pool.channel import Channel
from runwide.pool.entry import Ends, Handed
from runwide.pool.output import STDERR, STDOUT
from runwide.pool.scratch import remove
from runwide.pool.station import Station
from runwide.writing import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runwide.pool.call import Call, Payload, Tasks
    from runwide.pool.lease import Lease
    from runwide.pool.output import Output
    from runwide.pool.scratch import Scratch
    from runwide.pool.status import Doing

_chunks = count(1)
_generations = count(1)

_FUNCTIONS = 64
"""Functions that a worker keeps; larger ones, which come in a file, end with their call."""


class Chunk:
    """Tasks on their way through a worker."""

    __slots__ = ("call", "ended", "exhausted", "number", "payload", "queued", "tasks")

    def __init__(self, call: Call, tasks: Tasks, payload: int) -> None:
        self.number = next(_chunks)
        self.call = call
        self.tasks = tasks
        self.payload = payload
        self.ended = 0  # results that came back
        self.exhausted = False  # its worker has no descriptors left
        self.queued = time.monotonic()

    def __len__(self) -> int:
        return len(self.tasks.items)


class Remains(NamedTuple):
    """What a dead worker's chunk leaves.

    Args:
        uncharged: Tasks that had ended but not arrived, or not begun, in order of index.
        guilty: The one that ran when the worker died, if that is known.
    """

    uncharged: tuple[Tasks, ...] = ()
    guilty: Tasks | None = None


def split(chunk: Chunk, doing: Doing | None) -> Remains:
    """Tell apart what a dead worker's chunk leaves.

    Args:
        chunk: Its first ``ended`` results have arrived.
        doing: What the worker was doing with it; None if that was something else.
    """
    tasks, ended, size = chunk.tasks, chunk.ended, len(chunk)
    if doing is None or doing.position is None or doing.position < ended:
        return Remains(_some(tasks.part(ended)))
    position, stop = doing.position, min(doing.position + doing.tasks, size)
    before, after = tasks.part(ended, position), tasks.part(stop)
    if doing.tasks == 1:
        return Remains(_some(before, after), tasks.part(position, stop))
    # It ran several in one go, and the guilty is among them: they run again one by one.
    among = tasks.part(position, stop)
    among.fine = True
    return Remains(_some(before, among, after))


def _some(*parts: Tasks) -> tuple[Tasks, ...]:
    return tuple(part for part in parts if part.items)


class SlotOptions(NamedTuple):
    """How workers are started.

    Args:
        scratch: The pool's payload directories.
        output: What passes on what they print.
        devices: Variables that give each worker its own device, by number of the slot; empty where there are none.
        initializer: What a worker calls first.
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
        self.definitions: dict[str, int] = {}  # by key, a hash of what was sent
        self.greeted = False  # its interpreter is up
        self.ready = False  # its initializer has run
        self.leaving = False
        self.exit_deadline: float | None = None
        self.line_lost_at: float | None = None  # on the monotonic clock
        self.killed = False  # by the pool: it did not end by itself
        self.timed_out = False  # past its task's timeout
        self.too_large = False  # stopped before the kernel stops everybody
        self.stopped = False  # its call was cancelled
        self.worn = False  # to be replaced once it is free
        self.stops = False  # was asked to start no further task
        self.waits_for_room = False  # with a result
        self.gone = False
        self.task_started = 0.0  # of the task that it died of, on the monotonic clock
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
            Station(f"runwide-w{number}", self._status_path, directories, tag, os.getpid(), *about)
        )
        first = options.initializer
        initializer = (None, None) if first is None else (first.path, first.entry)
        self.channel.send((worker.PREPARE, *initializer, options.stays))
        self.stdout.known = self.stderr.known = self._fields
        try:
            options.output.watch(self.stdout, STDOUT)  # which may have to start a thread first
            options.output.watch(self.stderr, STDERR)
        except BaseException:
            self.close()
            raise

    def _open(self, made: ExitStack) -> None:
        """Start the process; whatever is made for it is released with ``made``."""
        output, number = self._options.output, self.number
        keep_standard_descriptors()
        with ExitStack() as handed:  # our copies are closed, so that the worker's death is an end of file
            self._status_path, words = self._options.scratch.make(f"{self.tag}.status", status.BYTES)
            made.callback(remove, self._status_path)
            self.status = status.StatusWords(words)
            made.callback(self.status.close)
            ours, theirs = socket.socketpair()
            handed.callback(theirs.close)
            self.channel = Channel(ours)
            made.callback(self.channel.close)
            # Its writing end is open in this process only, so the worker sees its end with ours, however that comes. One
            # pipe a worker, since the kernel tells one process only of the end of an open file.
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
        """Whether it could start a task at once."""
        return self.rests and not self.leaving and self.line_lost_at is None

    @property
    def rests(self) -> bool:
        """Whether it runs nothing of the user's."""
        return self.ready and not self.chunks

    def task_deadline(self) -> float | None:
        """When the running task must have ended, on the monotonic clock; None for no limit."""
        timeout = self.chunks[0].call.budget.timeout
        if timeout is None:
            return None
        doing = self.status.read()
        if doing.position is None or doing.ended or doing.chunk != self.chunks[0].number:
            return time.monotonic() + timeout
        return doing.started + timeout

    def runs(self, lease: Lease) -> bool:
        """Whether it has tasks of that lease."""
        return any(chunk.call.lease is lease for chunk in self.chunks)

    def stop(self) -> None:
        """Ask the worker to start no further task."""
        self.stops = True
        self.status.stop()

    def go_on(self) -> None:
        """Let a worker that has stopped start tasks again."""
        if self.stops:
            self.stops = False
            self.status.go_on()

    def send_function(self, call: Call) -> None:
        """Give the worker a function, which it keeps for later calls."""
        function = call.function
        if function.key not in self.functions:
            if len(self.functions) >= _FUNCTIONS:
                self._drop_function(next(iter(self.functions)))
            self.functions[function.key] = None
            self.channel.send((worker.FUNCTION, function.key, function.path, function.entry))

    def send_variables(self, variables: Mapping[str, str]) -> None:
        """Have the libraries in the worker use as many threads as these say."""
        if variables != self._variables:
            # What the call before set and this one does not is the user's again.
            own = threads.of_the_user(self._variables.keys() - variables.keys())
            self._variables = variables
            self.channel.send((worker.VARIABLES, {**own, **variables}))

    def send_fields(self, fields: Mapping[str, Any]) -> None:
        """Have what the worker logs and prints carry these."""
        fields = {**fields, "worker": self.number}
        if fields != self._fields:
            self._fields = self.stdout.known = self.stderr.known = fields
            self.channel.send((worker.FIELDS, fields))

    def send_definitions(self, definitions: Mapping[str, bytes]) -> None:
        """Give the worker the definitions that it does not have, or not as they are now."""
        for key, data in definitions.items():
            if self.definitions.get(key) != (digest := hash(data)):
                self.definitions[key] = digest
                self.channel.send((worker.DEFINITION, key, data))

    def forget(self, call: Call) -> None:
        """Let the worker drop the function of a call."""
        if call.function.key in self.functions:
            self._drop_function(call.function.key)

    def _drop_function(self, key: str) -> None:
        del self.functions[key]
        self.channel.send((worker.FORGET, key))

    def leave(self, deadline: float) -> None:
        """Ask the worker to leave when it has done what it was sent, and by when."""
        if not self.leaving:
            self.leaving = True
            self.exit_deadline = deadline
            self.channel.send((worker.EXIT,))

    def abandon(self) -> None:
        """In a fork of the pool's process: let go of what tells the worker that the pool lives."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def close(self) -> None:
        """Kill the process if it still runs, and release everything of this slot."""
        self.process.kill_tree()
        self.process.close()
        self._release()

    def last_words(self) -> str:
        """The last lines that the worker wrote to standard error."""
        return "\n".join(self.stderr.tail.lines())
