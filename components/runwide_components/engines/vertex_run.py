"""One run on Vertex AI, read through Google's client: its state, its outputs, and why it failed."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from runwide.errors import EngineError
from runwide.job.runner import PolledRun
from runwide.redaction import shortened
from runwide_components.engines import spec
from runwide_components.engines.base import RunState
from runwide_components.engines.calls import TRANSIENT, retried

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runwide_components.engines.spec import Source
    from runwide_components.engines.vertex import Vertex


PATIENCE = 900.0  # seconds; an exhausted quota recovers within minutes


class Client:
    """Google's client. Importing it takes a second, and ten seconds the first time, when Python compiles it."""

    def __init__(self) -> None:
        try:
            self.aiplatform: Any = import_module("google.cloud.aiplatform")
            self.pipeline_jobs: Any = import_module("google.cloud.aiplatform.pipeline_jobs")
            self.exceptions: Any = import_module("google.api_core.exceptions")
        except ImportError as error:
            raise EngineError(
                f"Google's client of Vertex AI is not installed ({error})",
                hint="pip install 'runwide[vertex]'",
            ) from error

    def service(self, engine: Vertex) -> Any:
        """Return a client of the pipeline service, made as Google's `PipelineJob` makes it."""
        initializer = import_module("google.cloud.aiplatform.initializer")
        utils = import_module("google.cloud.aiplatform.utils")
        with authorized(f"{engine.project}/{engine.location}"):
            return initializer.global_config.create_client(
                client_class=utils.PipelineJobClientWithOverride,
                credentials=engine.credentials,
                location_override=engine.location,
            )


@contextmanager
def authorized(uri: str) -> Iterator[None]:
    """Turn errors of credentials into an `EngineError`."""
    try:
        yield
    except import_module("google.auth.exceptions").GoogleAuthError as error:
        said = " ".join(str(error.args[0] if error.args else error).split())
        raise EngineError(
            f"this process has no credentials for Vertex AI: {shortened(said, 300)}",
            uri=uri,
            hint="log in with: gcloud auth application-default login; or name the file of a service account in "
            "GOOGLE_APPLICATION_CREDENTIALS, or give Vertex(credentials=)",
        ) from error


def call(request: Any, uri: str) -> Any:
    """Return the result of a request, repeated after transient errors.

    Args:
        request: The request; it must be safe to make it twice.

    Raises:
        EngineError: Vertex refuses, or does not answer.
        google.api_core.exceptions.Conflict: The name exists. Callers treat this as an answer.
    """
    exceptions = import_module("google.api_core.exceptions")
    connection = import_module("requests.exceptions").ConnectionError

    def is_transient(error: Exception) -> bool:
        code = getattr(error, "code", None)
        return isinstance(error, (connection, exceptions.RetryError)) or code in TRANSIENT

    try:
        with authorized(uri):
            return retried(request, transient=is_transient, patience=PATIENCE)
    except exceptions.Conflict:
        raise
    except exceptions.GoogleAPICallError as error:
        hint = _HINTS.get(error.code)
        raise EngineError(f"Vertex refused: {error.message}", uri=uri, hint=hint) from error
    except (connection, exceptions.RetryError) as error:
        raise EngineError(f"Vertex does not answer: {error}", uri=uri) from error


_HINTS = {
    403: "give this account the role Vertex AI User, and Service Account User on the steps' service account",
    404: "check the project, the region and the name of the run",
    429: "ask for more quota, or submit fewer runs at a time",
}
_STATES = {
    "PIPELINE_STATE_QUEUED": RunState.PENDING,
    "PIPELINE_STATE_PENDING": RunState.PENDING,
    "PIPELINE_STATE_SUCCEEDED": RunState.SUCCEEDED,
    "PIPELINE_STATE_FAILED": RunState.FAILED,
    "PIPELINE_STATE_CANCELLED": RunState.CANCELLED,
}
_NO_REASON = "Vertex reports no reason"


