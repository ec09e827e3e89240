"""What runs in a worker process: take a chunk, run its tasks, send results as they finish."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.pool import transfer
from runwide.pool.channel import WorkerChannel
from runwide.pool.status import StatusWords
from runwide.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

# messages to a worker
PREPARE, FUNCTION, RUN, FORGET, EXIT = "prepare", "function", "run", "forget", "exit"
# messages from a worker
READY, UNFIT, RESULTS, DONE, BROKEN = "ready", "unfit", "results", "done", "broken"

_STREAM_SECONDS = 0.05
"""Finished results leave a running chunk at this interval, so that the death of a later task loses little."""

_STREAM_BYTES = 1 << 20
_PARENT_SECONDS = 0.5
"""How often a worker looks whether the pool's process still lives; PR_SET_PDEATHSIG would follow a thread instead."""

inside = False
"""Whether this process is a worker."""


@dataclass(frozen=True, slots=True)
class Station:
    """Where a worker finds what it shares with the pool.

    Args:
        status_path: File of its status words.
        directories: Scratch directories of the pool.
        tag: Start of the names of the payload files that it writes.
        parent: Process id of the pool.
    """

    status_path: str
    directories: tuple[str, ...]
    tag: str
    parent: int


def main(connection: Connection, station: Station) -> None:
    """Serve one pool until it says so or is gone."""
    global inside  # noqa: PLW0603 - a fact about this process
    inside = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    scratch = transfer.Scratch(station.directories, station.tag)
    threading.Thread(
        target=_leave_with, args=(station.parent, scratch), name="runwide-watch", daemon=True
    ).start()
    channel = WorkerChannel(socket.socket(fileno=os.dup(connection.fileno())))
    connection.close()
    worker = Worker(channel, StatusWords(station.status_path), scratch)
    with suppress(EOFError, ConnectionError):
        worker.serve()


def _leave_with(parent: int, scratch: transfer.Scratch) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    scratch.remove()
    from runwide.pool.process import children, kill_tree

    for child in children(os.getpid()):
        kill_tree(child)
    os._exit(1)


class Outbox:
    """Results that are finished and not yet sent; streamed by a thread so that a long task delays none."""

    def __init__(self, channel: WorkerChannel, scratch: transfer.Scratch) -> None:
        self._channel = channel
        self._scratch = scratch
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._entries: list[Any] = []
        self._times: list[tuple[float, float]] = []
        self._bytes = 0
        self._since = 0.0
        self._pid = os.getpid()
        threading.Thread(target=self._stream, name="runwide-stream", daemon=True).start()

    def add(self, entry: Any, started: float, ended: float) -> None:
        """Keep one result for sending."""
        size = transfer.entry_size(entry)
        with self._lock:
            self._entries.append(entry)
            self._times.append((started, ended))
            self._bytes += size
            first = len(self._entries) == 1
        if size and self._bytes > _STREAM_BYTES:
            self.flush()
        elif first:
            self._since = ended
            self._filled.set()
        elif ended - self._since > _STREAM_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        with self._lock:
            if self._entries:
                self._send(self._entries, self._times)
                self._entries, self._times, self._bytes = [], [], 0

    def _send(self, entries: list[Any], times: list[tuple[float, float]]) -> None:
        if os.getpid() != self._pid:  # the user's function forked, and the child came back here
            os._exit(1)
        try:
            path, sealed = transfer.seal(entries, self._scratch)
        except OSError as error:
            path, sealed = None, [failed(FailureKind.PICKLING, error) for _ in entries]
        self._channel.send((RESULTS, path, sealed, times))

    def _stream(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            time.sleep(_STREAM_SECONDS)
            with suppress(OSError):
                self.flush()


class Worker:
    """The loop over messages, and over the tasks of a chunk."""

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

    def _run(self, call: int, chunk: int, path: str | None, entries: list[Any]) -> None:
        status, outbox = self._status, self._outbox
        status.begin(chunk)
        status.enter(0)  # loading the function or the payload may kill us as well
        try:
            function = self._function(call)
            mapping = transfer.open_mapping(path)
        except BaseException as error:
            self._channel.send((BROKEN, failed(FailureKind.PICKLING, error)))
            return
        began = time.monotonic()
        for position, entry in enumerate(entries):
            status.enter(position)
            started = time.monotonic()
            result = run_task(function, entry, mapping)
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


def failed(kind: FailureKind, error: BaseException, what: str = "") -> tuple[Any, ...]:
    """An entry for a failure: text that always arrives, and the exception itself if it can be pickled."""
    text = "".join(traceback.format_exception(type(error), error, _beyond_ours(error)))
    pickled: bytes | None = None
    if isinstance(error, Exception):
        with suppress(Exception):
            body, buffers = transfer.dump_by_reference_first(error)
            pickled = body if not buffers else None
    name = type(error).__qualname__
    module = type(error).__module__
    qualified = name if module in ("builtins", "__main__") else f"{module}.{name}"
    exited = error.code if isinstance(error, SystemExit) else None
    exitcode = exited if isinstance(exited, int) else None
    return (transfer.FAILED, kind.value, what, qualified, str(error), text, pickled, exitcode)


def _beyond_ours(error: BaseException) -> Any:
    """The traceback without the frames of this module, which tell the user nothing."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
