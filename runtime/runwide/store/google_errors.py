"""The errors of Google's services, and the errors of runwide that they become."""

from __future__ import annotations

import http.client
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runwide.errors import StoreError, StoreNotFound, StoreNotReadable, StoreNotWritable, StoreUnavailable
from runwide.json_text import json_of
from runwide.redaction import shortened
from runwide.store import google_auth
from runwide.store.google_auth import TRANSIENT_CODES, exceptions, module
from runwide.store.meaning import Broken, Damaged, Errors, Meaning

if TYPE_CHECKING:
    from collections.abc import Iterator


_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """A kind of refusal.

    Args:
        pattern: Matches the reasons or the text of the answers.
        name: The refusal in words, for the message.
    """

    pattern: str
    name: str
    hint: str


KEPT = Refusal(
    r"retentionPolicyNotMet|objectUnderActiveHold|retention policy|object retention|active \S* ?hold"
    r"|(temporary|event-based) hold|bucket lock",
    "the bucket keeps its objects: a retention policy or a hold forbids to delete or replace this one",
    "nothing has to be deleted to run a job or its failed items again; to remove the job, wait until its objects may be "
    "deleted, or release the hold; for later jobs choose a bucket without a retention policy",
)
_BY_SERVICE = (
    Refusal(
        r"vpcServiceControls|prohibited by organization.?s policy|SECURITY_POLICY_VIOLATED",
        "VPC Service Controls forbid it",
        "ask the administrator of the service perimeter to let this service account and network reach the bucket's project "
        "(an ingress or egress rule); the unique identifier in the answer finds the denial in the audit log",
    ),
    Refusal(
        r"accountDisabled|userProjectAccountProblem|BILLING_DISABLED|billing account|billing (is |has been )?disabled"
        r"|not configured billing|requires billing|billing (to be|has not been) enabled",
        "billing is disabled",
        "link the project that owns the bucket, or that pays for the requests, to an open billing account: "
        "gcloud billing projects link PROJECT --billing-account=ACCOUNT",
    ),
    KEPT,
    Refusal(
        r"userProjectMissing|requester pays",
        "the bucket wants the requester to pay",
        "set RUNWIDE_USER_PROJECT to the project that pays for the requests, here and in the components",
    ),
    Refusal(
        r"USER_PROJECT_DENIED|userProjectAccessDenied|userProject(Invalid|Inconsistent)|serviceusage\.services\.use"
        r"|permission to use project|user project specified",
        "the project that is to be billed may not be used",
        "give this account roles/serviceusage.serviceUsageConsumer on that project, or name another one: "
        "RUNWIDE_USER_PROJECT, or gcloud auth application-default set-quota-project PROJECT",
    ),
    Refusal(
        r"cloudKms|Cloud KMS|KMS key|cryptoKey",
        "the bucket's key in Cloud KMS cannot be used",
        "give the Cloud Storage service agent of the bucket's project roles/cloudkms.cryptoKeyEncrypterDecrypter on it, "
        "and see that the key is enabled and in the bucket's location",
    ),
    Refusal(
        r"accessNotConfigured|SERVICE_DISABLED|has not been used in project",
        "the API is disabled",
        "enable it in the project that is named: gcloud services enable storage.googleapis.com --project=PROJECT",
    ),
    Refusal(
        r"orgPolicyConstraintFailed|violates constraint|constraints/",
        "a policy of the organization forbids it",
        "write to a bucket that fulfils the constraint that is named, or ask the organization's administrator",
    ),
)
_BY_TOKEN = (
    *_BY_SERVICE,
    Refusal(
        r"iam\.serviceAccounts\.getAccessToken|Unable to acquire impersonated",
        "this identity may not act as the service account",
        "give it roles/iam.serviceAccountTokenCreator on the service account; "
        "in GKE, give its Kubernetes service account roles/iam.workloadIdentityUser there",
    ),
    Refusal(
        r"invalid JWT|account not found|service account.*(disabled|deleted)",
        "the service account's key is not accepted",
        "see whether the key was deleted or the account disabled, and whether this machine's clock is right; "
        "better, use no key: attach the service account to the machine",
    ),
    Refusal(
        r"subject token|invalid_target|audience|ID Token|external account|\bsts\b|identity pool|credential.source",
        "workload identity federation gives no token",
        "check the configuration of the federation that GOOGLE_APPLICATION_CREDENTIALS names, and the token of the other "
        "side to which it leads",
    ),
    Refusal(
        r"invalid_grant|reauth|invalid_rapt|rapt_required|expired or revoked",
        "the login has expired or was revoked",
        "log in again: gcloud auth application-default login",
    ),
    Refusal(
        r"^(?!.*credentials were not found)",
        "the credentials cannot be used",
        "see whether the file that GOOGLE_APPLICATION_CREDENTIALS names is there and whole; "
        "on a workstation, log in with: gcloud auth application-default login",
    ),
)


