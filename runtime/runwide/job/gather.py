"""Read a job's results back, in input order, each exactly once."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, overload

from runwide.ended import check, keep_finished, portable_exception_of, raise_or_return
from runwide.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreNotWritable,
)
from runwide.job import code, environment, incomplete, manifest
from runwide.job.chunk_reads import read_named
from runwide.job.chunks import ChunkLog
from runwide.job.decoded import outcome
from runwide.job.flow import ahead
from runwide.job.in_order import stored
from runwide.job.reducing import one_of, one_value
from runwide.job.reference import MARK, Reference, parse, parse_shard, whole
from runwide.log import Log
from runwide.results import Results, telling
from runwide.spill import signing, windows
from runwide.spill.buffers import sha256
from runwide.spill.store import open_inside

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from runwide.errors import RunwideError
    from runwide.job.in_order import Stored
    from runwide.job.manifest import Chunk, Job, Result, Root, Shard
    from runwide.job.reducing import Node
    from runwide.records import Failure, Outcome
    from runwide.spill.pack import Head
    from runwide.spill.store import Store

log = Log("job")

_THREADS = 8  # manifests and chunks on the way at once


@overload
def gather(
    job: str,
    shards: Sequence[str] | None = None,
    *,
    on_error: str = "raise",
    run_key: str | None = None,
    store: str | None = None,
    stream: Literal[False] = False,
) -> Results[Any]: ...


@overload
def gather(
    job: str,
    shards: Sequence[str] | None = None,
    *,
    on_error: str = "raise",
    run_key: str | None = None,
    store: str | None = None,
    stream: Literal[True],
) -> Iterator[Any]: ...


def gather(
    job: str,
    shards: Sequence[str] | None = None,
    *,
    on_error: str = "raise",
    run_key: str | None = None,
    store: str | None = None,
    stream: bool = False,
) -> Any:
    """The results of a job whose shards have all finished.

    Args:
        job: The reference that `scatter` returned. Or the URI of the job's folder, its id, the start of that, or its name:
            where a signing key is set, the job must be signed with it; without one it is believed as far as the store is,
            which is said in one line.
        shards: What the shards returned, in any order, short or full; their digests make the results safe from changes
            in the store. None to look for the shards' manifests in the store.
        on_error: ``"raise"`` the exception of the first failed item, or ``"return"`` a `runwide.Failure` in its place.
        run_key: What vouches for the shards' manifests within one run of a pipeline, where the user has no signing key.
        store: Where an id or a name is looked for; ``RUNWIDE_STORE`` where None.
        stream: Whether to return an iterator, which holds a bounded amount in memory, and the rest of what comes later in
            files of this machine. A failure is raised, or stands, where its item is due.

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
    about, found = _ended(whole(job, store), shards, run_key)
    node = one_of(about, [shard for shard, _ in found])
    try:
        _written(about, found, node)
    except StoreNotWritable as error:  # who may only read gets the results, and no reference to them
        log.info("result.not_written", job=about.id, cause=error.message)
    if node is not None:
        _log_gathered(about, found)
        return one_value(about, node, stream=stream)
    return _loaded(about, found, on_error, gathered=True, stream=stream)


def finish(
    job: str, shards: Sequence[str] | None = None, *, run_key: str | None = None, store: str | None = None
) -> str:
    """Check that every item has ended exactly once, write ``result.json`` and return its reference.

    Args:
        job: As for `gather`.
        shards: As for `gather`.
        run_key: As for `gather`.
        store: As for `gather`.

    Raises:
        JobIncomplete: Shards or results are missing; the message names them.
        DigestMismatch: A shard's manifest was changed.
    """
    about, found = _ended(whole(job, store), shards, run_key)
    error = incomplete.of_results(about, [shard for shard, _ in found])
    if error is not None:
        raise error
    node = one_of(about, [shard for shard, _ in found])
    _log_gathered(about, found)
    return _written(about, found, node)


@overload
def load(
    result: str, *, on_error: str = "raise", store: str | None = None, stream: Literal[False] = False
) -> Results[Any]: ...


@overload
def load(
    result: str, *, on_error: str = "raise", store: str | None = None, stream: Literal[True]
) -> Iterator[Any]: ...


def load(result: str, *, on_error: str = "raise", store: str | None = None, stream: bool = False) -> Any:
    """The results that a reference to a finished job stands for.

    Args:
        result: What the gather component returned, or `finish`. Or a job, as for `gather`; or the bare URI of a result,
            which is believed as a bare URI of a job is.
        on_error: As for `gather`.
        store: As for `gather`.
        stream: As for `gather`.

    Raises:
        BadReference: It is neither.
        DigestMismatch: An object was changed, or is not signed; nothing of it was unpickled.
        JobIncomplete: Shards of the job have not finished, or their results were removed from the store.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-load", shards=1)
        >>> load(finish(job, [runwide.shard(job, 0, workers=1)]))
        [1, 2]
        >>> for value in load(finish(job), stream=True):
        ...     print(value)
        1
        2
    """
    name = windows.slashed(str(result).partition(MARK)[0]).rstrip("/").rpartition("/")[2]
    if not name.startswith("result") or not name.endswith(".json"):
        job = manifest.read_job(whole(result, store))
        return _read_back(job, _shards(job, dict.fromkeys(range(job.shards))), None, on_error, stream=stream)
    if MARK not in result:
        return _found(windows.slashed(result), name, on_error, stream=stream)
    job, found = _read(result)
    return _read_back(job, _shards(job, dict(enumerate(found.shards))), found.root, on_error, stream=stream)


