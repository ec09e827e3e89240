"""Read the results of a job, in input order, each exactly once."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, overload

from runwide.errors import ObjectExists, ObjectNotFound, StoreNotWritable
from runwide.job import code, environment, incomplete, manifest, model
from runwide.job.chunk_log import ChunkLog
from runwide.job.flow import ahead
from runwide.job.in_order import stored
from runwide.job.reading import outcome, read_named
from runwide.job.reducing import one_of, one_value
from runwide.job.reference import MARK, Reference, parse, parse_shard, resolve
from runwide.log import Log
from runwide.outcomes import check_on_error, keep_finished, portable_exception_of, raise_or_return
from runwide.records import Results, reportable
from runwide.store import signing, windows
from runwide.store.base import open_inside
from runwide.store.buffers import sha256

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from runwide.errors import RunwideError
    from runwide.job.in_order import Due
    from runwide.job.model import Chunk, Job, Result, Root, Shard
    from runwide.job.reducing import Node
    from runwide.records import Failure, Outcome
    from runwide.store.base import Store
    from runwide.store.pack import Head

log = Log("job")

_THREADS = 8  # manifests and chunks that are read at once


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
    """Return the results of a job whose shards have all finished.

    Args:
        job: The reference that `scatter` returned. Or the URI of the job's folder, its id, the start of its id, or its name:
            then, if a signing key is set, the job must be signed with it; otherwise the store is trusted, and one log line
            says so.
        shards: The references that the shards returned, in any order, short or full; with their digests, a change in the
            store is detected. None to look for the shards' manifests in the store.
        on_error: ``"raise"`` the exception of the first failed item, or ``"return"`` a `runwide.Failure` for each.
        run_key: The key that vouches for the shards' manifests within one run of a pipeline, if the user has no signing key.
        store: The store of the job, if it is given by id or name; None for ``RUNWIDE_STORE``.
        stream: Whether to return an iterator. It keeps a bounded amount in memory, and other results of later items in
            temporary files. A failure is raised or returned when its item is due.

    Returns:
        One result for each item, in input order.

    Raises:
        JobIncomplete: Shards or results are missing; the message names them and says how to run them again.
        DigestMismatch: An object was changed; nothing in it was unpickled.
        Exception: With ``on_error="raise"``, the exception of the first failed item, caused by a `TasksFailed` with all
            failures.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-gather", shards=1)
        >>> gather(job, [runwide.shard(job, 0, workers=1)])
        [1, 2]
    """
    about, found = _ended(resolve(job, store), shards, run_key)
    node = one_of(about, [shard for shard, _ in found])
    try:
        _written(about, found, node)
    except StoreNotWritable as error:  # a process that may only read gets the results without a reference
        log.info("result.not_written", job=about.id, cause=error.message)
    if node is not None:
        _log_gathered(about, found)
        return one_value(about, node, stream=stream)
    return _loaded(about, found, on_error, gathered=True, stream=stream)


def finish(
    job: str, shards: Sequence[str] | None = None, *, run_key: str | None = None, store: str | None = None
) -> str:
    """Check that each item has ended exactly once, write ``result.json`` and return its reference; see `gather`."""
    about, found = _ended(resolve(job, store), shards, run_key)
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
    """Return the results of a finished job.

    Args:
        result: The reference that the gather component or `finish` returned. Or a job, as for `gather`; or the URI of a
            result, which is trusted like the URI of a job.
        on_error: As for `gather`.
        store: As for `gather`.
        stream: As for `gather`.

    Raises:
        BadReference: It is neither a result nor a job.
        DigestMismatch: An object was changed, or is not signed; nothing in it was unpickled.
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
    if not manifest.is_result(name):
        job = manifest.read_job(resolve(result, store))
        return _read_back(job, _shards(job, dict.fromkeys(range(job.shards))), None, on_error, stream=stream)
    if MARK not in result:
        job = manifest.found_job(windows.slashed(result))
        found = manifest.found_result(job, name)
    else:
        job, found = _read(result)
    return _read_back(job, _shards(job, dict(enumerate(found.shards))), found.root, on_error, stream=stream)


