"""The one door to Google's client library: credentials, the session, retries, and its errors as ours."""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from runwide import settings
from runwide.errors import (
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
    StoreUnavailable,
)
from runwide.log import Log
from runwide.spill import rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

log = Log("spill")

CONNECTIONS = 64  # as many as threads may ask at once: urllib3 throws away connections above its pool's size
_CONNECT = 10  # seconds to connect
_SLOW_DOWN = frozenset({429, 503})
# Seconds for a store that has never answered, more likely a wrong name than an outage, or that was given up before.
_FIRST_DEADLINE = 60.0
_FIRMWARE = Path("/sys/class/dmi/id/product_name")
_SERVERLESS = ("K_SERVICE", "CLOUD_RUN_JOB")  # Cloud Run, whose sandbox shows no firmware
_TRANSIENT_CODES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(slots=True)
class _Connection:
    """The client of this process, its session, and whether it has got an answer and not given up since."""

    client: Any
    session: Any
    endpoint: str
    reads: rate.Limiter
    writes: rate.Limiter
    reached: bool = False


connections: dict[tuple[int, str | None], _Connection] = {}
_lock = threading.Lock()


@contextmanager
def mapped(uri: str, *, writing: bool) -> Iterator[None]:
    """Turn whatever google, requests or urllib3 raise into an error of ours that names the object.

    Args:
        uri: The object.
        writing: Whether a refusal is one to write.
    """
    try:
        yield
    except (StoreError, IntegrityError):
        raise
    except Exception as error:
        ours = _ours(error, uri, writing=writing)
        if ours is None:
            raise
        raise ours from error


# What each exception of google.api_core.exceptions means; a test holds the table against the library.
MEANING = {
    "Absent": ("NotFound",),
    "Refused": ("Forbidden", "PermissionDenied", "Unauthorized", "Unauthenticated"),
    "Exists": ("AlreadyExists", "Conflict", "PreconditionFailed", "FailedPrecondition"),
    "Unavailable": (
        "BadGateway",
        "DeadlineExceeded",
        "GatewayTimeout",
        "InternalServerError",
        "ResourceExhausted",
        "RetryError",
        "ServerError",
        "ServiceUnavailable",
        "TooManyRequests",
        "TransferStalledError",
        "Unknown",
    ),
    "Other": (
        "Aborted",
        "AsyncRestUnsupportedParameterError",
        "BadRequest",
        "Cancelled",
        "ClientError",
        "DataLoss",
        "DuplicateCredentialArgs",
        "GoogleAPICallError",
        "GoogleAPIError",
        "InvalidArgument",
        "LengthRequired",
        "MethodNotAllowed",
        "MethodNotImplemented",
        "MissingStatusHeaderError",
        "MovedPermanently",
        "NotModified",
        "OutOfRange",
        "Redirection",
        "RequestRangeNotSatisfiable",
        "ResumableTransferError",
        "ResumeIncomplete",
        "TemporaryRedirect",
        "UnseekableStreamError",
        "UploadCancelledError",
    ),
}
_MEANING = {name: meaning for meaning, names in MEANING.items() for name in names}


def _ours(error: Exception, uri: str, *, writing: bool) -> StoreError | None:
    meaning = _meaning(error)
    if _is_untrusted(error):
        return StoreUnavailable(
            f"the certificate of what answers is not trusted here: {_line(error)}",
            uri=uri,
            hint="set REQUESTS_CA_BUNDLE to a file with your network's certificate authority; check the clock, too",
        )
    if meaning == "Absent":
        return _absent(error, uri, writing=writing)
    if meaning == "Refused":
        return _refused(error, uri, writing=writing)
    if meaning == "Exists":
        return ObjectExists("other bytes are there already", uri=uri)
    if meaning == "Unavailable":
        return StoreUnavailable(
            f"no good answer within the retry deadline; the last one: {_line(getattr(error, 'cause', None) or error)}",
            uri=uri,
            hint="check network and endpoint, then run it again: it goes on from what is stored",
        )
    return StoreError(_line(error), uri=uri) if meaning == "Other" else None


