"""The connection to Google's services: the session, its credentials, and its requests."""

from __future__ import annotations

import base64
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from runwide import settings
from runwide.errors import InputError
from runwide.store import google_auth, remote
from runwide.store.google_auth import exceptions, module
from runwide.store.google_errors import GOOGLE, line
from runwide.store.meaning import Damaged
from runwide.store.rate import READS, WRITES, Limiter

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CONNECTIONS = 64
"""Threads that may send requests at once: urllib3 closes connections above the size of its pool."""

_UNIVERSE = "googleapis.com"
_CONNECT = 10  # seconds to connect


@dataclass(slots=True)
class _Connection:
    """The client of this process, its session, and its requests so far."""

    client: Any
    session: Any
    endpoint: str
    traffic: remote.Traffic


connections: dict[tuple[int, str | None], _Connection] = {}
_lock = threading.Lock()
_gave_up: tuple[float, Exception] | None = None  # time and cause of the last failure to connect


def connection() -> _Connection:
    """Return the connection of this process; a thread that waited while another one failed does not try again."""
    global _gave_up  # noqa: PLW0603 - one for each process, as the connections
    came = time.monotonic()
    emulator = settings.value("STORAGE_EMULATOR_HOST") or None
    key = (os.getpid(), emulator)
    with _lock:
        found = connections.get(key)
        if found is None:
            if _gave_up is not None and _gave_up[0] > came:
                raise _gave_up[1]
            try:
                found = connections[key] = _patiently(lambda: _connect(emulator), "credentials")
            except Exception as error:
                _gave_up = time.monotonic(), error
                raise
        return found


def _patiently(call: Callable[[], T], uri: str) -> T:
    """Repeat a request for credentials, or to another service that has never answered."""
    deadline = min(float(settings.store_patience()[0]), remote.FIRST_DEADLINE)
    return GOOGLE.retried(call, uri=uri, deadline=deadline)


def _connect(emulator: str | None) -> _Connection:
    # The client would otherwise ask for the bucket's metadata in a background thread (google-cloud-python #17650).
    settings.set_default("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    found, project = _credentials(emulator)
    options = {} if emulator else _options(found)
    session = _session(found)
    for scheme in ("http://", "https://"):
        session.mount(scheme, module("requests.adapters").HTTPAdapter(pool_maxsize=CONNECTIONS))
    client = module("google.cloud.storage").Client(
        project=project, credentials=found, _http=session, client_options=options
    )
    endpoint = client.api_endpoint.rstrip("/")
    if "://" not in endpoint:  # Google's clients in other languages accept that
        endpoint = f"http://{endpoint}"
    _settle(session, endpoint)
    traffic = remote.Traffic(Limiter(READS), Limiter(WRITES))
    return _Connection(client, session, endpoint, traffic)


def _options(found: Any) -> dict[str, str]:
    """Return the client's options for a private endpoint, or for a universe other than Google's own."""
    wanted = settings.read()
    universe = wanted.universe_domain or found.universe_domain
    if universe != found.universe_domain:
        raise InputError(
            f"GOOGLE_CLOUD_UNIVERSE_DOMAIN is {universe}, the credentials are of {found.universe_domain}",
            hint="use credentials of that universe, or unset the variable",
        )
    options = {} if universe == _UNIVERSE else {"universe_domain": universe}
    if wanted.storage_endpoint:
        options["api_endpoint"] = wanted.storage_endpoint.rstrip("/").removesuffix("/storage/v1")
    return options


def _session(found: Any) -> Any:
    return module("google.auth.transport.requests").AuthorizedSession(
        found, auth_request=google_auth.asking()
    )


def _settle(session: Any, endpoint: str) -> None:
    """Look for proxies and certificates once: requests does it at each request, which takes half the time of a small one.

    It would also read ~/.netrc, and send the login that it finds there instead of Google's credentials.
    """
    found = session.merge_environment_settings(endpoint, {}, None, None, None)
    session.proxies, session.verify, session.trust_env = found["proxies"], found["verify"], False


def _credentials(emulator: str | None) -> tuple[Any, str]:
    if emulator:
        return module("google.auth.credentials").AnonymousCredentials(), "emulated"
    found, project = google_auth.default(module("google.cloud.storage").Client.SCOPE)
    payer = settings.value("RUNWIDE_USER_PROJECT")
    if payer and getattr(found, "quota_project_id", None):  # a request may not name two
        found = found.with_quota_project(payer)
    return found, project or "none"


def _forget() -> None:
    """Start anew in a forked child: the parent's lock may be held, and its sockets must not be shared."""
    global _lock, _gave_up
    _lock, _gave_up = threading.Lock(), None
    connections.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)


def request(method: str, path: str, **options: Any) -> Any:
    """Send one request to Cloud Storage; raise the client library's exception for an answer that is not a success."""
    here = connection()
    payer = settings.value("RUNWIDE_USER_PROJECT")
    if payer:
        path += f"{'&' if '?' in path else '?'}userProject={quote(payer, safe='')}"
    timeout = (_CONNECT, settings.store_patience()[1])
    try:
        response = here.session.request(method, here.endpoint + path, timeout=timeout, **options)
    except module("requests.exceptions").ContentDecodingError as error:
        raise Damaged(f"the answer cannot be decompressed ({line(error)})") from error
    if response.status_code >= 300:  # noqa: PLR2004 - everything above is no success
        with response:
            raise exceptions().from_http_response(response)
    return response


def secret_value(name: str) -> bytes:
    """Return the value that Secret Manager keeps under a name ``projects/P/secrets/S/versions/V``."""
    override = settings.read().secret_endpoint

    def access() -> bytes:
        # An emulator's: a token must not be sent without encryption.
        if override and override.startswith("http://"):
            found = module("google.auth.credentials").AnonymousCredentials()
        else:
            found, _ = google_auth.default(["https://www.googleapis.com/auth/cloud-platform"])
        endpoint = (override or f"https://secretmanager.{found.universe_domain}").rstrip("/")
        with _session(found) as session:
            response = session.get(f"{endpoint}/v1/{name}:access", timeout=_CONNECT)
            if response.status_code >= 300:  # noqa: PLR2004 - everything above is no success
                raise exceptions().from_http_response(response)
            return base64.b64decode(response.json()["payload"]["data"])

    with GOOGLE.mapped(name, writing=False):
        return _patiently(access, name)