def refusal_of(error: BaseException) -> Refusal | None:
    """Return the kind of refusal that an error of Google's clients is; None if it has no special name.

    Example:
        >>> error = module("google.api_core.exceptions").Forbidden("Request is prohibited by organization's policy.")
        >>> refusal_of(error).name
        'VPC Service Controls forbid it'
    """
    of_token = isinstance(error, module("google.auth.exceptions").GoogleAuthError)
    text = " ".join(_words(error))
    kinds = _BY_TOKEN if of_token else _BY_SERVICE
    return next((one for one in kinds if re.search(one.pattern, text, re.IGNORECASE)), None)


def line(error: object) -> str:
    """Return the text of an error in one line of limited length; from JSON, only the message."""
    if isinstance(error, module("google.auth.exceptions").GoogleAuthError):
        return _short(": ".join(dict.fromkeys(_message(part) for part in _parts(error))))
    return _short(str(error))


def said(error: BaseException) -> str:
    """Return the body of the answer that an error carries, or the error's own text."""
    response = getattr(error, "response", None)
    return str(getattr(response, "text", "") or error)


def _words(error: BaseException) -> Iterator[str]:
    """Yield the reasons and messages of an answer, but not its URL, which contains names that the user chose."""
    if isinstance(error, module("google.auth.exceptions").GoogleAuthError):
        yield type(error).__name__
        yield from map(_message, _parts(error))
        return
    try:
        about = json_of(said(error))["error"]
    except (ValueError, KeyError, TypeError):
        yield str(error)
        return
    yield _message(about)
    for part in (*_rows(about, "errors"), *_rows(about, "details")):
        yield from (str(part[key]) for key in ("reason", "message") if key in part)


def _parts(error: BaseException) -> Iterator[Any]:
    """Yield the arguments of an error of google.auth, and of the errors among them."""
    for part in error.args:
        if isinstance(part, BaseException):
            yield from _parts(part) if part.args else (str(part),)
        elif not isinstance(part, dict):  # a text before it says the same
            yield part


def _rows(about: Any, key: str) -> list[dict[str, Any]]:
    rows = about.get(key, ()) if isinstance(about, dict) else ()
    return [row for row in rows if isinstance(row, dict)]


def _message(part: Any) -> str:
    """Return the message of one part of an error: a text, JSON, or the answer itself."""
    data = getattr(part, "data", part)
    if isinstance(data, bytes):
        data = data.decode(errors="replace")
    if isinstance(data, str):
        try:
            data = json_of(data)
        except ValueError:
            return str(data)
    found = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(found, dict):
        return str(found.get("message") or found)
    described = data.get("error_description") if isinstance(data, dict) else None
    return f"{found}: {described}" if described else str(found)


def _short(text: str) -> str:
    return shortened(" ".join(text.split()), _LONGEST)


_SLOWER = re.compile(r'"(userR|r)ateLimitExceeded"')  # the JSON API may say so with status 403
_MEANINGS = {
    401: Meaning.DENIED,
    403: Meaning.DENIED,
    404: Meaning.ABSENT,
    409: Meaning.EXISTS,
    412: Meaning.EXISTS,
    429: Meaning.SLOW_DOWN,
    503: Meaning.SLOW_DOWN,
    **dict.fromkeys(TRANSIENT_CODES - {429, 503}, Meaning.TRANSIENT),
}


