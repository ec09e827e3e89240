"""Google's default credentials: where they are looked for, and which of their faults pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runwide import settings
from runwide.spill.library import TRANSIENT_CODES, module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_FIRMWARE = Path("/sys/class/dmi/id/product_name")
_LOOK = 0.7  # seconds in which a metadata server of a machine that looks like none must answer
_NOT_YET = 404  # of a metadata server that starts, and of a machine without a service account


def default(scopes: Sequence[str]) -> tuple[Any, str | None]:
    """Find credentials as Google's own libraries do, and the project with them.

    The search ends with a metadata server, for which it waits 12 s where a network swallows what is sent there. Less than
    one is enough where the firmware is not Google's, and no service of Google's has started this container; what the user
    has set wins.

    Args:
        scopes: What the credentials are for.

    Raises:
        google.auth.exceptions.GoogleAuthError: There are none; `is_passing` says whether there may be some later.
    """
    patient = in_googles_cloud() or settings.is_set("GCE_METADATA_TIMEOUT")
    request = asking() if patient else _asking_once(asking())
    credentials, project = module("google.auth").default(scopes=scopes, request=request)
    return credentials, project


class _Nobody:
    """The answer of a metadata server that is not there."""

    status = 0
    headers: Mapping[str, str] = {}


def _asking_once(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Look once, and for less than a second, whether there is a metadata server.

    Google's client would look three times; it reads how often when it is imported, which may be before this.
    """
    failed = module("google.auth.exceptions").TransportError

    def look(url: str, *args: Any, **options: Any) -> Any:
        if urlsplit(url).path.strip("/"):  # of something else
            return ask(url, *args, **options)
        try:
            return ask(url, *args, **{**options, "timeout": _LOOK})
        except failed:
            return _Nobody()

    return look


def in_googles_cloud() -> bool:
    """Whether this machine may have a metadata server, as its firmware or what has started the container says."""
    if settings.in_cloud() or settings.in_service_of_googles():
        return True
    try:
        return "Google" in _FIRMWARE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def asking() -> Callable[..., Any]:
    """Make what sends the requests for tokens, to metadata servers and others.

    Of most kinds of credentials, an error does not tell the status of the answer behind it. So an answer that a later
    request may better is raised here.
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
    """Whether credentials that could not be had may be had a little later.

    Args:
        error: An error of google.auth.
    """
    auth = module("google.auth.exceptions")
    chain = list(_chain(error))
    if any(isinstance(one, (auth.MutualTLSChannelError, auth.ClientCertError)) for one in chain):
        return False
    if any(getattr(one, "retryable", False) for one in chain):
        return True
    if is_missing(error):
        return in_googles_cloud() and settings.value("NO_GCE_CHECK") != "true"
    if "response from metadata server" in str(error):  # of one that is not quite there
        return True
    return any(isinstance(one, auth.TransportError) and _is_passing_answer(one) for one in chain)


def is_missing(error: BaseException) -> bool:
    """Whether an error says that there are no credentials, not that what there is cannot be used."""
    missing = module("google.auth.exceptions").DefaultCredentialsError
    return type(error) is missing and "credentials were not found" in str(error)


def _is_passing_answer(error: BaseException) -> bool:
    """Whether a fault of the transport may pass: that of a metadata server has its answer with it."""
    status = getattr(error.args[1], "status", None) if len(error.args) > 1 else None
    return status is None or status == _NOT_YET or status in TRANSIENT_CODES


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
