"""The job that a user means: by its reference, the URI of its folder, its id, the start of that, or its name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide import settings
from runwide.errors import BadReference, InputError, ObjectNotFound, StoreError
from runwide.job import manifest, names
from runwide.job.reference import MARK, Reference, parse, quoted
from runwide.log import Log
from runwide.redaction import shortened
from runwide.spill import signing, windows
from runwide.spill.store import open_inside, open_store, parted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from runwide.job.manifest import Job
    from runwide.spill.store import Store

log = Log("job")

JOB_ID = re.compile(r"[0-9a-f]-[0-9]{8}t[0-9]{6}-[0-9a-f]{16}")
BATCHES = "batches"
RESULTS, FUNCTION = "results", "function and results"
"""What is believed of a job that no digest names, in words of the log."""

_START = re.compile(r"[0-9a-f](-([0-9]{1,8}(t[0-9]{0,6}(-[0-9a-f]{0,16})?)?)?)?")  # of an id
_SHOWN = 3  # others that have nearly that name
_EXPECTED = (
    "pass the whole line that the step before printed, or the URI of the job's folder; or its id or name, and where it is: "
    "store=, --store STORE or RUNWIDE_STORE"
)
_said: set[str] = set()


@dataclass(frozen=True, slots=True)
class Found:
    """A job that was found.

    Args:
        reference: Its reference.
        vouched: Whether a digest or the signing key vouches for it; else it is believed as far as the store is.
    """

    reference: str
    vouched: bool


def reference_of(text: str, store: str | PathLike[str] | None = None, *, what: str = RESULTS) -> str:
    """Return the reference of the job that a text means.

    Args:
        text: As for `found`.
        store: As for `found`.
        what: As for `found`.

    Raises:
        InputError: No job is meant, or more than one.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-found", shards=1)
        >>> uri = job.partition("/job.json")[0]
        >>> reference_of(uri) == reference_of(uri.rpartition("/")[2], "memory://doc-found") == job
        True
    """
    return found(text, store, what=what).reference


def found(text: str, store: str | PathLike[str] | None = None, *, what: str = RESULTS) -> Found:
    """Find the job that a text means; that nothing but the store or the key vouches for it is said once.

    Args:
        text: The job's reference or that of its results, the URI of its folder, its id or the start of that, or its name.
        store: Where an id or a name is looked for; ``RUNWIDE_STORE`` where None.
        what: What is going to be believed of a job that no digest names: its results, or its function, which is run.

    Raises:
        InputError: No job is meant, or more than one.
        BadReference: No job is there.
        DigestMismatch: A signing key is set, and the job is not signed with it.
    """
    text = _text(text)
    if MARK in text:
        return Found(_of_job(text), vouched=True)
    job = _job(text, store, what)
    _say(job, what)
    return Found(job.reference, vouched=signing.key() is not None)


def folder_of(text: str, store: str | PathLike[str] | None = None) -> str:
    """Return the URI of the folder of the job that a text means; of one that is named by its URI or its id, nothing is read.

    Args:
        text: As for `found`.
        store: As for `found`.

    Raises:
        InputError: As for `found`.
    """
    text = windows.slashed(_text(text))
    uri = text.partition("#")[0].rstrip("/")
    uri = uri.rpartition("/")[0] if uri.endswith(".json") else uri
    if JOB_ID.fullmatch(uri.rpartition("/")[2]):
        root = _root(store)
        return uri if "/" in uri or root is None else f"{root}/{uri}"
    if "/" in uri and not _is_name(text, store):
        return uri
    return found(text, store).reference.rpartition("/")[0]


def batch_of(text: str, store: str | PathLike[str] | None = None) -> str | None:
    """Return the URI of the batch that a text means; None if it means no batch.

    Args:
        text: The URI of a batch, or its name.
        store: As for `found`.

    Raises:
        InputError: A batch and a job have that name; or nothing is at the URI of a batch.
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
    """Refuse the URI of a batch of which nothing is there: a misspelt one would look like one that has ended."""
    above, name = parted(windows.slashed(text).rstrip("/"))
    if name not in _folders(above, name):
        near = _near(name, _folders(above, ""))
        raise InputError(
            "no batch is there", uri=text, hint=f"{near}give the URI that Pipelines or submit printed"
        )


