"""Read a job's results back, in input order, each exactly once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from runwide.ended import keep_finished, raise_or_return
from runwide.errors import (
    ObjectExists,
    ObjectNotFound,
    RemoteTraceback,
    ResultNotLoadable,
    StoreNotWritable,
)
from runwide.job import code, contexts, environment, incomplete, manifest, plan
from runwide.job.chunks import read_chunk
from runwide.job.flow import ahead
from runwide.job.reference import Reference, parse, parse_shard
from runwide.log import Log
from runwide.records import Failure, FailureKind, Outcome
from runwide.results import Results, telling
from runwide.spill import signing, windows
from runwide.spill.buffers import sha256
from runwide.spill.codec import decode_verified
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runwide.errors import RunwideError
    from runwide.job.manifest import Chunk, Job, Result, Shard
    from runwide.spill.pack import Entry, Head
    from runwide.spill.store import Store

log = Log("job")

_THREADS = 8  # manifests and chunks on the way at once


def gather(
    job: str,
    shards: Sequence[str] | None = None,
    *,
    on_error: str = "raise",
    run_key: str | None = None,
) -> Results[Any]:
    """The results of a job whose shards have all finished.

    Args:
        job: The reference that `scatter` returned.
        shards: What the shards returned, in any order, short or full; their digests make the results safe from changes
            in the store. None to look for the shards' manifests in the store.
        on_error: ``"raise"`` the exception of the first failed item, or ``"return"`` a `runwide.Failure` in its place.
        run_key: What vouches for the shards' manifests within one run of a pipeline, where the user has no signing key.

    Returns:
        One result per item, in input order.

    Raises:
        JobIncomplete: Shards or results are missing; the message names them, and how to run them again.
        DigestMismatch: An object was changed; nothing of it was unpickled.
        Exception: The first failed item's, with ``on_error="raise"``, caused by a `TasksFailed` that has all of them.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-gather", shards=1)
        >>> gather(job, [runwide.shard(job, 0, workers=1)])
        [1, 2]
    """
    about, found = _ended(job, shards, run_key)
    try:
        _written(about, found)
    except StoreNotWritable as error:  # who may only read gets the results, and no reference to them
        log.info("result.not_written", job=about.id, cause=error.message)
    return _loaded(about, found, on_error, gathered=True)


def finish(job: str, shards: Sequence[str] | None = None, *, run_key: str | None = None) -> str:
    """Check that every item has ended exactly once, write ``result.json`` and return its reference.

    Args:
        job: As for `gather`.
        shards: As for `gather`.
        run_key: As for `gather`.

    Raises:
        JobIncomplete: Shards or results are missing; the message names them.
        DigestMismatch: A shard's manifest was changed.
    """
    about, found = _ended(job, shards, run_key)
    error = incomplete.of_results(about, [shard for shard, _ in found])
    if error is not None:
        raise error
    _log_gathered(about, found)
    return _written(about, found)


def load(result: str, *, on_error: str = "raise") -> Results[Any]:
    """The results that a reference to a finished job stands for.

    Args:
        result: What the gather component returned, or `finish`. Or the bare URI of a job's folder, or of its result, without
            a digest: where a signing key is set, the job must be signed with it; without one it is believed as far as
            the store is, which is said in one line.
        on_error: As for `gather`.

    Raises:
        BadReference: It is neither.
        DigestMismatch: An object was changed, or is not signed; nothing of it was unpickled.
        JobIncomplete: Shards of the job have not finished, or their results were removed from the store.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-load", shards=1)
        >>> load(finish(job, [runwide.shard(job, 0, workers=1)]))
        [1, 2]
    """
    if "#" not in result:
        return _found(result, on_error)
    job, found = _read(result)
    return _loaded(job, _shards(job, dict(enumerate(found.shards))), on_error)


def _found(uri: str, on_error: str) -> Results[Any]:
    """The results at a bare URI."""
    uri = windows.slashed(uri)
    if "/" not in uri:
        parse(uri)  # which says what is expected
    job = manifest.found_job(uri)
    name = uri.rstrip("/").rpartition("/")[2]
    if name.endswith(".json") and name != manifest.JOB:
        wanted: dict[int, str | None] = dict(enumerate(manifest.found_result(job, name).shards))
    else:
        wanted = dict.fromkeys(range(job.shards))
    return _loaded(job, _shards(job, wanted), on_error)


def keep_stored(error: RunwideError, store: Store, job: Job, shard: Shard) -> None:
    """Put what a shard has stored into the error that ended it, if that is one with a place for it.

    Args:
        error: As for `runwide.ended.keep_finished`.
        store: The job's folder.
        job: The job.
        shard: The chunks that it has written so far.
    """
    if hasattr(error, "results"):
        keep_finished(error, list(_outcomes(store, job, [shard])))
        vars(error)["results"] = Results(vars(error)["results"], job=job.reference)


def failures(result: str) -> tuple[int, list[Failure]]:
    """Number of items and the failed ones, from the manifests alone: nothing is unpickled."""
    job, found = _read(result)
    shards = _shards(job, dict(enumerate(found.shards))) if found.failed else []
    return job.count, [failure for shard, _ in shards for failure in shard.failures]


def _ended(
    job: str, shards: Sequence[str] | None, run_key: str | None
) -> tuple[Job, list[tuple[Shard, str]]]:
    about = manifest.read_job(job, run_key=run_key)
    if shards is None and run_key is None:
        signing.believe("results", about.uri)
    found = _shards(about, _digests(about, shards))
    return about, found


def _log_gathered(job: Job, shards: Sequence[tuple[Shard, str]]) -> None:
    log.info("job.gathered", job=job.id, items=job.count, failed=_failed(shards))


def _failed(shards: Sequence[tuple[Shard, str]]) -> int:
    return sum(len(one.failures) for one, _ in shards)


def _read(result: str) -> tuple[Job, Result]:
    reference = parse(result)
    found = manifest.read_result(reference)
    return manifest.read_job(str(Reference(f"{reference.folder}/{manifest.JOB}", found.job))), found


def _loaded(
    job: Job, shards: Sequence[tuple[Shard, str]], on_error: str, *, gathered: bool = False
) -> Results[Any]:
    environment.warn(job.environment, uri=job.uri)
    with open_inside(job.uri) as store:
        try:
            ended = list(_outcomes(store, job, [shard for shard, _ in shards]))
        except ObjectNotFound as error:
            raise incomplete.of_results(job, [shard for shard, _ in shards]) or error from error
    if gathered:
        _log_gathered(job, shards)
    with telling(job=job.reference):
        return Results(raise_or_return(ended, on_error), job=job.reference)


def _digests(job: Job, shards: Sequence[str] | None) -> dict[int, str | None]:
    if shards is None:
        return dict.fromkeys(range(job.shards))
    given: dict[int, str | None] = {}
    for index, digest in map(parse_shard, shards):
        job.items_of(index)  # raises for an index that the job does not have
        given.setdefault(index, digest)
    missing = [index for index in range(job.shards) if index not in given]
    if missing:
        raise incomplete.of_shards(job, missing, "were not given to gather")
    return given


def _shards(job: Job, digests: dict[int, str | None]) -> list[tuple[Shard, str]]:
    def read(index: int) -> tuple[Shard, str] | None:
        try:
            found, reference = manifest.read_shard(store, job, index, digests[index])
        except ObjectNotFound:
            return None
        return found, reference.digest

    with open_inside(job.uri) as store:
        found = list(ahead(read, range(job.shards), threads=_THREADS))
    missing = [index for index, one in enumerate(found) if one is None]
    if missing:
        known = all(digests[index] for index in missing) or incomplete.has_result(job)
        what = "had finished and were removed from the store" if known else "have not finished"
        raise incomplete.of_shards(job, missing, what)
    return [one for one in found if one is not None]


def _written(job: Job, shards: Sequence[tuple[Shard, str]]) -> str:
    """Reference of the result's manifest: one that differs, after a shard was repaired, gets a name of its own."""
    digests = tuple(digest for _, digest in shards)
    data = manifest.result_bytes(manifest.Result(job.digest, digests, _failed(shards)))
    name = manifest.RESULT
    with open_inside(job.uri) as store:
        try:
            store.create(name, data)
        except ObjectExists:
            name = f"result-{sha256(data)[:12]}.json"
            store.create(name, data)
    return str(Reference(f"{job.uri}/{name}", sha256(data)))