class GoogleErrors(Errors):
    """The exceptions of google.api_core, google.auth, requests and urllib3."""

    access_hint = (
        "give the component's service account roles/storage.objectUser on the bucket; "
        "on a workstation, log in with: gcloud auth application-default login"
    )

    def meaning(self, error: Exception) -> Meaning | None:
        """Return the meaning of an exception; None for one of another library."""
        if isinstance(error, exceptions().GoogleAPIError):
            return self._of_api(error)
        if self.is_transient(error):
            return Meaning.TRANSIENT
        if isinstance(error, module("google.auth.exceptions").GoogleAuthError):
            return Meaning.DENIED
        import requests
        import urllib3

        others = (requests.RequestException, urllib3.exceptions.HTTPError)
        return Meaning.OTHER if isinstance(error, others) else None

    def _of_api(self, error: Exception) -> Meaning:
        if isinstance(error, exceptions().RetryError):
            return Meaning.TRANSIENT
        found = _MEANINGS.get(getattr(error, "code", None) or 0, Meaning.OTHER)
        if found in {Meaning.EXISTS, Meaning.DENIED} and (refusal := refusal_of(error)):
            # A bucket with a retention policy refuses to replace an object in its own way.
            return Meaning.EXISTS if refusal is KEPT else Meaning.DENIED
        return found

    def is_transient(self, error: BaseException) -> bool:
        """Return whether the same request may get a better answer a little later."""
        if isinstance(error, exceptions().GoogleAPICallError):
            return error.code in TRANSIENT_CODES or bool(_SLOWER.search(said(error)))
        if isinstance(error, exceptions().GoogleAPIError) or _is_untrusted(error):
            return False
        if isinstance(error, module("google.auth.exceptions").GoogleAuthError):
            return google_auth.is_passing(error)
        import requests
        import urllib3

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

    def explained(self, error: Exception, uri: str, *, writing: bool) -> StoreError | None:
        """Return an error with the remedy for a refusal that has a name of its own."""
        if _is_untrusted(error):
            return StoreUnavailable(
                f"the certificate of the server that answers is not trusted here: {line(error)}",
                uri=uri,
                hint="set REQUESTS_CA_BUNDLE to a file with your network's certificate authority; check the clock, too",
            )
        meaning = self.meaning(error)
        if meaning is Meaning.TRANSIENT:
            return self._without_token(getattr(error, "cause", None) or error, uri, writing=writing)
        if meaning is Meaning.ABSENT and (writing or "bucket does not exist" in str(error)):
            return StoreNotFound(
                "there is no such bucket",
                uri=uri,
                hint=f"create it first: gcloud storage buckets create gs://{urlsplit(uri).netloc}",
            )
        if meaning in {Meaning.EXISTS, Meaning.DENIED, Meaning.OTHER} and (refusal := refusal_of(error)):
            kind = StoreNotWritable if writing else StoreNotReadable
            return kind(f"{refusal.name}: {line(error)}", uri=uri, hint=refusal.hint)
        return None

    def _without_token(self, last: Exception, uri: str, *, writing: bool) -> StoreError | None:
        if not isinstance(last, module("google.auth.exceptions").GoogleAuthError):
            return None
        if google_auth.is_missing(last):
            return self.refused(last, uri, writing=writing)
        return StoreUnavailable(
            f"no token for the store within the retry deadline; the last answer: {line(last)}",
            uri=uri,
            hint="check that a service account is attached to this machine or pod, and that its metadata server, or "
            "the other service that gives the tokens, can be reached; then run it again: it continues from the objects "
            "that are stored",
        )

    def line(self, error: object) -> str:
        """Return the text of an exception in one line of limited length."""
        return line(error)


GOOGLE = GoogleErrors()


def _is_untrusted(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