def is_batch(text: str) -> bool:
    """Tell whether a text is the URI of a batch.

    Example:
        >>> is_batch("gs://bucket/runs/batches/nightly"), is_batch("gs://bucket/runs/batches/nightly/a-1#sha256=")
        (True, False)
    """
    uri = windows.slashed(text).rstrip("/")
    return "#" not in text and f"/{BATCHES}/" in f"/{uri}" and not JOB_ID.fullmatch(uri.rpartition("/")[2])


def _text(given: object) -> str:
    """A job as text; what cannot be meant is refused."""
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str) or not text.strip():
        raise BadReference(f"{shortened(repr(text), 200)} is not a reference", hint=_EXPECTED)
    return text.strip()


def _of_job(reference: str) -> str:
    wanted = parse(reference)
    if not wanted.name.startswith("result"):
        return str(wanted)
    return str(Reference(f"{wanted.folder}/{manifest.JOB}", manifest.read_result(wanted).job))


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
    """The job of a name, or of the start of an id."""
    root = _root(store)
    if root is None:
        raise BadReference(
            f"{shortened(text, 200)!r} is not a reference, and no store is given in which a job may have that id or name",
            hint=_EXPECTED,
        )
    with open_store(root) as opened:
        named, _ = names.newest(opened, text)
        ids = _ids(opened, text) if _START.fullmatch(text) else []
        if len(ids) + (named is not None) > 1:
            others = [one for one in (named and f"{named.id} by its name", *ids) if one]
            raise InputError(
                f"{text!r} means {len(others)} jobs: {_listed(others)}",
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
            f"the job of the name {shortened(text, 200)!r} was removed",
            uri=root.uri,
            hint=f"call the map, or run the pipeline, again; the jobs there: runwide ls {quoted(root.uri)}",
        )
    near = _near(text, [*(name for name, jobs in named.items() if not set(jobs).isdisjoint(ids)), *ids])
    return InputError(
        f"no job has the id or name {shortened(text, 200)!r}",
        uri=root.uri,
        hint=f"{near}the jobs there: runwide ls {quoted(root.uri)}",
    )


def _no_job(uri: str, error: BadReference) -> BadReference:
    """The error of a URI at which no job is, with the jobs beside it."""
    try:
        with open_store(uri) as store:
            if inside := _ids(store):
                message = f"this is a store with {len(inside)} jobs, and no job"
                lists = f"give one of them: runwide ls {quoted(store.uri)}"
                return BadReference(message, uri=store.uri, hint=lists)
        above, name = parted(uri)
        with open_store(above) as root:
            near = _near(name, _ids(root))
    except (BadReference, StoreError):
        return error
    return BadReference(
        error.message,
        uri=error.uri,
        hint=f"{near}the jobs there: runwide ls {quoted(above)}; or {error.hint}",
    )


def _is_a_batch(uri: str) -> InputError:
    return InputError(
        "this is a batch of pipeline runs, not a job",
        uri=uri,
        hint=f"status, wait, cancel and results take it; the outputs of its runs: runwide results {quoted(uri)}",
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


def _near(text: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # slow to load

    near = get_close_matches(text, list(known), _SHOWN, 0.5)
    return f"did you mean {_listed(near, 'or')}? " if near else ""


def _listed(words: list[str], last: str = "and") -> str:
    shown = [repr(shortened(word, 100)) for word in words[: _SHOWN + 1]]
    rest = ", …" if len(words) > len(shown) else ""
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}{rest}" if shown[1:] else "".join(shown)


def _say(job: Job, what: str) -> None:
    """Say once what vouches for a job that is named without its digest."""
    if signing.key() is None:
        signing.believe(what, job.uri)
    elif "signed" not in _said:
        _said.add("signed")
        log.info("job.vouched", job=job.id, uri=job.uri, cause="it is signed with the signing key")
