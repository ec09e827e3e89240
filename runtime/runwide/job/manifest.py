"""The records that name a job's objects: what is in them, and that each belongs to its job and place."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from runwide import __version__
from runwide.errors import (
    BadReference,
    FormatTooNew,
    FrameCorrupt,
    IntegrityError,
    ObjectNotFound,
    StoreNotFound,
)
from runwide.job import fields, plan
from runwide.job.failed import failure_from_json, failure_to_json
from runwide.job.model import JOB, Chunk, Job, Pack, Result, Root, Shard, Source
from runwide.job.reference import Reference, parse
from runwide.job.shard_names import manifests_in, shard_folder, shard_name
from runwide.log import Log
from runwide.spill import records, signing, windows
from runwide.spill.buffers import sha256
from runwide.spill.store import open_inside
from runwide.spill.verified import ABSENT, arrived_damaged, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runwide.job.layout import Layout
    from runwide.spill.store import Store

__all__ = [
    "CODE",
    "FUNCTION",
    "JOB",
    "RESULT",
    "Chunk",
    "Job",
    "Pack",
    "Result",
    "Root",
    "Shard",
    "Source",
    "failure_from_json",
    "failure_to_json",
    "found_job",
    "found_result",
    "job_bytes",
    "last_shard",
    "manifests_in",
    "read_job",
    "read_result",
    "read_shard",
    "result_bytes",
    "shard_bytes",
    "shard_folder",
    "shard_name",
]

log = Log("job")

RESULT = "result.json"
FUNCTION, CODE = "function.pkl", "code.zip"
_FAILED_BYTES = 64 << 10  # of a failed item: 8,000 characters of a traceback, and its message


def job_bytes(job: Job) -> bytes:
    """``job.json``."""
    about = asdict(job)
    about["function"] = {
        "digest": about.pop("function"),
        "name": about.pop("function_name"),
        "object": FUNCTION,
        "size": about.pop("function_size"),
    }
    about["code"] = {
        "digest": about.pop("code"),
        "files": about.pop("code_files"),
        "object": CODE,
        "size": about.pop("code_size"),
    }
    # where it lies, what it is called and who vouches for what will lie beside it are no part of it
    del about["uri"], about["digest"], about["id"], about["run_key"]
    return records.written("job", about, owner=job.id, place=JOB)


def read_job(reference: str, *, run_key: str | None = None) -> Job:
    """Read a job's manifest.

    Args:
        reference: What `runwide.scatter` returned.
        run_key: What the run's parameter of that name says; see `runwide.spill.signing`.

    Raises:
        BadReference: It is none.
        ObjectNotFound: The job is not there (any more).
        DigestMismatch: Its manifest was changed.
        FormatTooNew: A newer runwide wrote it.
    """
    wanted = parse(reference)
    found = _read(wanted.folder, wanted.name, "job", digest=wanted.digest)
    job = _job(wanted, found.about)
    return job if run_key is None else replace(job, run_key=signing.of_run(run_key))


def found_job(uri: str, what: str = "results") -> Job:
    """The job in a folder of which nobody has told the digest.

    With a key, it must be signed; without, it is believed as far as the store is, which is said once.

    Args:
        uri: URI of the folder, or of a record in it.
        what: What of it is going to be believed.

    Raises:
        BadReference: No job is there.
        DigestMismatch: It is not signed with the key.
    """
    folder = windows.slashed(uri).rstrip("/")
    folder = folder.rpartition("/")[0] if folder.endswith(".json") else folder
    try:
        job = job_in(folder)
    except (ObjectNotFound, StoreNotFound) as error:
        raise BadReference(
            "no job is there",
            uri=uri,
            hint="give a job's reference, or the URI of its folder; if its job.json was removed, call the map, or run "
            "the pipeline, again",
        ) from error
    signing.believe(what, folder)
    return job


def job_in(folder: str) -> Job:
    """The job in a folder, believed as by `found_job`; the caller says what vouches for it."""
    found = _read(folder, JOB, "job", owner=folder.rpartition("/")[2])
    return _job(Reference(f"{folder}/{JOB}", found.digest), found.about)


def _job(wanted: Reference, about: dict[str, Any]) -> Job:
    made_by = about.get("environment")
    try:
        function, code = about.pop("function"), about.pop("code")
        function, code = fields.record(function), fields.record(code)
        layout = fields.layout(fields.record(about.pop("layout")))
        source = fields.source(about.pop("source"), layout)
        return Job(
            uri=wanted.folder,
            digest=wanted.digest,
            id=wanted.folder.rpartition("/")[2],
            created=fields.text(about.pop("created")),
            layout=layout,
            packs=_packs(about.pop("packs"), source, layout),
            source=source,
            reduced=fields.truth(about.pop("reduced")),
            function=fields.digest(function["digest"]),
            function_size=fields.number(function["size"]),
            function_name=fields.text(function["name"]),
            environment=fields.texts(about.pop("environment"), "python"),
            packages=fields.texts(about.pop("packages")),
            code=None if code["digest"] is None else fields.digest(code["digest"]),
            code_size=fields.number(code["size"]),
            code_files=fields.text(code["files"]),
            **_rest(about),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_readable(made_by, error, wanted.uri) from error


def _rest(about: dict[str, Any]) -> dict[str, Any]:
    """What else a job says: nothing, in one of this version; and never which key vouches for its other objects."""
    if "run_key" in about:
        raise TypeError("a job does not say which key vouches for it")
    if about:
        raise ValueError(f"it says {min(about)[:100]!r}, which is nothing of a job")
    return about


def _packs(found: list[dict[str, Any]], source: Source | None, layout: Layout) -> tuple[Pack, ...]:
    """The packs of items, all of them; none where these lie in another job."""
    if source is None:
        return fields.packs([_pack(**fields.record(pack)) for pack in found], layout)
    if found:
        raise ValueError("a job has its items in one place")
    return ()


def _pack(**about: Any) -> Pack:
    checks: dict[str, Any] = {"name": fields.text, "digest": fields.digest}
    return Pack(**{name: checks.get(name, fields.number)(value) for name, value in about.items()})


def _not_readable(made_by: Any, error: Exception, uri: str) -> FormatTooNew | FrameCorrupt:
    """The error of a manifest whose bytes are the promised ones, and whose fields are not ours."""
    why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    theirs = made_by.get("runwide") if isinstance(made_by, dict) else None
    if theirs in (None, __version__):
        return FrameCorrupt(f"the job's manifest makes no sense ({why})", uri=uri)
    return FormatTooNew(
        f"the job was made by runwide {theirs}, and this is runwide {__version__}, which cannot read it ({why})",
        uri=uri,
        hint=f"run it in an image with runwide {theirs} (RUNWIDE_IMAGE), or make the job with runwide {__version__}",
    )


def shard_bytes(shard: Shard, job: Job) -> bytes:
    """``shard.json``, the same bytes under whichever number."""
    about = {
        "chunks": [asdict(chunk) for chunk in shard.chunks],
        "failures": [failure_to_json(failure) for failure in shard.failures],
    }
    return records.written("shard", about, owner=job.digest, place=str(shard.index), run_key=job.run_key)


def read_shard(
    store: Store, job: Job, index: int, digest: str | None = None, *, numbers: Sequence[int] | None = None
) -> tuple[Shard, Reference]:
    """Read a shard's manifest and hold it against the job.

    Args:
        store: The job's folder.
        job: The job.
        index: The shard.
        digest: What the shard returned; without it the last manifest that may be believed counts: one that is signed, where
            there is a key.
        numbers: Which manifests there are, the last one first, where that is known.

    Returns:
        What the manifest says, and its reference.

    Raises:
        ObjectNotFound: The shard has not finished.
        DigestMismatch: Its manifest was changed.
        FrameCorrupt: It is a manifest of another job or shard, or does not have every item exactly once.
    """
    if digest is not None:
        return _promised(store, job, index, digest)
    found, reference, _ = last_shard(store, job, index, _listed(store, index) if numbers is None else numbers)
    return found, reference


def last_shard(store: Store, job: Job, index: int, numbers: Sequence[int]) -> tuple[Shard, Reference, int]:
    """The last manifest of a shard that may be believed, its reference and its number.

    Args:
        store: As for `read_shard`.
        job: As for `read_shard`.
        index: As for `read_shard`.
        numbers: As for `read_shard`.
    """
    refused: Exception | None = None
    for number in numbers:
        name = shard_name(index, number)
        try:
            record = records.read(
                store,
                name,
                "shard",
                owner=job.digest,
                place=str(index),
                run_key=job.run_key,
                most=_most(job, index),
            )
            return (*_checked(record, job, index, store.child_uri(name)), number)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            refused = refused or error
            log.warning("manifest.ignored", uri=store.child_uri(name), cause=str(error))
    raise refused or ObjectNotFound(
        "the shard has not finished", uri=store.child_uri(shard_name(index)), hint="run it"
    )


def _most(job: Job, index: int) -> int:
    """How large a shard's manifest may be: each of its items may have failed, with a long traceback."""
    return min(records.MOST["shard"], (1 << 20) + len(job.items_of(index)) * _FAILED_BYTES)


