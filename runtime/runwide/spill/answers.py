"""The exceptions of Google's client libraries: their meanings, and the errors of runwide that they become."""

from __future__ import annotations

import http.client
import re
import ssl
from urllib.parse import urlsplit

from runwide.errors import StoreError, StoreNotFound, StoreNotReadable, StoreNotWritable, StoreUnavailable
from runwide.spill import credentials
from runwide.spill.library import TRANSIENT_CODES, exceptions, module
from runwide.spill.meaning import Broken, Damaged, Errors, Meaning
from runwide.spill.refusals import KEPT, line, refusal_of, said

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
            return credentials.is_passing(error)
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
        if credentials.is_missing(last):
            kind, verb = (StoreNotWritable, "write") if writing else (StoreNotReadable, "read")
            return kind(f"this process may not {verb} there: {line(last)}", uri=uri, hint=self.access_hint)
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