def _meaning(error: Exception) -> str | None:
    import requests
    import urllib3

    auth = module("google.auth.exceptions")
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "google.api_core.exceptions"]
    if names:
        return next((_MEANING[name] for name in names if name in _MEANING), "Other")
    if _is_transient(error):
        return "Unavailable"
    if isinstance(error, auth.GoogleAuthError):
        return "Refused"
    return "Other" if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)) else None


def _absent(error: Exception, uri: str, *, writing: bool) -> StoreError:
    if writing or "bucket does not exist" in str(error):
        return StoreNotFound(
            "there is no such bucket",
            uri=uri,
            hint=f"create it first: gcloud storage buckets create gs://{urlsplit(uri).netloc}",
        )
    return ObjectNotFound("there is no such object", uri=uri)


def _refused(error: Exception, uri: str, *, writing: bool) -> StoreError:
    kind, what = (StoreNotWritable, "write") if writing else (StoreNotReadable, "read")
    return kind(
        f"this process may not {what} there: {_line(error)}",
        uri=uri,
        hint="give the component's service account roles/storage.objectUser on the bucket; "
        "on a workstation, log in with: gcloud auth application-default login",
    )


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def exceptions() -> Any:
    """The exceptions of Google's API clients."""
    return module("google.api_core.exceptions")


class Damaged(Exception):
    """What came over the network is not what the server has."""