def _read_back(
    job: Job, shards: Sequence[tuple[Shard, str]], root: Root | None, on_error: str, *, stream: bool
) -> Any:
    """Return the results of finished shards, or the one value of a job with ``reduce=``."""
    node = one_of(job, [shard for shard, _ in shards], root)
    if node is not None:
        return one_value(job, node, stream=stream)
    return _loaded(job, shards, on_error, stream=stream)


def keep_stored(error: RunwideError, store: Store, job: Job, shard: Shard) -> None:
    """Attach the stored results of a shard to the error that ended it, if the error has an attribute for them.

    Args:
        shard: The chunks that the shard has written so far.
    """
    if hasattr(error, "results"):
        keep_finished(error, list(_outcomes(store, job, [shard])))
        vars(error)["results"] = Results(vars(error)["results"], job=job.reference)


def keep_so_far(error: RunwideError, job: str, *, run_key: str | None = None) -> None:
    """Attach the stored results of all shards to the error that ended a job, as `keep_stored` does."""
    about = manifest.read_job(job, run_key=run_key)
    with open_inside(about.uri) as store:
        logs = [ChunkLog(store, about, index) for index in range(about.shards)]
        for chunks in logs:
            chunks.resume()
        ended = list(_outcomes(store, about, [chunks.manifest() for chunks in logs]))
    keep_finished(error, ended)


def failures(result: str) -> tuple[int, list[Failure]]:
    """Return the number of items and the failures of a result, from the manifests alone; nothing is unpickled."""
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
    return manifest.read_job(str(Reference(f"{reference.folder}/{model.JOB}", found.job))), found


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
        check_on_error(on_error)
        return _streamed(job, [shard for shard, _ in shards], on_error)
    with open_inside(job.uri) as store:
        try:
            ended = list(_outcomes(store, job, [shard for shard, _ in shards]))
        except ObjectNotFound as error:
            raise incomplete.of_results(job, [shard for shard, _ in shards]) or error from error
    if gathered:
        _log_gathered(job, shards)
    with reportable(job=job.reference):
        return Results(raise_or_return(ended, on_error), job=job.reference)


def _streamed(job: Job, shards: Sequence[Shard], on_error: str) -> Iterator[Any]:
    """Yield the results in order, and raise or yield each failure when its item is due."""
    noted = {failure.index: failure for shard in shards for failure in shard.failures}
    with open_inside(job.uri) as store, closing(_stored(store, job, shards)) as frames:
        late = code.Late(store, job)
        for one in frames:
            ended = outcome(one.frame, one.item, job, noted.get(one.item), one.uri, late=late)
            if ended.failure is not None and on_error == "raise":
                raise portable_exception_of(ended.failure)
            yield ended.value if ended.failure is None else ended.failure


def _stored(store: Store, job: Job, shards: Sequence[Shard]) -> Generator[Due, None, None]:
    try:
        yield from stored(store, job, shards)
    except ObjectNotFound as error:
        raise incomplete.of_results(job, shards) or error from error


def shards_of(reference: str) -> tuple[Job, list[tuple[Shard, str]]]:
    """Return the job of a reference to it or to its result, and its shards with the digests of their manifests."""
    if parse(reference).name == model.JOB:
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
    """Write the result's manifest and return its reference; if an older one differs, the new one gets another name."""
    digests = tuple(digest for _, digest in shards)
    root = None if node is None else model.Root(node.name, node.digest)
    data = manifest.result_bytes(model.Result(job.digest, digests, _failed(shards), root))
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
        return read_named(store, job, one[1])

    late = code.Late(store, job)
    for (index, chunk), (data, head) in zip(chunks, ahead(read, chunks, threads=_THREADS), strict=True):
        view = memoryview(data)
        # the last end of an item that was run again is in another chunk
        wanted = set(job.ended_in(index, chunk))
        for entry in head.entries:
            if entry.item not in wanted:
                continue
            frame = view[entry.offset : entry.stop]
            uri = store.child_uri(chunk.name)
            yield outcome(frame, entry.item, job, noted.get(entry.item), uri, late=late)
