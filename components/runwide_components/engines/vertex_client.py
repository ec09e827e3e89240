"""The door to Google's client of Vertex AI: loaded on first use, asked with patience, its errors made ours."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runwide.errors import EngineError
from runwide.redaction import shortened
from runwide_components.engines.pace import retried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runwide_components.engines.vertex import Vertex

PATIENCE = 900.0  # seconds; a quota that is used up is a matter of minutes
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class Client:
    """Google's client, loaded now: importing it takes a second where it is compiled already, and ten where it is not."""

    def __init__(self) -> None:
        try:
            self.aiplatform: Any = import_module("google.cloud.aiplatform")
            self.pipeline_jobs: Any = import_module("google.cloud.aiplatform.pipeline_jobs")
            self.exceptions: Any = import_module("google.api_core.exceptions")
        except ImportError as error:
            raise EngineError(
                f"Google's client of Vertex AI is missing ({error})", hint="pip install 'runwide[vertex]'"
            ) from error

    def service(self, engine: Vertex) -> Any:
        """A client of the pipeline service, as theirs is made for `PipelineJob`."""
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
    """Turn errors of credentials into ours.

    Args:
        uri: Project and region, for the error.

    Raises:
        EngineError: There are no credentials, or they are not accepted.
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


def asked(call: Any, uri: str) -> Any:
    """What a call returns, made again after errors that pass; what is left is an error of ours.

    Only ``Conflict``, a name that exists, comes through as it is: it is an answer.
    """
    exceptions = import_module("google.api_core.exceptions")
    connection = import_module("requests.exceptions").ConnectionError

    def passes(error: Exception) -> bool:
        code = getattr(error, "code", None)
        return isinstance(error, (connection, exceptions.RetryError)) or code in _TRANSIENT

    try:
        with authorized(uri):
            return retried(call, transient=passes, patience=PATIENCE)
    except exceptions.Conflict:
        raise
    except exceptions.GoogleAPICallError as error:
        raise EngineError(f"Vertex refused: {error.message}", uri=uri, hint=_hint(error.code)) from error
    except (connection, exceptions.RetryError) as error:
        raise EngineError(f"Vertex does not answer: {error}", uri=uri) from error


def _hint(code: int | None) -> str | None:
    return {
        403: "give this account the role Vertex AI User, and Service Account User on the steps' service account",
        404: "look at the project, the region and the name of the run",
        429: "ask for more quota, or submit fewer runs at a time",
    }.get(code or 0)
