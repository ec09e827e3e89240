"""The connection to Google's services: the session, its pace, and the repetition of requests."""

from __future__ import annotations

import base64
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from runwide import settings
from runwide.errors import InputError, IntegrityError
from runwide.log import Log
from runwide.spill import credentials, rate
from runwide.spill.answers import Damaged, is_transient, mapped
from runwide.spill.library import exceptions, module
from runwide.spill.refusals import line
from runwide.spill.store import DAMAGES

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = Log("spill")

CONNECTIONS = 64  # as many as threads may ask at once: urllib3 throws away connections above its pool's size
_UNIVERSE = "googleapis.com"
_CONNECT = 10  # seconds to connect
_SLOW_DOWN = frozenset({429, 503})
# Seconds for a store that has never answered, more likely a wrong name than an outage, or that was given up before.
_FIRST_DEADLINE = 60.0


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
_gave_up: tuple[float, Exception] | None = None  # when no connection could be had, and why


def attempt(call: Callable[[], T], *, uri: str) -> T:
    """Make a request until it gets an answer that is not a transient fault, within the deadline.

    The deadline is for silence and refusals. An answer that comes damaged again and again will not get better.

    Args:
        call: Makes the request once.
        uri: The object concerned.

    Raises:
        IntegrityError: `DAMAGES` answers were damaged.
        google.api_core.exceptions.RetryError: The deadline is over.
    """
    connection = _connection()
    deadline = float(settings.store_patience()[0])
    if not connection.reached:
        deadline = min(deadline, _FIRST_DEADLINE)
    try:
        answer = _retried(_damage_counted(call, uri), uri=uri, deadline=deadline)
    except exceptions().RetryError:
        connection.reached = False  # who else has something to ask need not wait the whole time again
        raise
    connection.reached = True
    return answer


def _damage_counted(call: Callable[[], T], uri: str) -> Callable[[], T]:
    damages = 0

    def counted() -> T:
        nonlocal damages
        try:
            return call()
        except Damaged as error:
            damages += 1
            if damages < DAMAGES:
                raise
            raise IntegrityError(
                f"it was damaged on the way {damages} times: {error}",
                uri=uri,
                hint="look for a proxy or another program between here and the store that changes what passes through it",
            ) from error

    return counted


def _retried(call: Callable[[], T], *, uri: str, deadline: float) -> T:
    retry = module("google.api_core.retry").Retry(
        predicate=is_transient,
        initial=0.25,
        maximum=30.0,
        multiplier=2.0,
        timeout=deadline,
        on_error=lambda error: log.warning("request.retried", uri=uri, cause=line(error)),
    )
    answer: T = retry(call)()
    return answer


def _connection() -> _Connection:
    """The connection of this process; who comes while another thread tries in vain does not try again."""
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
    """Repeat what asks for credentials, or for something else that has never answered."""
    deadline = min(float(settings.store_patience()[0]), _FIRST_DEADLINE)
    return _retried(call, uri=uri, deadline=deadline)


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
    if "://" not in endpoint:  # as Google's clients in other languages take it
        endpoint = f"http://{endpoint}"
    _settle(session, endpoint)
    return _Connection(client, session, endpoint, rate.Limiter(rate.READS), rate.Limiter(rate.WRITES))


def _options(found: Any) -> dict[str, str]:
    """Where the service is: at a private endpoint, or in a universe other than Google's own."""
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
        found, auth_request=credentials.asking()
    )


def _settle(session: Any, endpoint: str) -> None:
    """Look once for proxies and certificates: requests does at each request, which takes half the time of a small one.

    It would look into ~/.netrc, too, and send what it finds there in the place of Google's credentials.
    """
    found = session.merge_environment_settings(endpoint, {}, None, None, None)
    session.proxies, session.verify, session.trust_env = found["proxies"], found["verify"], False


def _credentials(emulator: str | None) -> tuple[Any, str]:
    if emulator:
        return module("google.auth.credentials").AnonymousCredentials(), "emulated"
    found, project = credentials.default(module("google.cloud.storage").Client.SCOPE)
    payer = settings.value("RUNWIDE_USER_PROJECT")
    if payer and getattr(found, "quota_project_id", None):  # a request may not name two
        found = found.with_quota_project(payer)
    return found, project or "none"


def _forget() -> None:
    """Start anew in a forked child: the parent's lock may be held, and its sockets are not ours."""
    global _lock, _gave_up
    _lock, _gave_up = threading.Lock(), None
    connections.clear()


if hasattr(os, "register_at_fork"):  # nothing forks on Windows
    os.register_at_fork(after_in_child=_forget)


def request(method: str, path: str, **options: Any) -> Any:
    """One request to the service, in its turn; an answer that is no success is raised as the client library would."""
    connection = _connection()
    payer = settings.value("RUNWIDE_USER_PROJECT")
    if payer:
        path += f"{'&' if '?' in path else '?'}userProject={quote(payer, safe='')}"
    limiter = connection.reads if method == "GET" else connection.writes
    sent = limiter.wait()
    timeout = (_CONNECT, settings.store_patience()[1])
    try:
        response = connection.session.request(method, connection.endpoint + path, timeout=timeout, **options)
    except module("requests.exceptions").ContentDecodingError as error:
        raise Damaged(f"the answer cannot be decompressed ({line(error)})") from error
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

    def access() -> bytes:
        if override and override.startswith(
            "http://"
        ):  # an emulator's: no token is sent where anybody can read it
            found = module("google.auth.credentials").AnonymousCredentials()
        else:
            found, _ = credentials.default(["https://www.googleapis.com/auth/cloud-platform"])
        endpoint = (override or f"https://secretmanager.{found.universe_domain}").rstrip("/")
        with _session(found) as session:
            response = session.get(f"{endpoint}/v1/{name}:access", timeout=_CONNECT)
            if response.status_code >= 300:  # noqa: PLR2004 - everything above is no success
                raise exceptions().from_http_response(response)
            return base64.b64decode(response.json()["payload"]["data"])

    with mapped(name, writing=False):
        return _patiently(access, name)
