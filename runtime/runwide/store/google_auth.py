"""Google's client libraries, loaded on first use, and the default credentials that they find."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runwide import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


# Statuses of answers to requests that may succeed a little later.
TRANSIENT_CODES = frozenset({408, 429, 500, 502, 503, 504})


@cache
def module(name: str) -> Any:
    """Import a module of the client; all of them together take some tenths of a second and 20 MiB.

    Google's libraries warn about every Python version that is soon no longer supported; the user of a component cannot
    change it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)\s*You are using a .*Python", FutureWarning)
        return import_module(name)


def exceptions() -> Any:
    """Return the module of the exceptions of Google's API clients."""
    return module("google.api_core.exceptions")


_FIRMWARE = Path("/sys/class/dmi/id/product_name")
_LOOK = 0.7  # seconds in which a metadata server must answer on a machine that seems to have none
_NOT_YET = 404  # a metadata server that is starting, or a machine without a service account


def default(scopes: Sequence[str]) -> tuple[Any, str | None]:
    """Find credentials as Google's own libraries do, and the project with them.

    The search ends with a metadata server. Google's client waits 12 s for it if the network drops the requests. Less than
    one second is enough if the firmware is not Google's and no service of Google's has started this container.
    ``GCE_METADATA_TIMEOUT`` takes precedence.

    Raises:
        google.auth.exceptions.GoogleAuthError: There are none; `is_passing` returns whether there may be some later.
    """
    patient = in_googles_cloud() or settings.is_set("GCE_METADATA_TIMEOUT")
    request = asking() if patient else _asking_once(asking())
    credentials, project = module("google.auth").default(scopes=scopes, request=request)
    return credentials, project


class _NoAnswer:
    """The answer for a metadata server that does not exist."""

    status = 0
    headers: Mapping[str, str] = {}


def _asking_once(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``ask``, but with one short attempt at finding the metadata server.

    Google's client would try three times. It reads that number when it is imported, which may have happened before.
    """
    failed = module("google.auth.exceptions").TransportError

    def look(url: str, *args: Any, **options: Any) -> Any:
        if urlsplit(url).path.strip("/"):  # a request for something else
            return ask(url, *args, **options)
        try:
            return ask(url, *args, **{**options, "timeout": _LOOK})
        except failed:
            return _NoAnswer()

    return look


def in_googles_cloud() -> bool:
    """Return whether this machine may have a metadata server, according to its firmware or the container's variables."""
    if settings.in_cloud() or settings.in_service_of_googles():
        return True
    try:
        return "Google" in _FIRMWARE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def asking() -> Callable[..., Any]:
    """Return the callable that sends requests for tokens, to metadata servers and others.

    The errors of most kinds of credentials do not have the status of the answer. So this raises an exception itself for a
    status that may be temporary.
    """
    transport = module("google.auth.transport.requests").Request()

    def ask(url: str, *args: Any, **options: Any) -> Any:
        response = transport(url, *args, **options)
        if response.status in TRANSIENT_CODES:
            host = url.partition("?")[0]
            raise module("google.auth.exceptions").TransportError(
                f"{host} answers with status {response.status}"
            )
        return response

    return ask


def is_passing(error: BaseException) -> bool:
    """Return whether credentials may be obtained a little later, after this error of google.auth."""
    auth = module("google.auth.exceptions")
    chain = list(_chain(error))
    if any(isinstance(one, (auth.MutualTLSChannelError, auth.ClientCertError)) for one in chain):
        return False
    if any(getattr(one, "retryable", False) for one in chain):
        return True
    if is_missing(error):
        return in_googles_cloud() and settings.value("NO_GCE_CHECK") != "true"
    if "response from metadata server" in str(error):  # the server is starting
        return True
    return any(isinstance(one, auth.TransportError) and _is_passing_answer(one) for one in chain)


def is_missing(error: BaseException) -> bool:
    """Return whether an error says that there are no credentials, rather than invalid ones."""
    missing = module("google.auth.exceptions").DefaultCredentialsError
    return type(error) is missing and "credentials were not found" in str(error)


def _is_passing_answer(error: BaseException) -> bool:
    """Return whether a transport error may be temporary: an error of a metadata server carries its answer."""
    status = getattr(error.args[1], "status", None) if len(error.args) > 1 else None
    return status is None or status == _NOT_YET or status in TRANSIENT_CODES


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
