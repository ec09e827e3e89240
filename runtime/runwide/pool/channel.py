"""Messages between the pool and one worker: length-prefixed pickles of plain tuples over a socket.

The pool's end never blocks, in either direction: a worker that is stopped, stuck or killed in the middle of a message
must not delay other workers. Large payloads do not travel here but through `transfer`.
"""

from __future__ import annotations

import pickle
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

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
        """Return the next message.

        Raises:
            EOFError: The pool is gone.
        """
        while not self._inbox:
            data = self._sock.recv(_READ)
            if not data:
                raise EOFError
            self._inbox.extend(self._unframer.feed(data))
        return self._inbox.popleft()
