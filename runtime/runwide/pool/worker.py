"""The worker process: receive a chunk, run its tasks, and send the results as they finish."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import log
from runwide.causes import Cause
from runwide.events.measure import Meter
from runwide.naming import shown, text_of
from runwide.pickling import definitions, loading, namespaces
from runwide.pool import transfer
from runwide.pool.channel import StatusWords, WorkerChannel
from runwide.pool.outbox import Outbox, failed
from runwide.pool.scratch import Scratch, open_mapping
from runwide.pool.worker_setup import Opened, Setup, Sources, flush, leave, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runwide.pool.output import Prefixed

# Messages to a worker.
PREPARE, FUNCTION, RUN, FORGET, EXIT = "prepare", "function", "run", "forget", "exit"
DEFINITION, VARIABLES, FIELDS = "definition", "variables", "fields"
# Messages from a worker, beside those of `outbox`.
HELLO, READY, UNFIT, DONE, BROKEN = "hello", "ready", "unfit", "done", "broken"
STOPPED, STALE = "stopped", "stale"

_STEP_SECONDS = 0.001
_STEP_TASKS = 1024

inside = False
"""Whether this process is a worker."""

_forked = False


def main(line: int, alive: int) -> None:
    """Run a worker until the pool ends it, or is gone.

    Args:
        line: Descriptor of the connection to the pool.
        alive: Descriptor of the pipe that ends with the pool's process.
    """
    global inside  # noqa: PLW0603 - a fact about this process
    inside = True
    channel = WorkerChannel(socket.socket(fileno=line))
    with suppress(EOFError, ConnectionError):
        setup: Setup = channel.receive()
        status = StatusWords(setup.status_path)
        scratch = Scratch(setup.directories, setup.tag)
        streams = set_up(alive, setup, status, scratch)
        definitions.become_worker()
        os.register_at_fork(after_in_child=_note_fork)
        Worker(channel, status, scratch, streams).serve()
        leave()


def _note_fork() -> None:
    global _forked  # noqa: PLW0603 - a fact about this process
    _forked = True


class Order(NamedTuple):
    """An order to run a chunk.

    Args:
        function: Key of the function, which the worker has.
        fine: Whether to run task by task, since one of them has killed a worker.
        attempt: Number of this attempt, from 1.
        named: Whether lines that its tasks print may be shown with their items.
        timed: Whether each task is timed, or groups of short ones; None for no timing.
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
    """The loops of a worker over messages, and over the tasks of a chunk."""

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
        """Handle messages until the pool asks the worker to leave."""
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
            self._channel.send((UNFIT, failed(Cause.EXCEPTION, error)))
        else:
            self._channel.send((READY,))

    def _run(self, order: Order, path: str | None, entries: Sequence[Any]) -> None:
        """Run a chunk, and report its end."""
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
        self._status.enter(0)  # loading the function or the payload may also kill this worker
        while self._unread:
            loading.learn(*self._unread.pop(0))
        try:
            function = self._function(order.function, anew=begins)
            mapping = [open_mapping(path)]  # a list, so that `_run_all` can drop the last reference
        except BaseException as error:
            self._channel.send((BROKEN, failed(Cause.FUNCTION_NOT_LOADABLE, error)))
            return
        self._outbox.mapped = path is not None
        self._outbox.meter = meter = self._meter(order.timed)
        if meter is not None:
            function = meter.begin(function)
        began = time.monotonic()
        whole = self._run_all(function, entries, mapping, fine=order.fine)
        ended = (DONE, time.monotonic() - began) if whole else (STOPPED,)
        self._flush()
        self._outbox.flush(ended)
        self._status.leave()

    def _refused(self, *, begins: bool) -> str | None:
        """Return the reason why this worker runs no chunk now, if there is one."""
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
        """Run the tasks of a chunk, send their results as they come, and return whether all have run."""
        status, outbox, mapping = self._status, self._outbox, mappings.pop()
        position, step = 0, 1
        while position < len(entries) and not status.stopping:
            batch = entries[position : position + step]
            status.enter(position, len(batch))
            started = time.monotonic()
            results = run_batch(function, batch, mapping, status)
            ended = time.monotonic()
            if _forked:  # a task has forked, and this is the child: it is no worker
                os._exit(0)
            status.end()
            position += len(results)
            if position == len(entries):
                mapping = None  # its room is free before the last results need some
            if results:
                outbox.extend(results, started, ended)
            step = 1 if fine else next_step(step, ended - started)
        return position == len(entries)

    def _flush(self) -> None:
        """Flush everything that the tasks have written."""
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
        """Return the function of this key.

        Args:
            anew: Whether a call begins. Then a function is loaded again, if other code has set names that it may use.
        """
        function, changes = self._loaded.get(key, (None, -1))
        if function is None or (anew and changes != namespaces.changes.number):
            path, entry = self._functions[key]
            # Other workers map the same file, so it keeps its name.
            function = transfer.load(entry, open_mapping(path, keep=True))
            self._loaded[key] = function, namespaces.changes.number
        return function


def apply_variables(variables: dict[str, str]) -> None:
    """Set variables that limit the threads of libraries, also of loaded ones."""
    from runwide.host import threads  # most workers do not need it

    os.environ.update(variables)
    threads.apply(variables)


def next_step(step: int, seconds: float) -> int:
    """Return how many tasks to run next in one go, after the last ones took this time.

    Tasks of microseconds run many at a time, since a status word costs as much as such a task. If a worker dies of one of
    them, they run again one by one.

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
    """Run tasks one after another, and return their results or failures as entries; fewer if the run was cut short."""
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
        # A list, since its iterator ends when another thread empties it.
        status.pending = pending = list(items[len(results) :])
        try:
            if plain:
                for entry in pending:
                    append(function(entry))
            else:
                for entry in pending:
                    append(run_task(function, entry, mapping))
        except BaseException as error:
            failures[len(results)] = failed(Cause.EXCEPTION, error)
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
    """Run one task, and return its result or failure as an entry."""
    try:
        item = entry if type(entry) is not tuple else transfer.load(entry, mapping)
    except BaseException as error:
        return failed(Cause.ITEM_NOT_LOADABLE, error)
    try:
        value = function(item)
    except BaseException as error:
        return failed(Cause.EXCEPTION, error)
    return _as_entry(value)


def _as_entry(value: Any) -> Any:
    plain = transfer.entries_of([value])
    if plain is not None:
        return plain[0]
    try:
        return (transfer.FRAME, *transfer.dump_by_reference_first(value))
    except BaseException as error:
        from runwide.pickling.unpicklable import located

        return failed(Cause.RESULT_NOT_PICKLABLE, error, located(text_of(error), value), shown(value))
