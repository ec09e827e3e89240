"""What runs in a worker process: take a chunk, run its tasks, send results as they finish."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import arriving, definitions, log, namespaces
from runwide.naming import shown, text_of
from runwide.pool import transfer
from runwide.pool.channel import WorkerChannel
from runwide.pool.failed import failed
from runwide.pool.meter import Meter
from runwide.pool.opened import Opened, flush
from runwide.pool.outbox import Outbox
from runwide.pool.scratch import Scratch, open_mapping
from runwide.pool.sources import Sources
from runwide.pool.station import Station, arrange, leave
from runwide.pool.status import StatusWords
from runwide.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.output import Prefixed

# messages to a worker
PREPARE, FUNCTION, RUN, FORGET, EXIT = "prepare", "function", "run", "forget", "exit"
DEFINITION, VARIABLES, FIELDS = "definition", "variables", "fields"
# messages from a worker, with RESULTS
HELLO, READY, UNFIT, DONE, BROKEN = "hello", "ready", "unfit", "done", "broken"
STOPPED, STALE = "stopped", "stale"

_STEP_SECONDS = 0.001
_STEP_TASKS = 1024

inside = False
"""Whether this process is a worker."""

_forked = False


def main(line: int, alive: int) -> None:
    """Serve one pool until it says so or is gone.

    Args:
        line: Descriptor of the line to the pool.
        alive: Descriptor of the pipe that ends with the pool's process.
    """
    global inside  # noqa: PLW0603 - a fact about this process
    inside = True
    channel = WorkerChannel(socket.socket(fileno=line))
    with suppress(EOFError, ConnectionError):
        station: Station = channel.receive()
        status = StatusWords(station.status_path)
        scratch = Scratch(station.directories, station.tag)
        streams = arrange(alive, station, status, scratch)
        definitions.become_worker()
        os.register_at_fork(after_in_child=_note_fork)
        Worker(channel, status, scratch, streams).serve()
        leave()


def _note_fork() -> None:
    global _forked  # noqa: PLW0603 - a fact about this process
    _forked = True


class Order(NamedTuple):
    """What is to be run.

    Args:
        function: Key of the function, which the worker has.
        call: Number of the call.
        chunk: Number of the chunk.
        indices: Indices of its items.
        fine: Whether to run task by task, since one of them has killed a worker.
        attempt: How often they have been started, with this time.
        named: Whether what its tasks print may be shown with their items.
        timed: Whether each task is timed, as a listener to events wants it, or False for groups of short ones; None for
            no measuring.
    """

    function: str
    call: int
    chunk: int
    indices: Sequence[int]
    fine: bool
    attempt: int
    named: bool
    timed: bool | None


class Worker:
    """The loop over messages, and over the tasks of a chunk.

    Args:
        channel: The line to the pool.
        status: The words in which it says what it does.
        scratch: Where large results go.
        streams: Its standard output and error.
    """

    def __init__(
        self,
        channel: WorkerChannel,
        status: StatusWords,
        scratch: Scratch,
        streams: tuple[Prefixed, ...] = (),
    ) -> None:
        self._streams = streams
        self._channel = channel
        self._status = status
        self._outbox = Outbox(channel, scratch, status)
        self._functions: dict[str, tuple[str | None, Any]] = {}  # by key
        self._loaded: dict[str, tuple[Callable[[Any], Any], int]] = {}
        self._meters: dict[bool, Meter] = {}
        self._sources = Sources()
        self._opened: Opened | None = None
        self._call = 0
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
                key, path, entry = content
                self._functions[key] = (path, entry)
            elif kind == DEFINITION:
                self._unread.append(content)
            elif kind == VARIABLES:
                apply_variables(*content)
            elif kind == FIELDS:
                log.set_fields(*content)
            elif kind == FORGET:
                self._functions.pop(content[0], None)
                self._loaded.pop(content[0], None)
            elif kind == EXIT:
                return

    def _prepare(self, path: str | None, entry: Any, stays: bool) -> None:  # noqa: FBT001 - of a message
        self._opened = Opened() if stays else None
        try:
            if entry is not None:
                transfer.load(entry, open_mapping(path, keep=True))()
                self._sources.note()
        except BaseException as error:
            self._channel.send((UNFIT, failed(FailureKind.EXCEPTION, error)))
        else:
            self._channel.send((READY,))

    def _run(self, order: Order, path: str | None, entries: Sequence[Any]) -> None:
        """Run a chunk, and say what came of it."""
        begins = order.call != self._call
        refused = self._refused(begins=begins)
        if refused is not None:
            self._channel.send((refused,))
            return
        self._call = order.call
        self._sources.begin()
        if begins:
            for stream in self._streams:
                stream.begin(named=order.named)
        self._status.begin(order.chunk, order.indices, order.attempt)
        self._status.enter(0)  # loading the function or the payload may kill us as well
        while self._unread:
            arriving.learn(*self._unread.pop(0))
        try:
            function = self._function(order.function, anew=begins)
            mapping = [open_mapping(path)]  # which ends where it is not needed any more
        except BaseException as error:
            self._channel.send((BROKEN, failed(FailureKind.PICKLING, error, "function")))
            return
        self._outbox.mapped = path is not None
        self._outbox.meter = meter = self._meter(order.timed)
        if meter is not None:
            function = meter.begin(function)
        began = time.monotonic()
        whole = self._run_all(function, entries, mapping, fine=order.fine)
        ended = (DONE, time.monotonic() - began) if whole else (STOPPED,)
        self._hand_on()
        self._outbox.flush(ended)
        self._status.leave()

    def _refused(self, *, begins: bool) -> str | None:
        """Why this worker runs no chunk now, if it does not."""
        if self._status.stopping:
            return STOPPED
        stale = self._sources.changed or (begins and self._sources.look())
        return STALE if stale else None

    def _run_all(
        self,
        function: Callable[[Any], Any],
        entries: Sequence[Any],
        mappings: list[memoryview | None],
        *,
        fine: bool,
    ) -> bool:
        """Run the tasks of a chunk, and send their results as they come; whether all have run."""
        status, outbox, mapping = self._status, self._outbox, mappings.pop()
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
            step = 1 if fine else next_step(step, ended - started)
        return position == len(entries)

    def _hand_on(self) -> None:
        """Leave nothing that a task has written where nobody sees it."""
        self._sources.note()
        flush(sys.stdout, sys.stderr)
        if self._opened is not None:
            self._opened.flush()

    def _meter(self, timed: bool | None) -> Meter | None:  # noqa: FBT001 - of an order
        if timed is None:
            return None
        if timed not in self._meters:
            self._meters[timed] = Meter(each=timed)
        return self._meters[timed]

    def _function(self, key: str, *, anew: bool) -> Callable[[Any], Any]:
        """The function of that key.

        Args:
            key: Under which it was sent.
            anew: Whether a call begins: one that was loaded before has to be loaded again, if names that it may use have
                been set since by others.
        """
        function, changes = self._loaded.get(key, (None, -1))
        if function is None or (anew and changes != namespaces.changes.number):
            path, entry = self._functions[key]
            # Other workers map the same file, so it keeps its name.
            function = transfer.load(entry, open_mapping(path, keep=True))
            self._loaded[key] = function, namespaces.changes.number
        return function


def apply_variables(variables: dict[str, str]) -> None:
    """Set variables that limit the threads of libraries, also of those that are loaded."""
    from runwide.host import threads  # which most workers never need

    os.environ.update(variables)
    threads.apply(variables)


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
        return transfer.Scalars(whole) if whole is results else list(whole)
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

        return failed(FailureKind.PICKLING, error, "result", located(text_of(error), value), shown(value))
