"""What runs in a worker process: take a chunk, run its tasks, send results as they finish."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import arriving, definitions
from runwide.naming import text_of
from runwide.pool import transfer
from runwide.pool.channel import WorkerChannel
from runwide.pool.failed import failed
from runwide.pool.meter import Meter
from runwide.pool.outbox import Outbox
from runwide.pool.scratch import Scratch, open_mapping
from runwide.pool.station import Station, arrange, join, leave
from runwide.pool.status import StatusWords
from runwide.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# messages to a worker
PREPARE, FUNCTION, RUN, FORGET, EXIT = "prepare", "function", "run", "forget", "exit"
DEFINITION = "definition"
# messages from a worker, with RESULTS
HELLO, READY, UNFIT, DONE, BROKEN, STOPPED = "hello", "ready", "unfit", "done", "broken", "stopped"

_STEP_SECONDS = 0.001
_STEP_TASKS = 1024

inside = False
"""Whether this process is a worker."""

_forked = False


def main(name: str, line: int, alive: int, shared: Mapping[str, Any]) -> None:
    """Serve one pool until it says so or is gone.

    Args:
        name: Name of the process.
        line: Descriptor of the line to the pool.
        alive: Descriptor of the pipe that ends with the pool's process.
        shared: What `runwide.pool.station.join` takes.
    """
    global inside  # noqa: PLW0603 - a fact about this process
    inside = True
    channel = WorkerChannel(socket.socket(fileno=line))
    with suppress(EOFError, ConnectionError):
        station: Station = channel.receive()
        status = StatusWords(station.status_path)
        scratch = Scratch(station.directories, station.tag)
        arrange(alive, station, status, scratch)
        join(name, alive, **shared)
        definitions.become_worker()
        os.register_at_fork(after_in_child=_note_fork)
        Worker(channel, status, scratch).serve()
        leave()


def _note_fork() -> None:
    global _forked  # noqa: PLW0603 - a fact about this process
    _forked = True


class Order(NamedTuple):
    """What is to be run.

    Args:
        call: Number of the call, whose function the worker has.
        chunk: Number of the chunk.
        indices: Indices of its items.
        fine: Whether to run task by task, since one of them has killed a worker.
        attempt: How often they have been started, with this time.
    """

    call: int
    chunk: int
    indices: Sequence[int]
    fine: bool
    attempt: int


class Worker:
    """The loop over messages, and over the tasks of a chunk.

    Args:
        channel: The line to the pool.
        status: The words in which it says what it does.
        scratch: Where large results go.
    """

    def __init__(self, channel: WorkerChannel, status: StatusWords, scratch: Scratch) -> None:
        self._channel = channel
        self._status = status
        self._outbox = Outbox(channel, scratch, status)
        self._functions: dict[int, tuple[str | None, Any]] = {}
        self._loaded: dict[int, Callable[[Any], Any]] = {}
        self._unread: list[tuple[str, bytes]] = []  # definitions for the next chunk

    def serve(self) -> None:
        """Run chunks until told to leave."""
        self._channel.send((HELLO,))
        while True:
            kind, *content = self._channel.receive()
            if kind == RUN:
                order, path, entries = content
                self._run(Order(*order), path, entries)
            elif kind == PREPARE:
                self._prepare(*content)
            elif kind == FUNCTION:
                call, path, entry = content
                self._functions[call] = (path, entry)
            elif kind == DEFINITION:
                self._unread.append(content)
            elif kind == FORGET:
                self._functions.pop(content[0], None)
                self._loaded.pop(content[0], None)
            elif kind == EXIT:
                return

    def _prepare(self, path: str | None, entry: Any, timed: bool | None) -> None:  # noqa: FBT001 - of a message
        self._outbox.meter = None if timed is None else Meter(each=timed)
        try:
            if entry is not None:
                transfer.load(entry, open_mapping(path, keep=True))()
        except BaseException as error:
            self._channel.send((UNFIT, failed(FailureKind.EXCEPTION, error)))
        else:
            self._channel.send((READY,))

    def _run(self, order: Order, path: str | None, entries: Sequence[Any]) -> None:
        status, outbox = self._status, self._outbox
        if status.stopping:
            self._channel.send((STOPPED,))
            return
        status.begin(order.chunk, order.indices, order.attempt)
        status.enter(0)  # loading the function or the payload may kill us as well
        while self._unread:
            arriving.learn(*self._unread.pop(0))
        try:
            function = self._function(order.call)
            mapping = open_mapping(path)
        except BaseException as error:
            self._channel.send((BROKEN, failed(FailureKind.PICKLING, error, "function")))
            return
        outbox.mapped = mapping is not None
        if outbox.meter is not None:
            function = outbox.meter.begin(function)
        began = time.monotonic()
        position, step = 0, 1
        while position < len(entries) and not status.stopping:
            batch = entries[position : position + step]
            status.enter(position, len(batch))
            started = time.monotonic()
            results = run_batch(function, batch, mapping, status)
            ended = time.monotonic()
            if _forked:  # a task forked, and its child came back here: it is no worker
                os._exit(0)
            status.end()
            position += len(results)
            if position == len(entries):
                mapping = None  # its room is free before the last results look for some
            if results:
                outbox.extend(results, started, ended)
            step = 1 if order.fine else next_step(step, ended - started)
        outbox.flush()
        status.leave()
        self._channel.send((DONE, time.monotonic() - began) if position == len(entries) else (STOPPED,))

    def _function(self, call: int) -> Callable[[Any], Any]:
        function = self._loaded.get(call)
        if function is None:
            path, entry = self._functions[call]
            # Other workers map the same file, so it keeps its name.
            function = self._loaded[call] = transfer.load(entry, open_mapping(path, keep=True))
        return function


def next_step(step: int, seconds: float) -> int:
    """How many tasks to run next in one go, after so many have taken so long.

    Tasks of microseconds are run many at a time, since saying what one does costs as much as doing it; a death
    among them is then looked into task by task.

    Example:
        >>> next_step(4, 1e-5), next_step(64, 0.0009), next_step(64, 0.5), next_step(1, 0.005)
        (8, 64, 1, 1)
    """
    if seconds < _STEP_SECONDS / 2:
        return min(2 * step, _STEP_TASKS)
    return step if seconds < 2 * _STEP_SECONDS else 1


def run_batch(
    function: Callable[[Any], Any], entries: Sequence[Any], mapping: memoryview | None, status: StatusWords
) -> list[Any]:
    """Run tasks one after another; whatever happens to one becomes its entry.

    Returns:
        Entries of the first tasks: of all, unless they were cut short.
    """
    if len(entries) == 1:
        return [run_task(function, entries[0], mapping)]
    results: list[Any] = []
    failures: dict[int, Any] = {}
    status.results = results
    append = results.append
    values = transfer.values_of(entries)
    plain = values is not None
    items = entries if values is None else values
    while len(results) < len(entries):
        # A list, since its iterator ends where another thread empties it.
        status.pending = pending = list(items[len(results) :])
        try:
            if plain:
                for entry in pending:
                    append(function(entry))
            else:
                for entry in pending:
                    append(run_task(function, entry, mapping))
        except BaseException as error:
            failures[len(results)] = failed(FailureKind.EXCEPTION, error)
            append(None)
        if not pending:
            break
    status.results, status.pending = [], []
    if not plain:
        return results
    if not failures and (whole := transfer.entries_of(results)) is not None:
        return list(whole)
    return [failures.get(position) or _as_entry(value) for position, value in enumerate(results)]


def run_task(function: Callable[[Any], Any], entry: Any, mapping: memoryview | None) -> Any:
    """Run one task; whatever happens becomes an entry."""
    try:
        item = entry if type(entry) is not tuple else transfer.load(entry, mapping)
    except BaseException as error:
        return failed(FailureKind.PICKLING, error, "item")
    try:
        value = function(item)
    except BaseException as error:
        return failed(FailureKind.EXCEPTION, error)
    return _as_entry(value)


def _as_entry(value: Any) -> Any:
    plain = transfer.entries_of([value])
    if plain is not None:
        return plain[0]
    try:
        return (transfer.FRAME, *transfer.dump_by_reference_first(value))
    except BaseException as error:
        from runwide.unpicklable import located

        return failed(FailureKind.PICKLING, error, "result", located(text_of(error), value))
