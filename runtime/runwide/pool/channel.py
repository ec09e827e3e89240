"""Communication with a worker: messages over a socket, and status words in shared memory.

The pool's end of the socket never blocks, in either direction: a worker that is stopped, stuck or killed in the middle of
a message must not delay other workers. Large payloads do not travel here but through `transfer`.

The worker writes the status words. The pool reads them, above all when the worker has died; it writes two of them, to ask
the worker to stop or to give up a result. Each write is one aligned 8-byte store.
"""

from __future__ import annotations

import mmap
import os
import pickle
import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


_HEADER = 4
_READ = 1 << 16  # larger reads would allocate memory for each message


def framed(message: object) -> bytes:
    """Return the bytes of one message."""
    body = pickle.dumps(message, protocol=5)
    return len(body).to_bytes(_HEADER, "little") + body


class Unframer:
    """A buffer that splits a stream of bytes into messages, and keeps an incomplete one.

    Example:
        >>> stream = framed(("hello", 1)) + framed("x")
        >>> unframer = Unframer()
        >>> unframer.feed(stream[:9]), unframer.feed(stream[9:])
        ([], [('hello', 1), 'x'])
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Add bytes, and return the messages that are complete."""
        buffer = self._buffer
        buffer += data
        messages = []
        start = 0
        while len(buffer) - start >= _HEADER:
            end = start + _HEADER + int.from_bytes(buffer[start : start + _HEADER], "little")
            if end > len(buffer):
                break
            messages.append(pickle.loads(buffer[start + _HEADER : end]))  # noqa: TID251 - of this pool
            start = end
        del buffer[:start]
        return messages


class Channel:
    """The pool's end of the connection to one worker."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._unframer = Unframer()
        self._outbox: deque[memoryview] = deque()
        self.closed = False

    def fileno(self) -> int:
        """Return the file descriptor, for a selector."""
        return self._sock.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Return whether bytes wait until the socket takes more."""
        return bool(self._outbox)

    def send(self, message: object) -> None:
        """Send a message, or as much of it as the socket takes now. A dead worker raises no error."""
        self._outbox.append(memoryview(framed(message)))
        self.flush()

    def flush(self) -> None:
        """Send the bytes that wait, as far as the socket takes them."""
        while self._outbox:
            data = self._outbox[0]
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                return
            except OSError:  # the worker is gone; its death is handled elsewhere
                self._outbox.clear()
                return
            if sent == len(data):
                self._outbox.popleft()
            else:
                self._outbox[0] = data[sent:]

    def receive(self) -> list[Any]:
        """Return all messages that are complete; set ``closed`` at the end of the stream."""
        messages: list[Any] = []
        while True:
            try:
                data = self._sock.recv(_READ)
            except BlockingIOError:
                return messages
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return messages
            messages += self._unframer.feed(data)
            if len(data) < _READ:
                return messages

    def close(self) -> None:
        """Close this end. The worker then reads the end of the stream, and leaves."""
        self.closed = True
        self._sock.close()


class WorkerChannel:
    """The worker's end of the connection, which blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unframer = Unframer()
        self._inbox: deque[Any] = deque()

    def send(self, *messages: object) -> None:
        """Send messages, all at once, since each send wakes the pool."""
        self._sock.sendall(b"".join(map(framed, messages)))

    def receive(self) -> Any:
        """Return the next message; raise ``EOFError`` if the pool is gone."""
        while not self._inbox:
            data = self._sock.recv(_READ)
            if not data:
                raise EOFError
            self._inbox.extend(self._unframer.feed(data))
        return self._inbox.popleft()


class Bell:
    """A bell that any thread may ring, to wake the thread that waits in a selector.

    Args:
        selector: The selector; the bell's event has no data.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._ringing, self._heard = socket.socketpair()
        self._ringing.setblocking(False)
        self._heard.setblocking(False)
        selector.register(self._heard, selectors.EVENT_READ, None)
        self._waiting: int | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake the thread that waits; if this is that thread, note the ring for `rung`."""
        if get_ident() == self._waiting:
            self._rung = True
            return
        with suppress(OSError):  # full: the thread wakes anyway; closed: no thread waits
            self._ringing.send(b"!")

    def rung(self) -> bool:
        """Return whether the waiting thread has rung the bell itself since the last call."""
        self._waiting = get_ident()
        rung, self._rung = self._rung, False
        return rung

    def hear(self) -> None:
        """Read the rings that have come, or the first thousands of them."""
        with suppress(BlockingIOError):
            self._heard.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        self._ringing.close()
        self._heard.close()


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