def _is_untrusted(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _is_transient(error: BaseException) -> bool:
    import requests
    import urllib3

    auth = module("google.auth.exceptions")
    if isinstance(error, exceptions().GoogleAPICallError):
        return error.code in _TRANSIENT_CODES
    if _is_untrusted(error):
        return False
    kinds = (
        Damaged,
        ConnectionError,
        TimeoutError,
        http.client.HTTPException,
        ssl.SSLError,
        auth.TransportError,
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        urllib3.exceptions.PoolError,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.SSLError,
        urllib3.exceptions.TimeoutError,
    )
    return isinstance(error, kinds)


def attempt(call: Callable[[], T], *, uri: str) -> T:
    """Make a request until it gets an answer that is not a transient fault, within the deadline."""
    connection = _connection()
    deadline = float(settings.store_patience()[0])
    if not connection.reached:
        deadline = min(deadline, _FIRST_DEADLINE)
    try:
        answer = _retried(call, uri=uri, deadline=deadline)
    except exceptions().RetryError:
        connection.reached = False  # who else has something to ask need not wait the whole time again
        raise
    connection.reached = True
    return answer


def _retried(call: Callable[[], T], *, uri: str, deadline: float) -> T:
    retry = module("google.api_core.retry").Retry(
        predicate=_is_transient,
        initial=0.25,
        maximum=30.0,
        multiplier=2.0,
        timeout=deadline,
        on_error=lambda error: log.warning("request.retried", uri=uri, cause=_line(error)),
    )
    answer: T = retry(call)()
    return answer


def _connection() -> _Connection:
    emulator = settings.value("STORAGE_EMULATOR_HOST") or None
    key = (os.getpid(), emulator)
    with _lock:
        found = connections.get(key)
        if found is None:
            found = connections[key] = _connect(emulator)
        return found


def _connect(emulator: str | None) -> _Connection:
    # The client would otherwise ask for the bucket's metadata in a background thread (google-cloud-python #17650).
    settings.set_default("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    credentials, project = _credentials(emulator)
    session = module("google.auth.transport.requests").AuthorizedSession(credentials)
    for scheme in ("http://", "https://"):
        session.mount(scheme, module("requests.adapters").HTTPAdapter(pool_maxsize=CONNECTIONS))
    client = module("google.cloud.storage").Client(project=project, credentials=credentials, _http=session)
    endpoint = client.api_endpoint.rstrip("/")
    if "://" not in endpoint:  # as Google's clients in other languages take it
        endpoint = f"http://{endpoint}"
    _settle(session, endpoint)
    return _Connection(client, session, endpoint, rate.Limiter(rate.READS), rate.Limiter(rate.WRITES))


def _settle(session: Any, endpoint: str) -> None:
    """Look once for proxies and certificates: requests does at each request, which takes half the time of a small one.

    It would look into ~/.netrc, too, and send what it finds there in the place of Google's credentials.
    """
    found = session.merge_environment_settings(endpoint, {}, None, None, None)
    session.proxies, session.verify, session.trust_env = found["proxies"], found["verify"], False


def _credentials(emulator: str | None) -> tuple[Any, str]:
    if emulator:
        return module("google.auth.credentials").AnonymousCredentials(), "emulated"
    scopes = module("google.cloud.storage").Client.SCOPE
    credentials, project = _default_credentials(scopes)
    return credentials, project or "none"


def _default_credentials(scopes: Sequence[str]) -> tuple[Any, str | None]:
    """Google's own search for credentials.

    It ends with a metadata server, for which it waits 12 s where a network swallows what is sent there. A second is enough
    where the firmware is not Google's, and no service of Google's has started this container; what the user has set wins.
    """
    if not _is_googles():
        settings.set_default("GCE_METADATA_TIMEOUT", "1")
        settings.set_default("GCE_METADATA_DETECT_RETRIES", "1")
    credentials, project = module("google.auth").default(scopes=scopes)
    return credentials, project


def _is_googles() -> bool:
    if settings.in_cloud() or any(map(settings.is_set, _SERVERLESS)):
        return True
    try:
        return "Google" in _FIRMWARE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


@cache
def module(name: str) -> Any:
    """A module of the client's, imported on first use: together they take some tenths of a second and 20 MiB.

    Google's libraries warn of every Python version that nears its end; the user of a component can do nothing about that.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)\s*You are using a .*Python", FutureWarning)
        return import_module(name)


def _forget() -> None:
    """Start anew in a forked child: the parent's lock may be held, and its sockets are not ours."""
    global _lock  # noqa: PLW0603 - a lock that was held in the parent stays held for ever
    _lock = threading.Lock()
    connections.clear()


os.register_at_fork(after_in_child=_forget)


def request(method: str, path: str, **options: Any) -> Any:
    """One request to the service, in its turn; an answer that is no success is raised as the client library would."""
    connection = _connection()
    limiter = connection.reads if method == "GET" else connection.writes
    sent = limiter.wait()
    timeout = (_CONNECT, settings.store_patience()[1])
    response = connection.session.request(method, connection.endpoint + path, timeout=timeout, **options)
    if response.status_code in _SLOW_DOWN:
        limiter.refused(sent)
    if response.status_code >= 300:  # noqa: PLR2004 - everything above is no success
        with response:
            raise exceptions().from_http_response(response)
    return response


def share(parts: int) -> None:
    """Take only a part of a bucket's request rate, since so many processes use it at once."""
    connection = _connection()
    connection.reads.share(parts, rate.READS)
    connection.writes.share(parts, rate.WRITES)


def secret_value(name: str) -> bytes:
    """What Secret Manager keeps under a name.

    Args:
        name: ``projects/P/secrets/S/versions/V``.

    Raises:
        StoreNotReadable: This process may not read it.
        ObjectNotFound: There is no such secret.
    """
    override = settings.read().secret_endpoint
    endpoint = (override or "https://secretmanager.googleapis.com").rstrip("/")
    if override:
        credentials = module("google.auth.credentials").AnonymousCredentials()
    else:
        credentials, _ = _default_credentials(["https://www.googleapis.com/auth/cloud-platform"])

    def access() -> bytes:
        with module("google.auth.transport.requests").AuthorizedSession(credentials) as session:
            response = session.get(f"{endpoint}/v1/{name}:access", timeout=_CONNECT)
            if response.status_code >= 300:  # noqa: PLR2004 - everything above is no success
                raise exceptions().from_http_response(response)
            return base64.b64decode(response.json()["payload"]["data"])

    with mapped(name, writing=False):
        return _retried(access, uri=name, deadline=_FIRST_DEADLINE)
