"""Google's client of Vertex AI: loaded on first use, with repeated calls and errors of ours."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError
from runwide.redaction import shortened
from runwide_components.engines.pace import TRANSIENT, retried

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Turn errors of credentials into an `EngineError`.

    Raises:
        EngineError: Credentials are missing, or not accepted.
    """
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
        uri: The run or its project and region, for errors.

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
        raise EngineError(f"Vertex refused: {error.message}", uri=uri, hint=_hint(error.code)) from error
    except (connection, exceptions.RetryError) as error:
        raise EngineError(f"Vertex does not answer: {error}", uri=uri) from error


def _hint(code: int | None) -> str | None:
    return {
        403: "give this account the role Vertex AI User, and Service Account User on the steps' service account",
        404: "check the project, the region and the name of the run",
        429: "ask for more quota, or submit fewer runs at a time",
    }.get(code or 0)
