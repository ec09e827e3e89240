"""Read the results of a job in input order, one after another, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from runwide.errors import FrameCorrupt
from runwide.job.chunk_reads import Loaded, check_count, read_named
from runwide.job.flow import ahead
from runwide.job.turns import Turns
from runwide.spill import pack
from runwide.spill.verified import SLACK, checked_read

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from runwide.job.model import Chunk, Job, Shard
    from runwide.job.turns import Due
    from runwide.spill.pack import Entry
    from runwide.spill.store import Store

_SMALL = 1 << 20  # bytes of a chunk that is always read whole
_HEAD = 64 << 10  # bytes of a chunk that are read to learn the size of its index
_GAP = 64 << 10  # most bytes between two values that are read with one request
_THREADS = 4  # chunks that are read at once
_MEMORY = 64 << 20  # bytes of chunks with results of later items in memory; more are in files


def stored(
    store: Store,
    job: Job,
    shards: Iterable[Shard],
    *,
    only: Iterable[int] | None = None,
    whole: bool = True,
    memory: int = _MEMORY,
) -> Generator[Due, None, None]:
    """Yield the results of shards in input order, each frame in memory of its own; each chunk is read once.

    A chunk is read when its first result is due, and held until its last one is: in memory up to a limit, and beyond it in
    a temporary file.

    Args:
        store: The job's folder.
        job: The job.
        shards: All of its shards, or some.
        only: The items whose results are wanted; None for all.
        whole: Whether to read and verify each chunk whole. Otherwise, if less than half of a chunk is wanted, only that part
            is read, and the caller has to verify it when it unpickles it.
        memory: Bytes of chunks to hold in memory.

    Raises:
        IntegrityError: A chunk was changed, or has other results than its manifest says.
        ObjectNotFound: A chunk was removed.
        ScratchError: Temporary files cannot be written.
    """
    places = None if only is None else job.layout.positions(only)
    wanted = sorted(
        one
        for shard in shards
        for one in _wanted(job, shard, None if places is None else places.get(shard.index, []))
    )

    def read(one: _Wanted) -> Loaded:
        return _read(store, job, one, whole=whole)

    with closing(Turns(memory)) as turns:
        for one, chunk in zip(wanted, ahead(read, wanted, threads=_THREADS), strict=True):
            yield from _copied(turns.due(one.first))
            turns.put(chunk)
            del chunk
        yield from _copied(turns.due(job.count))


def _copied(results: Iterable[Due]) -> Iterator[Due]:
    """Copy views of chunks, so that a result that is in use does not keep its whole chunk in memory."""
    for one in results:
        yield one if isinstance(one.frame, bytearray) else one._replace(frame=bytearray(one.frame))


class _Wanted(NamedTuple):
    """A chunk, and the positions in its shard of the items whose results are wanted; None for all in the chunk."""

    first: int
    name: str
    shard: int
    chunk: Chunk
    places: Sequence[int] | None


def _wanted(job: Job, shard: Shard, places: Sequence[int] | None) -> Iterator[_Wanted]:
    """Yield the chunks of a shard that have results at these positions; None for all."""
    items = job.items_of(shard.index)
    for chunk in shard.chunks:
        found = None
        if places is not None:
            found = [
                place
                for start, stop in chunk.positions
                for place in places[bisect_left(places, start) : bisect_left(places, stop)]
            ]
        if found or (found is None and chunk.positions):
            first = min(found) if found else min(start for start, _ in chunk.positions)
            yield _Wanted(items[first], chunk.name, shard.index, chunk, found)


def _read(store: Store, job: Job, one: _Wanted, *, whole: bool) -> Loaded:
    """Read the wanted results of a chunk."""
    chunk, places = one.chunk, one.places
    uri = store.child_uri(chunk.name)
    part = not whole and chunk.size > _SMALL and places is not None and 2 * len(places) < chunk.count
    if part:
        head = _head(store, job, chunk)
        check_count(head, chunk, uri)
    else:
        data, head = read_named(store, job, chunk)
    if places is None:
        wanted = set(
            job.ended_in(one.shard, chunk)
        )  # the result of an item that was run again is in another chunk
    else:
        items = job.items_of(one.shard)
        wanted = {items[place] for place in places}
    entries = [entry for entry in head.entries if entry.item in wanted]
    if len(entries) != len(wanted) or {entry.item for entry in entries} != wanted:
        raise FrameCorrupt("the chunk has other results than its manifest says", uri=uri)
    if part:
        data, entries = _parts(store, chunk.name, entries)
    return Loaded(data, entries, {}, uri)


def _head(store: Store, job: Job, chunk: Chunk) -> pack.Head:
    """Read the head of a chunk that a manifest names, and verify it."""
    uri = store.child_uri(chunk.name)
    data = store.read(chunk.name, length=min(_HEAD, chunk.size))
    size = min(pack.head_size(data, uri=uri), chunk.size)

    def check(data: bytearray) -> pack.Head:
        return pack.read_head(data, job=job.digest, slot=chunk.name, digest=chunk.digest, uri=uri)

    return checked_read(store, chunk.name, check, length=max(size, pack.SMALLEST), most=chunk.size + SLACK)


def _parts(store: Store, name: str, entries: list[Entry]) -> tuple[bytearray, list[Entry]]:
    """Read some values of a chunk with few requests: a small gap between two values is read as well."""
    data = bytearray()
    found: list[Entry] = []
    for group in _neighbours(entries):
        start = group[0].offset
        moved = len(data) - start
        data += store.read(name, start=start, length=group[-1].stop - start)
        found += [replace(entry, offset=entry.offset + moved) for entry in group]
    return data, found


def _neighbours(entries: list[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    for entry in entries:
        if group and entry.offset - group[-1].stop > _GAP:
            yield group
            group = []
        group.append(entry)
    yield group
