"""Write and read the manifests of jobs, shards and results, and check that each belongs to its job and place."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

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
from runwide.job.fields import failure_from_json, failure_to_json
from runwide.job.model import (
    JOB,
    Chunk,
    Job,
    Pack,
    Result,
    Shard,
    Source,
    manifests_in,
    shard_folder,
    shard_name,
)
from runwide.job.reference import Reference, parse
from runwide.log import Log
from runwide.store import records, signing, windows
from runwide.store.base import open_inside
from runwide.store.buffers import sha256
from runwide.store.records import ABSENT, arrived_damaged, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runwide.job.layout import Layout
    from runwide.store.base import Store

log = Log("job")

RESULT = "result.json"
FUNCTION, CODE = "function.pkl", "code.zip"
_FAILED_BYTES = 64 << 10  # for each failed item: 8,000 characters of a traceback, and its message


def is_result(name: str) -> bool:
    """Return whether an object of a job, by its name there, is a result's manifest: ``result.json``, or a later one.

    Example:
        >>> is_result("result.json"), is_result("result-0123456789ab.json"), is_result("job.json")
        (True, True, False)
    """
    return name.startswith("result") and name.endswith(".json") and "/" not in name


def job_bytes(job: Job) -> bytes:
    """Return the bytes of ``job.json``."""
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
    # these depend on where the file is, or on the run
    del about["uri"], about["digest"], about["id"], about["run_key"]
    return records.written("job", about, owner=job.id, place=JOB)


def read_job(reference: str, *, run_key: str | None = None) -> Job:
    """Read a job's manifest.

    Args:
        run_key: The run's parameter of that name; see `runwide.store.signing`.

    Raises:
        ObjectNotFound: The job does not exist, or was removed.
        DigestMismatch: Its manifest was changed.
        FormatTooNew: A newer runwide wrote it.
    """
    wanted = parse(reference)
    found = _read(wanted.folder, wanted.name, "job", digest=wanted.digest)
    job = _job(wanted, found.about)
    return job if run_key is None else replace(job, run_key=signing.of_run(run_key))


def found_job(uri: str, what: str = "results") -> Job:
    """Read the job in a folder, when its digest is not known.

    If a signing key is set, the job must be signed with it. Otherwise the store is trusted, and one log line says so.

    Args:
        uri: URI of the folder, or of a manifest in it.
        what: The parts of the job that will be trusted, for the log line.
    """
    folder = windows.slashed(uri).rstrip("/")
    folder = folder.rpartition("/")[0] if folder.endswith(".json") else folder
    try:
        job = job_in(folder)
    except (ObjectNotFound, StoreNotFound) as error:
        raise BadReference(
            "there is no job at this URI",
            uri=uri,
            hint="give a job's reference, or the URI of its folder; if its job.json was removed, call the map, or run "
            "the pipeline, again",
        ) from error
    signing.believe(what, folder)
    return job


def job_in(folder: str) -> Job:
    """Read the job in a folder as `found_job` does, without the log line."""
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
    """Reject further fields: this version has none, and a job must not name the key that vouches for its objects."""
    if "run_key" in about:
        raise TypeError("the field 'run_key' is not allowed")
    if about:
        raise ValueError(f"the field {min(about)[:100]!r} is unknown")
    return about


def _packs(found: list[dict[str, Any]], source: Source | None, layout: Layout) -> tuple[Pack, ...]:
    """Return the packs of items; none if the items are the results of another job."""
    if source is None:
        return fields.packs([_pack(**fields.record(pack)) for pack in found], layout)
    if found:
        raise ValueError("it has packs of items and a source job, expected one of these")
    return ()


def _pack(**about: Any) -> Pack:
    checks: dict[str, Any] = {"name": fields.text, "digest": fields.digest}
    return Pack(**{name: checks.get(name, fields.number)(value) for name, value in about.items()})


def _not_readable(made_by: Any, error: Exception, uri: str) -> FormatTooNew | FrameCorrupt:
    """Return the error of a manifest with the right digest and invalid fields."""
    why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    theirs = made_by.get("runwide") if isinstance(made_by, dict) else None
    if theirs in (None, __version__):
        return FrameCorrupt(f"the job's manifest is invalid ({why})", uri=uri)
    return FormatTooNew(
        f"the job was made by runwide {theirs}, and this is runwide {__version__}, which cannot read it ({why})",
        uri=uri,
        hint=f"run it in an image with runwide {theirs} (RUNWIDE_IMAGE), or make the job with runwide {__version__}",
    )


def shard_bytes(shard: Shard, job: Job) -> bytes:
    """Return the bytes of ``shard.json``, which do not depend on its number."""
    about = {
        "chunks": [asdict(chunk) for chunk in shard.chunks],
        "failures": [failure_to_json(failure) for failure in shard.failures],
    }
    return records.written("shard", about, owner=job.digest, place=str(shard.index), run_key=job.run_key)


def read_shard(
    store: Store, job: Job, index: int, digest: str | None = None, *, numbers: Sequence[int] | None = None
) -> tuple[Shard, Reference]:
    """Read a shard's manifest and compare it with the job.

    Args:
        digest: The manifest's digest, which the shard returned. Without it, the last valid manifest counts; if a signing key
            is set, it must be signed.
        numbers: Numbers of the shard's manifests, the last one first, if they are known.

    Raises:
        ObjectNotFound: The shard has not finished.
        DigestMismatch: Its manifest was changed.
        FrameCorrupt: It is a manifest of another job or shard, or does not have every item exactly once.
    """
    if digest is not None:
        return _promised(store, job, index, digest)
    found = _last(store, job, index, numbers)
    return found.shard, found.reference


class Trusted(NamedTuple):
    """A manifest that was verified."""

    shard: Shard
    reference: Reference
    number: int


def trusted_shard(store: Store, job: Job, index: int, numbers: Sequence[int] | None = None) -> Trusted | None:
    """Return the last valid manifest of a shard; None if there is none. The arguments are those of `read_shard`."""
    try:
        return _last(store, job, index, numbers)
    except (IntegrityError, *ABSENT) as error:
        if arrived_damaged(error):
            raise
        return None


def _last(store: Store, job: Job, index: int, numbers: Sequence[int] | None) -> Trusted:
    refused: Exception | None = None
    for number in _listed(store, index) if numbers is None else numbers:
        name = shard_name(index, number)
        try:
            record = records.read(
                store, name, "shard", owner=job.digest, place=str(index), run_key=job.run_key, most=_most(job, index)
            )  # fmt: skip
            return Trusted(*_checked(record, job, index, store.child_uri(name)), number)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            refused = refused or error
            log.warning("manifest.ignored", uri=store.child_uri(name), cause=str(error))
    raise refused or ObjectNotFound(
        "the shard has not finished", uri=store.child_uri(shard_name(index)), hint="run it"
    )


def _most(job: Job, index: int) -> int:
    """Return how large a shard's manifest may be: each of its items may have failed, with a long traceback."""
    return min(records.MOST["shard"], (1 << 20) + len(job.items_of(index)) * _FAILED_BYTES)


