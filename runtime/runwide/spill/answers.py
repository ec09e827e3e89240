"""What the answers and errors of a bucket mean: which are transient, and which error of ours the others are."""

from __future__ import annotations

import http.client
import re
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
from runwide.spill import credentials
from runwide.spill.library import TRANSIENT_CODES, exceptions, module
from runwide.spill.refusals import line, refusal_of, said

if TYPE_CHECKING:
    from collections.abc import Iterator


_SLOWER = re.compile(r'"(userR|r)ateLimitExceeded"')  # which the JSON API may say with 403


class Damaged(Exception):
    """An answer whose bytes are not those that the server has."""


class Broken(Exception):
    """An answer that ended too early, with its connection."""


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
            f"the certificate of what answers is not trusted here: {line(error)}",
            uri=uri,
            hint="set REQUESTS_CA_BUNDLE to a file with your network's certificate authority; check the clock, too",
        )
    if meaning is None:
        return None
    if meaning == "Unavailable":
        return _gave_up(getattr(error, "cause", None) or error, uri, writing=writing)
    if meaning == "Absent":
        return _absent(error, uri, writing=writing)
    return _refused(error, uri, meaning=meaning, writing=writing)


def _gave_up(last: Exception, uri: str, *, writing: bool) -> StoreError:
    if not isinstance(last, module("google.auth.exceptions").GoogleAuthError):
        return StoreUnavailable(
            f"no good answer within the retry deadline; the last one: {line(last)}",
            uri=uri,
            hint="check network and endpoint, then run it again: it goes on from what is stored",
        )
    if credentials.is_missing(last):
        return _refused(last, uri, meaning="Refused", writing=writing)
    return StoreUnavailable(
        f"no token for the store within the retry deadline; the last answer: {line(last)}",
        uri=uri,
        hint="see that a service account is attached to this machine or pod, and that its metadata server, or what "
        "else gives the tokens, can be reached; then run it again: it goes on from what is stored",
    )


def _meaning(error: Exception) -> str | None:
    import requests
    import urllib3

    auth = module("google.auth.exceptions")
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "google.api_core.exceptions"]
    if names:
        return next((_MEANING[name] for name in names if name in _MEANING), "Other")
    if is_transient(error):
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


def _refused(error: Exception, uri: str, *, meaning: str, writing: bool) -> StoreError:
    kind = StoreNotWritable if writing else StoreNotReadable
    refusal = refusal_of(error)
    if refusal is not None:
        return kind(f"{refusal.name}: {line(error)}", uri=uri, hint=refusal.hint)
    if meaning == "Exists":
        return ObjectExists("other bytes are there already", uri=uri)
    if meaning == "Other":
        return StoreError(line(error), uri=uri)
    return kind(
        f"this process may not {'write' if writing else 'read'} there: {line(error)}",
        uri=uri,
        hint="give the component's service account roles/storage.objectUser on the bucket; "
        "on a workstation, log in with: gcloud auth application-default login",
    )


def _is_untrusted(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may get a better answer a little later."""
    import requests
    import urllib3

    auth = module("google.auth.exceptions")
    if isinstance(error, exceptions().GoogleAPICallError):
        return error.code in TRANSIENT_CODES or bool(_SLOWER.search(said(error)))
    if _is_untrusted(error):
        return False
    if isinstance(error, auth.GoogleAuthError):
        return credentials.is_passing(error)
    kinds = (
        Broken,
        Damaged,
        ConnectionError,
        TimeoutError,
        http.client.HTTPException,
        ssl.SSLError,
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        urllib3.exceptions.PoolError,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.SSLError,
        urllib3.exceptions.TimeoutError,
    )
    return isinstance(error, kinds)
