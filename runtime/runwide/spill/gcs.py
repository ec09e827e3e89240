"""A store in a Google Cloud Storage bucket; the only module that imports google.

The client library finds credentials and endpoint, and lists and deletes. Bytes go through its session directly, as one
request each of the documented JSON API: the library's own upload and download copy them, add a request above 8 MiB and
take several times the CPU for small objects (docs/benchmarks.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from runwide import settings
from runwide.errors import (
    BadReference,
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
from runwide.spill.buffers import Buffer, pieces, size_of, views
from runwide.spill.store import ObjectInfo, Store, checked, checked_prefix, stop_of, too_short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

log = Log("spill")

CONNECTIONS = 64  # as many as threads may ask at once: urllib3 throws away connections above its pool's size
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
_FIRST_DEADLINE = 60.0  # seconds for a store that has never answered: more likely a wrong name than an outage
_PIECE = 1 << 20
_JOINED = 1 << 18  # a smaller body is sent in one piece: one system call instead of one per part
_TRANSIENT_CODES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(slots=True)
class _Connection:
    """The client of this process, its session, and whether it ever got an answer."""

    client: Any
    session: Any
    endpoint: str
    reached: bool = False


_connections: dict[tuple[int, str | None], _Connection] = {}
_lock = threading.Lock()


class GcsStore(Store):
    """A bucket, or a prefix of one.

    Credentials are Google's application default credentials, or none for an emulator (``STORAGE_EMULATOR_HOST``).
    Clients are made on first use, one for each process: one that crossed a fork can return another object's bytes.

    Args:
        path: ``bucket`` or ``bucket/prefix``.
    """

    def __init__(self, path: str) -> None:
        self._bucket, _, prefix = path.rstrip("/").partition("/")
        if not self._bucket:
            raise BadReference(
                "the bucket's name is missing", uri=f"gs://{path}", hint="give gs://bucket/prefix"
            )
        super().__init__(f"gs://{self._bucket}/{prefix}".rstrip("/"))
        self._prefix = f"{checked(prefix, self.uri)}/" if prefix else ""

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        key, parts = self._key(name), views(data)
        about = {"name": key, "crc32c": _crc32c(parts)}
        with mapped(self.child_uri(name), writing=True):
            try:
                _attempt(lambda: _upload(self._bucket, about, parts), uri=self.child_uri(name))
            except _google().PreconditionFailed:
                # Ours, if an earlier attempt was stored and only its answer was lost.
                found = _attempt(lambda: _stat(self._bucket, key), uri=self.child_uri(name))
                if not _same(found, parts):
                    raise ObjectExists("other bytes are there already", uri=self.child_uri(name)) from None

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytearray:  # noqa: D102 - see Store
        key, uri = self._key(name), self.child_uri(name)
        with mapped(uri, writing=False):
            if length == 0:
                stop_of(int(_attempt(lambda: _stat(self._bucket, key), uri=uri)["size"]), start, 0, uri)
                return bytearray()
            return _attempt(lambda: _download(self._bucket, key, start, length, uri), uri=uri)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        wanted = self._prefix + checked_prefix(prefix, self.uri)
        token: str | None = None
        while True:
            with mapped(self.uri, writing=False):
                page = _attempt(lambda token=token: _page(self._bucket, wanted, token), uri=self.uri)  # type: ignore[misc]  # mypy cannot type a lambda's default
            for item in page.get("items", ()):
                yield ObjectInfo(item["name"].removeprefix(self._prefix), int(item["size"]))
            token = page.get("nextPageToken")
            if not token:
                return

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        key = self._key(name)
        with mapped(self.child_uri(name), writing=True):
            _attempt(lambda: _delete(self._bucket, key), uri=self.child_uri(name))

    def _key(self, name: str) -> str:
        return self._prefix + checked(name, self.uri)


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
    from google.auth import exceptions as auth

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
            hint="create it first: gcloud storage buckets create gs://NAME",
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


def _google() -> Any:
    from google.api_core import exceptions

    return exceptions


class _Damaged(Exception):
    """What came over the network is not what the server has."""


def _is_transient(error: BaseException) -> bool:
    import requests
    import urllib3
    from google.auth import exceptions as auth

    if isinstance(error, _google().GoogleAPICallError):
        return error.code in _TRANSIENT_CODES
    kinds = (
        _Damaged,
        ConnectionError,
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


def _attempt(request: Callable[[], T], *, uri: str) -> T:
    """Make a request until it gets an answer that is not a transient fault, within the deadline."""
    from google.api_core.retry import Retry

    connection = _connection()
    deadline = float(settings.read().store_deadline)
    retry = Retry(
        predicate=_is_transient,
        initial=0.5,
        maximum=30.0,
        multiplier=2.0,
        timeout=deadline if connection.reached else min(deadline, _FIRST_DEADLINE),
        on_error=lambda error: log.warning("request.retried", uri=uri, cause=_line(error)),
    )
    answer: T = retry(request)()
    connection.reached = True
    return answer


def _connection() -> _Connection:
    emulator = settings.read().storage_emulator
    key = (os.getpid(), emulator)
    with _lock:
        found = _connections.get(key)
        if found is None:
            found = _connections[key] = _connect(emulator)
        return found


def _connect(emulator: str | None) -> _Connection:
    # The client would otherwise ask for the bucket's metadata in a background thread (google-cloud-python #17650).
    settings.set_default("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    credentials, project = _credentials(emulator)
    session = _module("google.auth.transport.requests").AuthorizedSession(credentials)
    for scheme in ("http://", "https://"):
        session.mount(scheme, _module("requests.adapters").HTTPAdapter(pool_maxsize=CONNECTIONS))
    client = _module("google.cloud.storage").Client(project=project, credentials=credentials, _http=session)
    return _Connection(client, session, client.api_endpoint.rstrip("/"))


def _credentials(emulator: str | None) -> tuple[Any, str]:
    if emulator:
        return _module("google.auth.credentials").AnonymousCredentials(), "emulated"
    scopes = _module("google.cloud.storage").Client.SCOPE
    credentials, project = _module("google.auth").default(scopes=scopes)
    return credentials, project or "none"


def _module(name: str) -> Any:
    """A module of the client's, imported on first use: together they take half a second and 60 MiB."""
    return import_module(name)


