"""What runs in a worker process: take a chunk, run its tasks, send results as they finish."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runwide.pool import transfer
from runwide.pool.channel import WorkerChannel
from runwide.pool.failed import failed
from runwide.pool.outbox import Outbox
from runwide.pool.station import Lines, Station, arrange
from runwide.pool.status import StatusWords
from runwide.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

# messages to a worker
PREPARE, FUNCTION, RUN, FORGET, EXIT = "prepare", "function", "run", "forget", "exit"
# messages from a worker, with RESULTS
READY, UNFIT, DONE, BROKEN = "ready", "unfit", "done", "broken"

inside = False
"""Whether this process is a worker."""

_forked = False


def main(lines: Lines, station: Station) -> None:
    """Serve one pool until it says so or is gone."""
    global inside  # noqa: PLW0603 - a fact about this process
    inside = True
    status = StatusWords(station.status_path)
    scratch = transfer.Scratch(station.directories, station.tag)
    arrange(lines, station, status, scratch)
    os.register_at_fork(after_in_child=_note_fork)
    channel = WorkerChannel(socket.socket(fileno=os.dup(lines.messages.fileno())))
    lines.messages.close()
    with suppress(EOFError, ConnectionError):
        Worker(channel, status, scratch).serve()


def _note_fork() -> None:
    global _forked  # noqa: PLW0603 - a fact about this process
    _forked = True


class Worker:
    """The loop over messages, and over the tasks of a chunk.

    Args:
        channel: The line to the pool.
        status: The words in which it says what it does.
        scratch: Where large results go.
    """

    def __init__(self, channel: WorkerChannel, status: StatusWords, scratch: transfer.Scratch) -> None:
        self._channel = channel
        self._status = status
        self._outbox = Outbox(channel, scratch)
        self._functions: dict[int, tuple[str | None, Any]] = {}
        self._loaded: dict[int, Callable[[Any], Any]] = {}

    def serve(self) -> None:
        """Run chunks until told to leave."""
        while True:
            kind, *content = self._channel.receive()
            if kind == RUN:
                self._run(*content)
            elif kind == PREPARE:
                self._prepare(*content)
            elif kind == FUNCTION:
                call, path, entry = content
                self._functions[call] = (path, entry)
            elif kind == FORGET:
                self._functions.pop(content[0], None)
                self._loaded.pop(content[0], None)
            elif kind == EXIT:
                return

    def _prepare(self, path: str | None, entry: Any) -> None:
        try:
            if entry is not None:
                transfer.load(entry, transfer.open_mapping(path, keep=True))()
        except BaseException as error:
            self._channel.send((UNFIT, failed(FailureKind.EXCEPTION, error)))
        else:
            self._channel.send((READY,))

    def _run(self, call: int, chunk: int, first: int, path: str | None, entries: list[Any]) -> None:
        status, outbox = self._status, self._outbox
        status.begin(chunk, first)
        status.enter(0)  # loading the function or the payload may kill us as well
        try:
            function = self._function(call)
            mapping = transfer.open_mapping(path)
        except BaseException as error:
            self._channel.send((BROKEN, failed(FailureKind.PICKLING, error, "function")))
            return
        began = time.monotonic()
        for position, entry in enumerate(entries):
            status.enter(position)
            started = time.monotonic()
            result = run_task(function, entry, mapping)
            if _forked:  # the task forked, and its child came back here: it is no worker
                os._exit(0)
            outbox.add(result, started, time.monotonic())
        status.leave()
        outbox.flush()
        self._channel.send((DONE, time.monotonic() - began))

    def _function(self, call: int) -> Callable[[Any], Any]:
        function = self._loaded.get(call)
        if function is None:
            path, entry = self._functions[call]
            # Other workers map the same file, so it keeps its name.
            function = self._loaded[call] = transfer.load(entry, transfer.open_mapping(path, keep=True))
        return function


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
    if transfer.is_scalar(value):
        return value
    try:
        return (transfer.FRAME, *transfer.dump_by_reference_first(value))
    except BaseException as error:
        return failed(FailureKind.PICKLING, error, "result")