def _outcomes(store: Store, job: Job, shards: Sequence[Shard]) -> Iterator[Outcome]:
    chunks = [chunk for shard in shards for chunk in shard.chunks if chunk.items]
    noted = {failure.index: failure for shard in shards for failure in shard.failures}

    def read(chunk: Chunk) -> tuple[bytearray, Head]:
        return read_chunk(store, job, chunk.name, chunk.digest, size=chunk.size)

    late = code.Late(store, job)
    for chunk, (data, head) in zip(chunks, ahead(read, chunks, threads=_THREADS), strict=True):
        view = memoryview(data)
        wanted = set(
            plan.members(chunk.items)
        )  # an item that failed and was run again counts where it ended last
        for entry in head.entries:
            if entry.item not in wanted:
                continue
            frame = view[entry.offset : entry.stop]
            yield _outcome(frame, entry, job, noted.get(entry.item), store.child_uri(chunk.name), late=late)


def _outcome(
    frame: memoryview, entry: Entry, job: Job, failure: Failure | None, uri: str, *, late: code.Late
) -> Outcome:
    context = contexts.result_context(job.digest, entry.item)
    load = partial(
        decode_verified, frame, context=context, uri=uri
    )  # verified by `read_chunk`, on another thread
    try:
        value = late.loaded(load)
    except Exception as error:
        return Outcome(entry.item, failure=failure or _not_loadable(error, entry.item, uri, late.hint(error)))
    if failure is None:
        return Outcome(entry.item, value)
    if isinstance(value, BaseException) and failure.traceback:
        value.__cause__ = RemoteTraceback("raised in a worker", item=entry.item, traceback=failure.traceback)
    return Outcome(entry.item, failure=failure.but(exception=value))


def _not_loadable(error: Exception, item: int, uri: str, hint: str | None) -> Failure:
    raised = ResultNotLoadable(
        f"the result cannot be unpickled here: {type(error).__name__}: {error}",
        item=item,
        uri=uri,
        hint=hint or "install here what the function's image has, or return plain data",
    )
    raised.__cause__ = error
    return Failure(item, FailureKind.PICKLING, type(raised).__name__, raised.message, exception=raised)
