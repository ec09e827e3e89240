"""An HTTP proxy that disturbs chosen requests to a server."""

from __future__ import annotations

import enum
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 1 << 16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset


class Kind(enum.Enum):
    """The disturbances of a request."""

    STATUS = "the proxy answers with a status of its own; the server never sees the request"
    REFUSED_EARLY = "the proxy answers with a status of its own, reads no body and resets the connection"
    RESET_BEFORE = "the connection is reset before the request is read to its end"
    RESET_UPLOAD = "the connection is reset in the middle of the request's body"
    RESET_DOWNLOAD = "the connection is reset in the middle of the answer's body"
    LOST_ANSWER = "the server handles the request; its answer is lost"
    SHORT = "the answer's body is cut, and its length is the length of the rest"
    CUT = "the connection is closed in the middle of the answer's body"
    FLIP = "one bit of the answer's body is flipped"
    FLIP_UPLOAD = "one bit of the request's body is flipped"
    STALL = "nothing is sent for a while, then the connection is closed"


@dataclass(slots=True)
class Disturbance:
    """A disturbance of some requests.

    Args:
        kind: The disturbance.
        method: HTTP method of these requests; empty for any.
        contains: Text in their path, with its percent signs; empty for any.
        skip: The number of requests that pass before.
        times: The number of requests that are disturbed.
        status: For `Kind.STATUS` and `Kind.REFUSED_EARLY`.
        seconds: For `Kind.STALL`.
        body: JSON for `Kind.STATUS` and `Kind.REFUSED_EARLY`.
    """

    kind: Kind
    method: str = ""
    contains: str = ""
    skip: int = 0
    times: int = 1
    status: int = 503
    seconds: float = 1.5
    body: str = '{"error": {"message": "spoiled by the proxy"}}'


@dataclass(slots=True)
class _Message:
    """A request or an answer: its head, and the part of its body that was received with it."""

    head: bytes
    body: bytes = field(repr=False)
    length: int


