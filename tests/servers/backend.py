"""The common part of the two servers of pipelines: HTTP, injected answers, and runs by the local engine."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
import tempfile
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from typing_extensions import Self

from runwide.errors import EngineError, StepFailed
from runwide_components import Local

_CACHED_STEP = str(Path(__file__).with_name("cached_step.py"))


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True)
class Call:
    """A request that was received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Fault:
    """An injected answer to the next request of a kind.

    Args:
        method: The request's method.
        path: A pattern of its path.
        status: The status of the answer; None closes the connection without an answer.
        after: Whether the request is carried out first, so that only its answer is lost.
    """

    method: str
    path: str
    status: int | None
    after: bool = False


class Refusal(Exception):
    """An error as the answer to a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Execution:
    """A run of a submitted spec by the local engine."""

    spec: dict[str, Any]
    arguments: dict[str, Any]
    cache: str
    looks_pending: int = 0
    created: str = field(default_factory=now)
    state: str = "RUNNING"
    outputs: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # folder of a task -> output parameters
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)  # folder of a task -> output artifacts
    error: str = ""
    step: str = ""
    thread: threading.Thread | None = None
    run: Any = None
    ready: threading.Event = field(default_factory=threading.Event)

    def start(self, engine: Local) -> None:
        self.thread = threading.Thread(target=self._execute, args=(engine,))
        self.thread.start()
        self.ready.wait(30)

    def _execute(self, engine: Local) -> None:
        with tempfile.TemporaryDirectory(prefix="runwide-server-") as folder:
            path = Path(folder) / "spec.yaml"
            path.write_text(yaml.safe_dump(caching(self.spec, self.cache)))
            try:
                with engine.submit(path, self.arguments) as self.run:
                    self.ready.set()
                    try:
                        self.outputs = self.run.wait()
                    finally:
                        root = Path(self.run._folder) / "root"
                        self.files, self.artifacts = parameter_files(root), artifacts(root)
                    # set last, since a client may ask for outputs as soon as a run has ended
                    self.state = "SUCCEEDED"
            except StepFailed as error:
                self.step, self.error = error.step, error.message
                self.state = "CANCELLED" if self.state == "CANCELLING" else "FAILED"
            except EngineError as error:
                self.error = error.message
                self.state = "CANCELLED" if self.state == "CANCELLING" else "FAILED"
            except Exception as error:
                self.error, self.state = repr(error), "FAILED"
            finally:
                self.ready.set()

    def cancel(self) -> None:
        if self.state == "RUNNING":
            self.state = "CANCELLING"
            self.run.cancel()

    def look(self) -> str:
        """Return its state; PENDING for the first requests if the test asks for that."""
        if self.looks_pending > 0:
            self.looks_pending -= 1
            return "PENDING"
        return self.state

    @property
    def ended(self) -> bool:
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")


def caching(spec: dict[str, Any], cache: str) -> dict[str, Any]:
    """Return a spec whose steps run once for each set of inputs, if their tasks allow caching."""
    changed = copy.deepcopy(spec)
    components = changed.get("components", {})
    for part in (changed["root"], *components.values()):
        for task in part.get("dag", {}).get("tasks", {}).values():
            label = components[task["componentRef"]["name"]].get("executorLabel")
            if label and task.get("cachingOptions", {}).get("enableCache"):
                container = changed["deploymentSpec"]["executors"][label]["container"]
                command = [*container.get("command", []), *container.get("args", [])]
                step = f"{label} {hashlib.sha256(json.dumps(command).encode()).hexdigest()}"
                container["command"] = [
                    str(Path(sys.executable).with_name("python")),
                    _CACHED_STEP,
                    cache,
                    step,
                    "{{$}}",
                ]
                container["args"] = command
    return changed


def parameter_files(root: Path) -> dict[str, dict[str, Any]]:
    """Return output parameters by the folder of their task, from the files of kfp's local runner."""
    found: dict[str, dict[str, Any]] = {}
    for path in root.rglob("*"):
        if not path.is_file():
            continue
        task = str(path.parent.relative_to(root).as_posix()).partition("/")[2]  # without the run's own folder
        values = found.setdefault(task, {})
        if path.name == "executor_output.json":
            values.update(json.loads(path.read_text()).get("parameterValues", {}))
        else:
            text = path.read_text(errors="replace")
            try:
                values[path.name] = json.loads(text)
            except ValueError:
                values[path.name] = text
    return found


def artifacts(root: Path) -> dict[str, dict[str, Any]]:
    """Return output artifacts by the folder of their task, as the step has reported them."""
    return {
        path.parent.relative_to(root).as_posix().partition("/")[2]: {
            name: listed["artifacts"][0]
            for name, listed in json.loads(path.read_text()).get("artifacts", {}).items()
        }
        for path in root.rglob("executor_output.json")
    }


class Server:
    """An HTTP server on a free port of the loopback, with faults on demand; a context manager."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: deque[Fault] = deque()
        self.engine = Local("subprocess")
        self.executions: dict[str, Execution] = {}
        self.pending_looks = 0
        self._cache = tempfile.TemporaryDirectory(prefix="runwide-cache-")
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def cache(self) -> str:
        """The folder with outputs of steps, by their inputs."""
        return self._cache.name

    @property
    def hits(self) -> list[str]:
        """The steps that did not run, since the cache had their outputs."""
        path = Path(self.cache, "hits")
        return path.read_text().splitlines() if path.exists() else []

    def answer(self, call: Call) -> dict[str, Any]:
        """The answer to a request."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """The body of an error."""
        raise NotImplementedError

    def fail(self, method: str, path: str, *statuses: int | None, after: bool = False) -> None:
        """Make the next requests of a kind fail, one after another."""
        self.faults.extend(Fault(method, path, status, after) for status in statuses)

    def called(self, method: str, path: str = "") -> list[Call]:
        return [call for call in self.calls if call.method == method and re.search(path, call.path)]

    def _respond(self, call: Call) -> tuple[int | None, dict[str, Any]]:
        with self._lock:
            self.calls.append(call)
            fault = next(
                (one for one in self.faults if one.method == call.method and re.search(one.path, call.path)),
                None,
            )
            if fault is not None:
                self.faults.remove(fault)
        if fault is not None and not fault.after:
            return fault.status, self.error(fault.status or 0, "injected")
        try:
            status, body = 200, self.answer(call)
        except Refusal as refusal:
            status, body = refusal.status, self.error(refusal.status, str(refusal))
        return (
            (fault.status, self.error(fault.status or 0, "injected")) if fault is not None else (status, body)
        )

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                text = self.rfile.read(length)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                body = json.loads(text) if text else None
                status, answer = server._respond(
                    Call(self.command, unquote(parts.path), query, dict(self.headers), body)
                )
                if status is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815 - the standard library's names

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for execution in self.executions.values():
            execution.cancel()
            if execution.thread:
                execution.thread.join(30)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)
        self._cache.cleanup()