class VertexRun(PolledRun):
    """One run on Vertex; see `Run`.

    Outputs are read from the tasks that made them, the only place where the API has them: a parameter from the task's
    metadata in Vertex ML Metadata, an artifact as its name, URI and metadata.
    """

    def __init__(self, engine: Vertex, client: Client, name: str) -> None:
        super().__init__(name, engine.poll)
        self._engine = engine
        self._service = client.service(engine)
        self._last: Any = None

    @property
    def logs(self) -> str:
        """The page of the run in the console."""
        _, project, _, location, _, run = self.id.split("/")
        return f"https://console.cloud.google.com/vertex-ai/locations/{location}/pipelines/runs/{run}?project={project}"

    def resource(self) -> Any:
        """Return the current ``PipelineJob`` of the API."""
        self._last = call(lambda: self._service.get_pipeline_job(name=self.id), self.id)
        return self._last

    def argument(self, name: str) -> Any:
        """Return an argument of the pipeline; see `Run.argument`."""
        config = json_format.MessageToDict(self.resource()._pb.runtime_config)  # noqa: SLF001 - the protobuf message
        return config.get("parameterValues", {}).get(name)

    def _ask(self) -> RunState:
        return _STATES.get(self.resource().state.name, RunState.RUNNING)

    def _outputs(self) -> dict[str, Any]:
        tasks = list(self._last.job_detail.task_details)
        found = {name: _made(tasks, source) for name, source in spec.sources(self._spec()).items()}
        return {name: value for name, value in found.items() if value is not None}

    def _spec(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.json"
            message = self._last._pb.pipeline_spec  # noqa: SLF001 - the protobuf message
            path.write_text(json_format.MessageToJson(message), encoding="utf-8")
            return spec.loaded(path)

    def _failure(self) -> EngineError:
        failed = [task for task in self._last.job_detail.task_details if task.state.name == "FAILED"]
        parents = {task.parent_task_id for task in failed}
        leaves = [task for task in failed if task.task_id not in parents]
        steps = [(task.task_name, task.error.message or _NO_REASON) for task in leaves]
        return self._failed(steps, self._last.error.message or _NO_REASON)

    def _cancel(self) -> None:
        try:
            call(lambda: self._service.cancel_pipeline_job(name=self.id), self.id)
        except EngineError as error:
            if getattr(error.__cause__, "code", None) != 400:  # noqa: PLR2004 - FAILED_PRECONDITION: the run has just ended
                raise


def _made(tasks: list[Any], source: Source) -> Any:
    """Return an output from the metadata of the tasks that made it; None where the API does not have it."""
    by_id = {task.task_id: task for task in tasks}
    makers = [task for task in tasks if _is_on(task, source.path, by_id)]
    makers.sort(
        key=lambda task: (task.create_time.timestamp() if task.create_time else time.time(), task.task_id)
    )
    values = [value for task in makers for value in _values(task, source)]
    if source.many:
        return [_plain(value) for value in values] or None
    return _plain(values[0]) if len(values) == 1 else None


def _values(task: Any, source: Source) -> Iterator[Any]:
    """Yield the output of one task, if it has one of that name."""
    if source.artifact:
        listed = task.outputs.get(source.key)
        for one in listed.artifacts if listed else ():
            yield {"name": one.name, "uri": one.uri, "metadata": dict(one.metadata or {})}
    elif task.execution and f"output:{source.key}" in (task.execution.metadata or {}):
        yield task.execution.metadata[f"output:{source.key}"]


def _is_on(task: Any, path: tuple[str, ...], by_id: Mapping[int, Any]) -> bool:
    """Return True if a task is the last of a path; other tasks in between, such as iterations of a loop, are skipped."""
    if task.task_name != path[-1]:
        return False
    wanted, parent = list(path[:-1]), by_id.get(task.parent_task_id)
    while parent is not None and wanted:
        if parent.task_name == wanted[-1]:
            wanted.pop()
        parent = by_id.get(parent.parent_task_id)
    return not wanted


def _plain(value: Any) -> Any:
    """Turn a value of protobuf into one of Python. Whole numbers become ints: a double does not tell 1 from 1.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if hasattr(value, "items"):
        return {name: _plain(one) for name, one in value.items()}
    if hasattr(value, "__iter__") and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
