"""Find the job that a user means: by reference, URI, id, start of an id, or name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import BadReference, InputError, ObjectNotFound, StoreError
from runwide.job import manifest, model, names
from runwide.job.reference import MARK, Reference, parse, quoted
from runwide.log import Log
from runwide.redaction import shortened
from runwide.store import signing, windows
from runwide.store.base import open_inside, open_store, parted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from runwide.job.model import Job
    from runwide.store.base import Store

log = Log("job")

JOB_ID = re.compile(r"[0-9a-f]-[0-9]{8}t[0-9]{6}-[0-9a-f]{16}")
BATCHES = "batches"
RESULTS, FUNCTION = "results", "function and results"
"""The parts of a job that are trusted when it is given without a digest, as the log names them."""

_START = re.compile(r"[0-9a-f](-([0-9]{1,8}(t[0-9]{0,6}(-[0-9a-f]{0,16})?)?)?)?")  # the start of an id
_SHOWN = 3  # similar names in a message
_EXPECTED = (
    "pass the whole line that the step before printed, or the URI of the job's folder; or its id or name, and its store: "
    "store=, --store STORE or RUNWIDE_STORE"
)
_logged: set[str] = set()


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job that was found.

    Args:
        vouched: Whether a digest or the signing key vouches for it; otherwise the store is trusted.
    """

    reference: str
    vouched: bool


def reference_of(text: str, store: str | PathLike[str] | None = None, *, what: str = RESULTS) -> str:
    """Return the reference of the job that a text means; see `find_job`.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-found", shards=1)
        >>> uri = job.partition("/job.json")[0]
        >>> reference_of(uri) == reference_of(uri.rpartition("/")[2], "memory://doc-found") == job
        True
    """
    return find_job(text, store, what=what).reference


def find_job(text: str, store: str | PathLike[str] | None = None, *, what: str = RESULTS) -> FoundJob:
    """Find the job that a text means; if the text has no digest, one log line says what vouches for the job.

    Args:
        text: The reference of the job or of its results, the URI of its folder, its id, the start of its id, or its name.
        store: The store in which to look for an id or a name; None for ``RUNWIDE_STORE``.
        what: The parts of a job without a digest that the caller will trust: its results, or also its function.

    Raises:
        InputError: The text matches no job, or several.
        BadReference: There is no job at the URI.
        DigestMismatch: A signing key is set, and the job is not signed with it.
    """
    text = _text(text)
    if MARK in text:
        return FoundJob(_of_job(text), vouched=True)
    job = _job(text, store, what)
    _log_trust(job, what)
    return FoundJob(job.reference, vouched=signing.key() is not None)


def folder_of(text: str, store: str | PathLike[str] | None = None) -> str:
    """Return the URI of the folder of the job that a text means, see `find_job`; for a URI or an id, the job is not read."""
    text = windows.slashed(_text(text))
    uri = text.partition("#")[0].rstrip("/")
    uri = uri.rpartition("/")[0] if uri.endswith(".json") else uri
    if JOB_ID.fullmatch(uri.rpartition("/")[2]):
        root = _root(store)
        return uri if "/" in uri or root is None else f"{root}/{uri}"
    if "/" in uri and not _is_name(text, store):
        return uri
    return find_job(text, store).reference.rpartition("/")[0]


def batch_of(text: str, store: str | PathLike[str] | None = None) -> str | None:
    """Return the URI of the batch that a text means; None if it does not mean a batch.

    Args:
        text: The URI of a batch, or its name.

    Raises:
        InputError: A batch and a job have that name; or there is no batch at the URI.
    """
    text = str(text).strip()
    if is_batch(text):
        _check_batch(text)
        return text
    root = _root(store)
    if MARK in text or "/" in windows.slashed(text) or root is None or JOB_ID.fullmatch(text):
        return None
    with open_store(root) as opened:
        if not text or text not in _folders(opened.child_uri(BATCHES), text):
            return None
        if names.is_known(root, text):
            raise InputError(
                f"{text!r} is the name of a job and of a batch",
                uri=opened.uri,
                hint=f"give the batch's URI, {opened.uri}/{BATCHES}/{text}, or the job's, as 'runwide ls' shows it",
            )
        return f"{opened.uri}/{BATCHES}/{text}"


def _check_batch(text: str) -> None:
    """Reject the URI of a batch that does not exist: a misspelt batch would look like one that has ended."""
    above, name = parted(windows.slashed(text).rstrip("/"))
    if name not in _folders(above, name):
        near = _did_you_mean(name, _folders(above, ""))
        raise InputError(
            "there is no batch at this URI",
            uri=text,
            hint=f"{near}give the URI that Pipelines or submit printed",
        )


def is_batch(text: str) -> bool:
    """Return whether a text is the URI of a batch.

    Example:
        >>> is_batch("gs://bucket/runs/batches/nightly"), is_batch("gs://bucket/runs/batches/nightly/a-1#sha256=")
        (True, False)
    """
    uri = windows.slashed(text).rstrip("/")
    return "#" not in text and f"/{BATCHES}/" in f"/{uri}" and not JOB_ID.fullmatch(uri.rpartition("/")[2])