def _promised(store: Store, job: Job, index: int, digest: str) -> tuple[Shard, Reference]:
    """The manifest of that digest, whichever number it has."""
    most = _most(job, index)
    name = shard_name(index)
    for number in _tried(store, index):
        try:
            data = store.read(shard_name(index, number), most=most)
        except (FrameCorrupt, *ABSENT):
            continue
        if sha256(data) == digest:
            name = shard_name(index, number)
            break
    else:  # none of them; or this machine's disk has erred
        data = fetch(store, name, digest=digest, most=most)
    uri = store.child_uri(name)
    record = records.taken(data, "shard", owner=job.digest, place=str(index), uri=uri, promised=True)
    return _checked(record, job, index, uri)


def _tried(store: Store, index: int) -> Iterator[int]:
    """The number that most shards have, and then those that there are."""
    yield 0
    yield from (number for number in _listed(store, index) if number)


def _listed(store: Store, index: int) -> list[int]:
    names = (info.name for info in store.list(f"{shard_folder(index)}/shard"))
    return manifests_in(names).get(index, [])


def _checked(record: records.Record, job: Job, index: int, uri: str) -> tuple[Shard, Reference]:
    try:
        return _checked_shard(record.about, job, index, uri), Reference(uri, record.digest)
    except IntegrityError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FrameCorrupt(f"the shard's manifest makes no sense ({error})", uri=uri) from error


