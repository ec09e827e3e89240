"""A metadata server, services that issue tokens, and a bucket that requires a token, all on this machine.

An emulator carries out accepted requests. Google's real clients send them; none of our code is replaced.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from typing_extensions import Self

TOKEN = "a-token-of-the-tests"
_STORAGE = re.compile(r"/(upload/|download/)?storage/v1/")
_HOP = {"connection", "host", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Call:
    """A request that was received."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class Fault:
    """A wrong answer to some requests.

    Args:
        path: A pattern of their paths.
        status: The status of the answer; None closes the connection without an answer.
        body: The JSON of the answer.
        times: The number of requests that get it.
        method: The method of the requests; empty for any.
    """

    path: str
    status: int | None
    body: object = None
    times: int = 1
    method: str = ""


class Services:
    """All services at one address; a context manager.

    Args:
        emulator: URL of the emulator behind the bucket.
        port: The port to listen on; 0 for a free one.
    """

    def __init__(self, emulator: str, port: int = 0) -> None:
        self.emulator = emulator
        self.lifetime = 3600  # of a token, in seconds; Google's client renews it in the last four minutes
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.demands = None  # called with each request to the bucket; returns a status and JSON to refuse it
        self.lock = threading.Lock()  # requests come in side by side
        self._server: ThreadingHTTPServer | None = None
        self._listen(port)

    def _listen(self, port: int) -> None:
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", port), type("Handler", (_Handler,), {"services": self})
        )
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def open(self) -> None:
        """Listen again, at the same address."""
        self._listen(int(self.host.rpartition(":")[2]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def paths(self, pattern: str) -> list[str]:
        """Return the paths so far that match a pattern."""
        return [call.path for call in self.calls if re.search(pattern, call.path)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    services: Services

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _any(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, address.path, parse_qs(address.query), headers)
        self.services.calls.append(call)
        fault = self._fault(call)
        if fault is not None and fault.status is None:
            self.close_connection = True
            return
        if fault is not None:
            self._answer(fault.status, fault.body)
        elif _STORAGE.match(call.path):
            self._bucket(call, body)
        else:
            self._token(call)

    do_GET = do_POST = do_DELETE = do_PUT = _any  # noqa: N815 - the library's names

    def _fault(self, call: Call) -> Fault | None:
        with self.services.lock:
            for fault in self.services.faults:
                if fault.times and fault.method in ("", call.method) and re.search(fault.path, call.path):
                    fault.times -= 1
                    return fault
        return None

    def _token(self, call: Call) -> None:
        expiry = self.services.lifetime
        if call.path == "/":
            self._answer(200, {})
        elif re.search(r"/service-accounts/[^/]+/$", call.path):
            self._answer(
                200, {"email": "tester@example.com", "scopes": ["cloud-platform"], "aliases": ["default"]}
            )
        elif call.path.endswith("/project/project-id"):
            self._answer(200, "a-project")
        elif call.path.endswith("/universe/universe-domain"):
            self._answer(404, "not found")
        elif call.path.endswith(":generateAccessToken"):
            self._answer(200, {"accessToken": TOKEN, "expireTime": "2099-01-01T00:00:00Z"})
        elif call.path == "/subject":
            self._answer(200, {"id_token": "a-subject"})
        elif call.path.endswith(("/token", "/sts")):
            answer = {"access_token": TOKEN, "expires_in": expiry, "token_type": "Bearer"}
            self._answer(200, answer | {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
        else:
            self._answer(404, "not found")

    def _bucket(self, call: Call, body: bytes) -> None:
        if call.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer(
                401, {"error": {"code": 401, "message": "Login Required", "errors": [{"reason": "required"}]}}
            )
            return
        refusal = self.services.demands(call) if self.services.demands else None
        if refusal is not None:
            self._answer(*refusal)
            return
        headers = {name: value for name, value in call.headers.items() if name not in _HOP}
        request = urllib.request.Request(
            self.services.emulator + self.path, data=body or None, headers=headers, method=call.method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                self._send(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self._send(error.code, dict(error.headers), error.read())

    def _answer(self, status: int, body: object) -> None:
        kind = "application/text" if isinstance(body, str) else "application/json"
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self._send(status, {"content-type": kind, "metadata-flavor": "Google"}, data)

    def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