def _text(given: object) -> str:
    """Return the name of a job as text; reject other types and empty texts."""
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str) or not text.strip():
        raise BadReference(f"{shortened(repr(text), 200)} is not a reference", hint=_EXPECTED)
    return text.strip()


def _of_job(reference: str) -> str:
    wanted = parse(reference)
    if not wanted.name.startswith("result"):
        return str(wanted)
    return str(Reference(f"{wanted.folder}/{model.JOB}", manifest.read_result(wanted).job))


def _job(text: str, store: str | PathLike[str] | None, what: str) -> Job:
    uri = windows.slashed(text)
    if is_batch(text):
        raise _is_a_batch(text)
    last = uri.rstrip("/").rpartition("/")[2]
    if "/" not in uri and not JOB_ID.fullmatch(last):
        return _named(text, store, what)
    if "/" in uri and not last.endswith(".json") and not JOB_ID.fullmatch(last) and _is_name(text, store):
        return _named(text, store, what)
    root = _root(store)
    whole = f"{root}/{last}" if "/" not in uri and root is not None else uri
    try:
        return manifest.found_job(whole, what)
    except BadReference as error:
        raise _no_job(whole, error) from error


def _named(text: str, store: str | PathLike[str] | None, what: str) -> Job:
    """Find a job by its name, or by the start of its id."""
    root = _root(store)
    if root is None:
        raise BadReference(
            f"{shortened(text, 200)!r} is not a reference; if it is an id or a name, the store is missing",
            hint=_EXPECTED,
        )
    with open_store(root) as opened:
        named, _ = names.newest(opened, text)
        ids = _ids(opened, text) if _START.fullmatch(text) else []
        if len(ids) + (named is not None) > 1:
            others = [one for one in (named and f"{named.id} by its name", *ids) if one]
            raise InputError(
                f"{text!r} matches {len(others)} jobs: {_listed(others)}",
                uri=opened.uri,
                hint="give the whole id",
            )
        if named is not None:
            return named
        if ids:
            return manifest.found_job(opened.child_uri(ids[0]), what)
        raise _unknown(opened, text)


def _unknown(root: Store, text: str) -> InputError:
    if text in _folders(root.child_uri(BATCHES), text):
        return _is_a_batch(f"{root.uri}/{BATCHES}/{text}")
    named, ids = names.known(root), _ids(root)
    if text in named:
        return InputError(
            f"the job with the name {shortened(text, 200)!r} was removed",
            uri=root.uri,
            hint=f"call the map, or run the pipeline, again; to list all jobs: runwide ls {quoted(root.uri)}",
        )
    near = _did_you_mean(
        text, [*(name for name, jobs in named.items() if not set(jobs).isdisjoint(ids)), *ids]
    )
    return InputError(
        f"no job has the id or name {shortened(text, 200)!r}",
        uri=root.uri,
        hint=f"{near}to list all jobs: runwide ls {quoted(root.uri)}",
    )


def _no_job(uri: str, error: BadReference) -> BadReference:
    """Return the error of a URI without a job, with similar jobs in the hint."""
    try:
        with open_store(uri) as store:
            if inside := _ids(store):
                message = f"this is a store with {len(inside)} jobs, not a job"
                lists = f"give one of the jobs: runwide ls {quoted(store.uri)}"
                return BadReference(message, uri=store.uri, hint=lists)
        above, name = parted(uri)
        with open_store(above) as root:
            near = _did_you_mean(name, _ids(root))
    except (BadReference, StoreError):
        return error
    return BadReference(
        error.message,
        uri=error.uri,
        hint=f"{near}to list all jobs: runwide ls {quoted(above)}; or {error.hint}",
    )


def _is_a_batch(uri: str) -> InputError:
    return InputError(
        "this is a batch of pipeline runs, not a job",
        uri=uri,
        hint=f"use it with status, wait, cancel or results; for the outputs of its runs: runwide results {quoted(uri)}",
    )


def _is_name(text: str, store: str | PathLike[str] | None) -> bool:
    root = _root(store)
    return root is not None and names.is_known(root, text)


def _root(store: str | PathLike[str] | None) -> str | None:
    given = str(store) if store is not None else settings.read().store
    return None if not given else open_store(given).uri


def _ids(root: Store, start: str = "") -> list[str]:
    return [name for name in root.folders(start) if JOB_ID.fullmatch(name)]


def _folders(uri: str, start: str) -> list[str]:
    try:
        with open_inside(uri) as opened:
            return list(opened.folders(start))
    except (StoreError, ObjectNotFound):
        return []


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # slow to load

    near = get_close_matches(text, list(known), _SHOWN, 0.5)
    return f"did you mean {_listed(near, 'or')}? " if near else ""


def _listed(words: list[str], last: str = "and") -> str:
    shown = [repr(shortened(word, 100)) for word in words[: _SHOWN + 1]]
    rest = ", …" if len(words) > len(shown) else ""
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}{rest}" if shown[1:] else "".join(shown)


def _log_trust(job: Job, what: str) -> None:
    """Log once what vouches for a job that was given without a digest."""
    if signing.key() is None:
        signing.believe(what, job.uri)
    elif "signed" not in _logged:
        _logged.add("signed")
        log.info("job.vouched", job=job.id, uri=job.uri, cause="it is signed with the signing key")