def _forget() -> None:
    """Start anew in a forked child: the parent's lock may be held, and its sockets are not ours."""
    global _lock  # noqa: PLW0603 - a lock that was held in the parent stays held for ever
    _lock = threading.Lock()
    _connections.clear()


os.register_at_fork(after_in_child=_forget)


def _upload(bucket: str, about: dict[str, str], parts: Sequence[memoryview]) -> None:
    boundary = secrets.token_hex(16).encode()
    head = b"".join([
        b"--", boundary, b"\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n", json.dumps(about).encode(),
        b"\r\n--", boundary, b"\r\ncontent-type: application/octet-stream\r\n\r\n",
    ])  # fmt: skip
    body = _Body([memoryview(head), *parts, memoryview(b"\r\n--" + boundary + b"--\r\n")])
    _request(
        "POST",
        f"/upload/storage/v1/b/{quote(bucket)}/o?uploadType=multipart&ifGenerationMatch=0&fields=generation",
        data=b"".join(body) if len(body) < _JOINED else body,
        headers={"content-type": f"multipart/related; boundary={boundary.decode()}"},
    )


class _Body:
    """Parts of a request's body, sent as they lie in memory."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._size = size_of(parts)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        return pieces(self._parts, _PIECE)


def _download(bucket: str, key: str, start: int, length: int | None, uri: str) -> bytearray:
    headers = {"accept-encoding": "identity"}
    ranged = bool(start) or length is not None
    if ranged:
        headers["range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
    path = f"/download/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}?alt=media"
    try:
        response = _request("GET", path, headers=headers, stream=True)
    except _google().RequestRangeNotSatisfiable as error:
        raise too_short(uri, start, start + (length or 1)) from error
    with response:
        size = int(response.headers["content-length"])
        if ranged and response.status_code != 206:  # noqa: PLR2004 - partial content
            raise _Damaged(f"status {response.status_code} instead of a byte range")
        if length is not None and size < length:
            raise too_short(uri, start + size, start + length)
        content = _body(response, size)
    if not ranged:
        _check_crc32c(response.headers.get("x-goog-hash", ""), content)
    return content


def _body(response: Any, size: int) -> bytearray:
    content = bytearray(size)
    done = 0
    while done < size:
        piece = response.raw.read(min(_PIECE, size - done))
        if not piece:
            raise _Damaged(f"the answer ended after {done} of {size} bytes")
        content[done : done + len(piece)] = piece
        done += len(piece)
    return content


def _check_crc32c(header: str, content: bytearray) -> None:
    """Catch damage on the way while it can still be repaired by asking again; SHA-256 has the last word, later."""
    for item in header.split(","):
        kind, _, value = item.strip().partition("=")
        if kind == "crc32c" and value != _crc32c([memoryview(content)]):
            raise _Damaged("the bytes do not match the server's CRC32C")


def _stat(bucket: str, key: str) -> dict[str, Any]:
    path = f"/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}?fields=size,md5Hash"
    answer: dict[str, Any] = _request("GET", path).json()
    return answer


def _same(found: dict[str, Any], parts: Sequence[memoryview]) -> bool:
    if int(found["size"]) != size_of(parts):
        return False
    digest = hashlib.md5(
        usedforsecurity=False
    )  # what the server keeps; a forged object fails its SHA-256 when read
    for part in parts:
        digest.update(part)
    return bool(found["md5Hash"] == base64.b64encode(digest.digest()).decode())


def _page(bucket: str, prefix: str, token: str | None) -> dict[str, Any]:
    after = f"&pageToken={quote(token, safe='')}" if token else ""
    fields = "fields=items(name,size),nextPageToken"
    path = f"/storage/v1/b/{quote(bucket)}/o?prefix={quote(prefix, safe='')}&{fields}{after}"
    answer: dict[str, Any] = _request("GET", path).json()
    return answer


def _delete(bucket: str, key: str) -> None:
    from contextlib import suppress

    with suppress(_google().NotFound):
        _request("DELETE", f"/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}")


def _request(method: str, path: str, **options: Any) -> Any:
    connection = _connection()
    response = connection.session.request(method, connection.endpoint + path, timeout=_TIMEOUT, **options)
    if response.status_code >= 300:  # noqa: PLR2004 - everything above is no success
        with response:
            raise _google().from_http_response(response)
    return response


def _crc32c(parts: Sequence[memoryview]) -> str:
    checksum = _module("google_crc32c").Checksum()
    for piece in pieces(parts, _PIECE):
        checksum.update(bytes(piece))  # the library takes nothing but bytes
    return base64.b64encode(bytes(checksum.digest())).decode()