def result_bytes(result: Result) -> bytes:
    """``result.json``, the same bytes under whichever name."""
    root = None if result.root is None else asdict(result.root)
    about = {"shards": list(result.shards), "failed": result.failed, "root": root}
    return records.written("result", about, owner=result.job, place=RESULT)


def read_result(reference: Reference) -> Result:
    """Read a finished job's manifest."""
    found = _read(reference.folder, reference.name, "result", digest=reference.digest, place=RESULT)
    return _result(found, reference.uri)


def found_result(job: Job, name: str) -> Result:
    """The result of a name in a job's folder, believed as the job itself is by `found_job`."""
    found = _read(job.uri, name, "result", owner=job.digest, place=RESULT)
    return _result(found, f"{job.uri}/{name}")


def _result(found: records.Record, uri: str) -> Result:
    try:
        shards = tuple(map(fields.digest, found.about["shards"]))
        return Result(
            found.owner, shards, fields.number(found.about["failed"]), fields.root(found.about["root"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FrameCorrupt(f"the result's manifest makes no sense ({error})", uri=uri) from error


def _read(folder: str, name: str, kind: str, **wanted: Any) -> records.Record:
    try:
        return records.read(open_inside(folder), name, kind, **{"owner": None, **wanted})
    except (ObjectNotFound, StoreNotFound) as error:
        error.hint = (
            f"the {kind} was deleted, or this process does not see the store in which it was made: "
            + (
                "call the map, or run the pipeline, again"
                if kind == "job"
                else f"load {folder}, the job's folder"
            )
        )
        raise


def _checked_shard(about: dict[str, Any], job: Job, index: int, uri: str) -> Shard:
    items = job.items_of(index)
    count = len(items)
    chunks = tuple(
        Chunk(
            fields.text(row["name"]),
            fields.number(row["size"]),
            fields.digest(row["digest"]),
            tuple(fields.span(one, count) for one in row["positions"]),
        )
        for row in about["chunks"]
    )
    failures = tuple(failure_from_json(row) for row in about["failures"])
    # Never walked: the items of a job without packs may be as many as someone has written down.
    if not plan.covers(
        (span for chunk in chunks for span in chunk.positions if span[0] < span[1]), count
    ) or not all(failure.index in items for failure in failures):
        raise FrameCorrupt(
            f"the shard's manifest does not have each of its {count} items exactly once", uri=uri
        )
    return Shard(index, chunks, failures)
