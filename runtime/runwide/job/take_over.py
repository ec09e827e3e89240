"""Store results that are known before the shards of a job run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from runwide.errors import IntegrityError
from runwide.job import manifest, model, plan, writing
from runwide.job.chunk_log import ChunkLog, Ended
from runwide.job.flow import ahead
from runwide.job.reading import read_named
from runwide.log import Log
from runwide.store import pack, signing
from runwide.store.base import open_inside
from runwide.store.codec import encode, rebound
from runwide.store.records import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runwide.job.model import Chunk, Job
    from runwide.store.base import Store

log = Log("job")

_THREADS = 4  # chunks that are read at once
_MOST_BYTES = 8 * plan.CHUNK_BYTES  # of results in memory that wait for more of their shard


def keep(job: str, results: Mapping[int, Any], *, run_key: str | None = None) -> None:
    """Store results of some items, so that the job's shards run only the other items.

    Args:
        job: The reference that `scatter` returned; no shard of the job may run yet.
        results: Return values of the job's function by the item's index; they can be pickled.
        run_key: As for `runwide.shard`.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2, -3], store="memory://doc-keep", shards=2)
        >>> keep(job, {1: 22})
        >>> runwide.gather(job, [runwide.shard(job, index, workers=1) for index in (0, 1)])
        [1, 22, 3]
    """
    about = manifest.read_job(job, run_key=run_key)

    def ended(item: int) -> Ended:
        context = model.result_context(about.digest, item)
        return Ended(pack.Member(item, encode(results[item], context=context)))

    with open_inside(about.uri) as store:
        logs = _Logs(store, about)
        for item in sorted(results):
            logs.put(ended(item))
        logs.write()
    log.info("results.kept", job=about.id, items=len(results))


def take_over(old: Job, new: Job) -> int:
    """Copy the results of a job to a new job with the same items, and finish the shards that have all results.

    Results are verified as when a shard resumes, and not unpickled. Failed items, and results that are damaged or removed,
    are left out and run again.

    Args:
        new: A new job; no shard of it may run yet.

    Returns:
        Number of copied results.
    """
    with open_inside(old.uri) as source, open_inside(new.uri) as store:
        logs = _Logs(store, new)
        for ends in _succeeded(source, old, new):
            for end in ends:
                logs.put(end)
        taken = logs.finish()
    log.info("results.taken_over", job=new.id, items=taken, uri=new.uri, source=old.uri)
    return taken


class _Logs:
    """The chunk logs of a new job's shards, each made on first use."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._logs: dict[int, ChunkLog] = {}
        self._ends: dict[int, list[Ended]] = {}
        self._sizes: Counter[int] = Counter()
        self._size = 0

    def put(self, end: Ended) -> None:
        """Add the end of an item; ends of a shard are collected and written as one chunk, as far as memory allows."""
        index = self._job.shard_of(end.member.item)
        size = end.member.value.size
        self._ends.setdefault(index, []).append(end)
        self._sizes[index] += size
        self._size += size
        if self._sizes[index] >= plan.CHUNK_BYTES:
            self._write(index)
        elif self._size >= _MOST_BYTES:
            self._write(max(self._sizes, key=lambda one: self._sizes[one]))

    def write(self) -> None:
        """Write the ends that were not written yet."""
        for index in sorted(self._ends):
            self._write(index)

    def _write(self, index: int) -> None:
        self._size -= self._sizes.pop(index)
        if index not in self._logs:
            self._logs[index] = ChunkLog(self._store, self._job, index)
        self._logs[index].append(self._ends.pop(index))

    def finish(self) -> int:
        """Write the rest, and the manifests of shards with all results; return the number of results in all shards."""
        self.write()
        for index, chunks in self._logs.items():
            if len(chunks.finished) == len(self._job.items_of(index)):
                writing.finish_shard(self._store, self._job, chunks, index)
        return sum(len(chunks.finished) for chunks in self._logs.values())


def _succeeded(source: Store, old: Job, new: Job) -> Iterator[list[Ended]]:
    """Yield the results of a job, chunk by chunk, as results of another job."""

    def read(one: tuple[int, Chunk]) -> list[Ended]:
        index, chunk = one
        try:
            return _rebound(source, chunk, index, old, new)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            log.warning("chunk.ignored", uri=source.child_uri(chunk.name), cause=str(error))
            return []

    return ahead(read, _chunks(source, old), threads=_THREADS)


def _chunks(source: Store, old: Job) -> Iterator[tuple[int, Chunk]]:
    """Yield shards and chunks of a job: by the manifest of a shard without failures, and by a listing for other shards."""
    for index in range(old.shards):
        found = manifest.trusted_shard(source, old, index)
        if found is None or found.shard.failures:  # failed items may have been run again since
            chunks = ChunkLog(source, old, index)
            chunks.resume()
            shard = chunks.manifest()
        else:
            signing.believe("results", old.uri)
            shard = found.shard
        yield from ((index, chunk) for chunk in shard.chunks if chunk.positions)


def _rebound(source: Store, chunk: Chunk, index: int, old: Job, new: Job) -> list[Ended]:
    """Read the results of one chunk and bind them to another job, without items that have a later end in another chunk."""
    data, head = read_named(source, old, chunk)
    view = memoryview(data)
    wanted = set(old.ended_in(index, chunk))
    return [
        Ended(pack.Member(entry.item, rebound(
            view[entry.offset : entry.stop], context=model.result_context(old.digest, entry.item),
            new=model.result_context(new.digest, entry.item), uri=source.child_uri(chunk.name),
        )))
        for entry in head.entries if entry.item in wanted and not entry.failed
    ]  # fmt: skip