def _found(uri: str, name: str, on_error: str, *, stream: bool) -> Any:
    """The results of a result's bare URI."""
    job = manifest.found_job(uri)
    found = manifest.found_result(job, name)
    return _read_back(job, _shards(job, dict(enumerate(found.shards))), found.root, on_error, stream=stream)


def _read_back(
    job: Job, shards: Sequence[tuple[Shard, str]], root: Root | None, on_error: str, *, stream: bool
) -> Any:
    """The results of finished shards, or the one value of a job that is reduced."""
    node = one_of(job, [shard for shard, _ in shards], root)
    if node is not None:
        return one_value(job, node, stream=stream)
    return _loaded(job, shards, on_error, stream=stream)


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


def keep_so_far(error: RunwideError, job: str, *, run_key: str | None = None) -> None:
    """Put what all shards of a job have stored into the error that ended it, as `keep_stored` does.

    Args:
        error: As for `keep_stored`.
        job: The job's reference.
        run_key: As for `runwide.job.shard`.
    """
    about = manifest.read_job(job, run_key=run_key)
    with open_inside(about.uri) as store:
        logs = [ChunkLog(store, about, index) for index in range(about.shards)]
        for chunks in logs:
            chunks.resume()
        ended = list(_outcomes(store, about, [chunks.manifest() for chunks in logs]))
    keep_finished(error, ended)


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
    job: Job,
    shards: Sequence[tuple[Shard, str]],
    on_error: str,
    *,
    gathered: bool = False,
    stream: bool = False,
) -> Any:
    environment.warn(job.environment, uri=job.uri)
    if stream:
        check(on_error)
        return _streamed(job, [shard for shard, _ in shards], on_error)
    with open_inside(job.uri) as store:
        try:
            ended = list(_outcomes(store, job, [shard for shard, _ in shards]))
        except ObjectNotFound as error:
            raise incomplete.of_results(job, [shard for shard, _ in shards]) or error from error
    if gathered:
        _log_gathered(job, shards)
    with telling(job=job.reference):
        return Results(raise_or_return(ended, on_error), job=job.reference)


def _streamed(job: Job, shards: Sequence[Shard], on_error: str) -> Iterator[Any]:
    """The results one after another; the first failure ends them, or stands in its place."""
    noted = {failure.index: failure for shard in shards for failure in shard.failures}
    with open_inside(job.uri) as store, closing(_stored(store, job, shards)) as frames:
        late = code.Late(store, job)
        for one in frames:
            uri = store.child_uri(one.chunk)
            ended = outcome(one.frame, one.item, job, noted.get(one.item), uri, late=late)
            if ended.failure is not None and on_error == "raise":
                raise portable_exception_of(ended.failure)
            yield ended.value if ended.failure is None else ended.failure


def _stored(store: Store, job: Job, shards: Sequence[Shard]) -> Generator[Stored, None, None]:
    try:
        yield from stored(store, job, shards)
    except ObjectNotFound as error:
        raise incomplete.of_results(job, shards) or error from error


def shards_of(reference: str) -> tuple[Job, list[tuple[Shard, str]]]:
    """The job of a reference, or of that of its result, and its shards with the digests of their manifests.

    Raises:
        JobIncomplete: Shards have not finished, or were removed.
        DigestMismatch: A manifest was changed.
    """
    if parse(reference).name == manifest.JOB:
        return _ended(reference, None, None)
    job, found = _read(reference)
    return job, _shards(job, dict(enumerate(found.shards)))


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


def _written(job: Job, shards: Sequence[tuple[Shard, str]], node: Node | None) -> str:
    """Reference of the result's manifest: one that differs, after a shard was repaired, gets a name of its own."""
    digests = tuple(digest for _, digest in shards)
    root = None if node is None else manifest.Root(node.name, node.digest)
    data = manifest.result_bytes(manifest.Result(job.digest, digests, _failed(shards), root))
    name = manifest.RESULT
    with open_inside(job.uri) as store:
        try:
            store.create(name, data)
        except ObjectExists:
            name = f"result-{sha256(data)[:12]}.json"
            store.create(name, data)
    return str(Reference(f"{job.uri}/{name}", sha256(data)))


def _outcomes(store: Store, job: Job, shards: Sequence[Shard]) -> Iterator[Outcome]:
    chunks = [(shard.index, chunk) for shard in shards for chunk in shard.chunks if chunk.positions]
    noted = {failure.index: failure for shard in shards for failure in shard.failures}

    def read(one: tuple[int, Chunk]) -> tuple[bytearray, Head]:
        _, chunk = one
        return read_named(store, job, chunk)

    late = code.Late(store, job)
    for (index, chunk), (data, head) in zip(chunks, ahead(read, chunks, threads=_THREADS), strict=True):
        view = memoryview(data)
        # an item that failed and was run again counts where it ended last
        wanted = set(job.ended_in(index, chunk))
        for entry in head.entries:
            if entry.item not in wanted:
                continue
            frame = view[entry.offset : entry.stop]
            uri = store.child_uri(chunk.name)
            yield outcome(frame, entry.item, job, noted.get(entry.item), uri, late=late)