class Proxy:
    """A proxy between clients on this machine and a server.

    Args:
        server: URL of the server.
        port: The port to listen on; 0 for a free one.
    """

    def __init__(self, server: str, port: int = 0) -> None:
        address = urlsplit(server)
        self._server = (address.hostname or "127.0.0.1", address.port or 80)
        self._lock = threading.Lock()
        self._faults: list[Disturbance] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.spoiled: list[tuple[Kind, str, str]] = []
        self._listen(port)

    @property
    def url(self) -> str:
        """The proxy's address."""
        return f"http://127.0.0.1:{self._port}"

    def add(self, *faults: Disturbance) -> None:
        """Disturb requests from now on."""
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        """Disturb no more requests."""
        with self._lock:
            self._faults.clear()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse new connections and break open ones, like in an outage."""
        self.close()
        try:
            yield
        finally:
            self._listen(self._port)

    def close(self) -> None:
        """Stop listening and end all connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            open_sockets = list(self._sockets)
        for one in open_sockets:
            _reset(one)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __enter__(self) -> Proxy:  # noqa: PYI034 - final by nature
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, port: int) -> None:
        listener = socket.create_server(("127.0.0.1", port))
        self._port: int = listener.getsockname()[1]
        self._listener = listener
        thread = threading.Thread(target=self._accept, args=(listener,), name="proxy", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed
                return
            thread = threading.Thread(
                target=self._serve, args=(client,), name="proxy-connection", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        """Handle the requests of one connection, each over a connection of its own to the server."""
        with self._lock:
            self._sockets.add(client)
        try:
            with client, suppress(OSError):
                while (request := _receive(client)) is not None and self._request(client, request):
                    pass
        finally:
            with self._lock:
                self._sockets.discard(client)

    def _request(self, client: socket.socket, request: _Message) -> bool:
        """Forward one request, or disturb it; return whether the connection stays open."""
        method, path = request.head.split(b" ", 2)[:2]
        fault = self._fault(method.decode(), path.decode())
        if fault is None:
            with socket.create_connection(self._server) as server:
                _pass(request, client, server)
                _answer(server, client)
            return True
        return self._spoil(client, request, fault)

    def _fault(self, method: str, path: str) -> Disturbance | None:
        with self._lock:
            for fault in self._faults:
                if fault.times and fault.method in ("", method) and fault.contains in path:
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    self.spoiled.append((fault.kind, method, path))
                    return fault
        return None

    def _spoil(self, client: socket.socket, request: _Message, fault: Disturbance) -> bool:
        if fault.kind is Kind.STATUS:
            _drain(client, request)
            _refuse(client, fault)
            return True
        if fault.kind is Kind.REFUSED_EARLY:
            _refuse(client, fault)
        elif fault.kind is Kind.STALL:
            time.sleep(fault.seconds)
        elif fault.kind is Kind.RESET_UPLOAD:
            client.recv(max(1, (request.length - len(request.body)) // 2))
        elif fault.kind is Kind.FLIP_UPLOAD:
            with socket.create_connection(self._server) as server:
                _pass(_flipped(client, request), client, server)
                _answer(server, client)
            return True
        elif fault.kind is not Kind.RESET_BEFORE:
            with socket.create_connection(self._server) as server:
                _pass(request, client, server)
                _spoiled_answer(server, client, fault.kind)
                if fault.kind in (Kind.SHORT, Kind.FLIP):
                    return True
        _reset(client)
        return False


def _receive(connection: socket.socket) -> _Message | None:
    """Receive the next head, and the part of the body that comes with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_PIECE)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if _CHUNKED.search(head):
        body = _joined(connection, body)
        head = _CHUNKED.sub(b"\r\nContent-Length: %d" % len(body), head)
    found = _LENGTH.search(head)
    return _Message(head, body, int(found[1]) if found else 0)


def _joined(connection: socket.socket, data: bytes) -> bytes:
    """Receive the whole body of a message that is sent in chunks."""
    body = b""
    while True:
        while b"\r\n" not in data:
            data += _more(connection)
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        while len(data) < size + 2:
            data += _more(connection)
        if not size:
            return body
        body, data = body + data[:size], data[size + 2 :]


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(_PIECE)
    if not piece:
        raise ConnectionError("the connection has ended in the middle of a message")
    return piece


def _rest(connection: socket.socket, message: _Message) -> Iterator[bytes]:
    yield message.body
    left = message.length - len(message.body)
    while left > 0:
        piece = connection.recv(min(_PIECE, left))
        if not piece:
            return
        left -= len(piece)
        yield piece


def _flipped(client: socket.socket, request: _Message) -> _Message:
    """Receive the whole request, and flip one bit in the middle of its body."""
    body = bytearray(b"".join(_rest(client, request)))
    if body:
        body[len(body) // 2] ^= 16
    return _Message(request.head, bytes(body), request.length)


def _drain(connection: socket.socket, message: _Message) -> None:
    for _ in _rest(connection, message):
        pass


def _refuse(connection: socket.socket, fault: Disturbance) -> None:
    body = fault.body.encode()
    head = f"HTTP/1.1 {fault.status} Spoiled\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)


def _pass(request: _Message, client: socket.socket, server: socket.socket) -> None:
    server.sendall(re.sub(rb"\r\nconnection: [^\r]*", b"", request.head, flags=re.IGNORECASE) + b"\r\n\r\n")
    for piece in _rest(client, request):
        server.sendall(piece)


def _received(server: socket.socket) -> _Message:
    answer = _receive(server)
    if answer is None:
        raise ConnectionError("the server has closed the connection")
    return answer


def _answer(server: socket.socket, client: socket.socket) -> None:
    answer = _received(server)
    client.sendall(answer.head + b"\r\n\r\n")
    for piece in _rest(server, answer):
        client.sendall(piece)


def _spoiled_answer(server: socket.socket, client: socket.socket, kind: Kind) -> None:
    answer = _received(server)
    body = bytearray(b"".join(_rest(server, answer)))
    half = len(body) // 2
    if kind is Kind.SHORT:
        head = _LENGTH.sub(b"\r\nContent-Length: %d" % half, answer.head)
        client.sendall(head + b"\r\n\r\n" + body[:half])
    elif kind is Kind.FLIP:
        if body:
            body[half] ^= 16
        client.sendall(answer.head + b"\r\n\r\n" + body)
    elif kind in (Kind.CUT, Kind.RESET_DOWNLOAD):
        client.sendall(answer.head + b"\r\n\r\n" + body[:half])
        if kind is Kind.CUT:
            client.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.shutdown(socket.SHUT_RD)  # wakes threads that wait for it; closing sends the reset
    with suppress(OSError):
        connection.close()