def _promised(store: Store, job: Job, index: int, digest: str) -> tuple[Shard, Reference]:
    """Read the manifest with a digest, whatever number it has."""
    most = _most(job, index)
    name = shard_name(index)
    for number in _numbers(store, index):
        try:
            data = store.read(shard_name(index, number), most=most)
        except (FrameCorrupt, *ABSENT):
            continue
        if sha256(data) == digest:
            name = shard_name(index, number)
            break
    else:  # no manifest has it, or a read was wrong: this raises the error, or reads again
        data = fetch(store, name, digest=digest, most=most)
    uri = store.child_uri(name)
    record = records.taken(data, "shard", owner=job.digest, place=str(index), uri=uri, promised=True)
    return _checked(record, job, index, uri)


def _numbers(store: Store, index: int) -> Iterator[int]:
    """Yield the numbers of a shard's manifests; first 0, which needs no listing and is the only one of most shards."""
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
        raise FrameCorrupt(f"the shard's manifest is invalid ({error})", uri=uri) from error


def result_bytes(result: Result) -> bytes:
    """Return the bytes of ``result.json``, which do not depend on its name."""
    root = None if result.root is None else asdict(result.root)
    about = {"shards": list(result.shards), "failed": result.failed, "root": root}
    return records.written("result", about, owner=result.job, place=RESULT)


def read_result(reference: Reference) -> Result:
    """Read a job's result manifest."""
    found = _read(reference.folder, reference.name, "result", digest=reference.digest, place=RESULT)
    return _result(found, reference.uri)


def found_result(job: Job, name: str) -> Result:
    """Read a result in a job's folder, when its digest is not known; it is trusted as in `found_job`."""
    found = _read(job.uri, name, "result", owner=job.digest, place=RESULT)
    return _result(found, f"{job.uri}/{name}")


def _result(found: records.Record, uri: str) -> Result:
    try:
        shards = tuple(map(fields.digest, found.about["shards"]))
        return Result(
            found.owner, shards, fields.number(found.about["failed"]), fields.root(found.about["root"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FrameCorrupt(f"the result's manifest is invalid ({error})", uri=uri) from error


def _read(folder: str, name: str, kind: str, **wanted: Any) -> records.Record:
    try:
        return records.read(open_inside(folder), name, kind, **{"owner": None, **wanted})
    except (ObjectNotFound, StoreNotFound) as error:
        remedy = (
            "call the map, or run the pipeline, again"
            if kind == "job"
            else f"load {folder}, the job's folder"
        )
        error.hint = (
            f"the {kind} was deleted, or this process cannot see the store in which it was made: {remedy}"
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
    # the items are never iterated: a forged manifest of a job without packs may claim any number of them
    if not plan.covers(
        (span for chunk in chunks for span in chunk.positions if span[0] < span[1]), count
    ) or not all(failure.index in items for failure in failures):
        raise FrameCorrupt(
            f"the shard's manifest does not have each of its {count} items exactly once", uri=uri
        )
    return Shard(index, chunks, failures)
