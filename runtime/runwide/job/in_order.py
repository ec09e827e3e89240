"""Results of a job in input order, in bounded memory."""

from __future__ import annotations

import heapq
import tempfile
from array import array
from bisect import bisect_left
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import IO, TYPE_CHECKING, NamedTuple

from runwide.errors import FrameCorrupt, ScratchError
from runwide.host import space
from runwide.job.fields import failure_from_json, failure_to_json
from runwide.job.flow import ahead
from runwide.job.reading import Loaded, check_count, ranges, read_named
from runwide.json_text import dumps, json_of
from runwide.store import pack
from runwide.store.records import SLACK, checked_read

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from runwide.job.model import Chunk, Job, Shard
    from runwide.records import Failure
    from runwide.store.base import Store
    from runwide.store.buffers import Buffer
    from runwide.store.pack import Entry


_FILE_BYTES = 64 << 20  # a larger file takes no further chunk, so that its space is freed with these


class Due(NamedTuple):
    """A result whose turn has come.

    Args:
        digest: SHA-256 of its frame, in hex.
        frame: Its frame: a view of its chunk, or bytes of its own where the chunk was in a file.
    """

    item: int
    digest: str
    frame: Buffer
    failure: Failure | None
    uri: str


class _File:
    """A temporary file without a name, which holds some chunks."""

    def __init__(self) -> None:
        self._folder = space.scratch()
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with its last chunk
        except OSError as error:
            raise self._error("written to", error) from error
        self.size = 0
        self.chunks = 0

    def add(self, data: Buffer) -> int:
        """Append bytes and return their offset."""
        start = self.size
        try:
            self._file.seek(start)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._error("written to", error) from error
        self.size += len(data)
        return start

    def read(self, start: int, stop: int) -> bytearray:
        """Return some of the bytes."""
        data = bytearray(stop - start)
        try:
            self._file.seek(start)
            if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]  # typeshed's IO has none
                raise OSError("it is too short")  # noqa: TRY301 - one message for both
        except OSError as error:
            raise self._error("read from", error) from error
        return data

    def _error(self, action: str, error: OSError) -> ScratchError:
        return ScratchError(
            f"results of later items cannot be {action} a temporary file ({error.strerror or error})",
            uri=self._folder,
            hint="set RUNWIDE_SCRATCH to a directory with enough space for them",
        )

    def close(self) -> None:
        """Close the file, which frees its space."""
        self._file.close()


class _Held:
    """A chunk with results that are still to be taken; its index takes 56 bytes a result."""

    def __init__(self, chunk: Loaded) -> None:
        entries = sorted(chunk.entries, key=lambda entry: entry.item)
        self._items = array("Q", [entry.item for entry in entries])
        self._starts = array("Q", [entry.offset for entry in entries])
        self._stops = array("Q", [entry.stop for entry in entries])
        self._digests = b"".join(bytes.fromhex(entry.digest) for entry in entries)
        self._failures = {item: chunk.failures[item] for item in self._items if item in chunk.failures}
        self._in_file: dict[int, tuple[int, int]] = {}  # where the record of a failure is
        self._uri = chunk.uri
        self._place = 0
        self._base = 0
        self.data: bytearray | None = chunk.data
        self.file: _File | None = None

    @property
    def item(self) -> int | None:
        """The next item; None after the last one."""
        return self._items[self._place] if self._place < len(self._items) else None

    def move(self, data: bytearray, file: _File) -> None:
        """Move the chunk into a file, with its failures, whose tracebacks are long."""
        self._base = file.add(data)
        for item, failure in self._failures.items():
            text = dumps(failure_to_json(failure))
            start = file.add(text)
            self._in_file[item] = (start, start + len(text))
        self._failures = {}
        self.data, self.file = None, file
        file.chunks += 1

    def take(self) -> Due:
        """Return the next result."""
        place, self._place = self._place, self._place + 1
        item, start, stop = self._items[place], self._starts[place], self._stops[place]
        digest = self._digests[32 * place : 32 * place + 32].hex()
        if self.file is None:
            frame = memoryview(self.data or b"")[start:stop]
            return Due(item, digest, frame, self._failures.pop(item, None), self._uri)
        record = self._in_file.pop(item, None)
        failure = failure_from_json(json_of(self.file.read(*record))) if record else None
        return Due(item, digest, self.file.read(self._base + start, self._base + stop), failure, self._uri)


class Turns:
    """Take chunks of results, and yield the results in the order of their items.

    Chunks stay in memory up to a budget. Beyond it, those whose first item comes last are moved to temporary files. A file
    is closed, which frees its space, when the last result in it has been yielded.

    Args:
        budget: Bytes of chunks in memory.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._chunks: dict[int, _Held] = {}
        # heaps of items and the numbers of their chunks
        self._next: list[tuple[int, int]] = []  # the next item of each chunk
        self._latest: list[
            tuple[int, int]
        ] = []  # the first item of chunks in memory, negative: the last one first
        self._numbers = count()
        self._turn = 0
        self._file: _File | None = None
        self._files: set[_File] = set()
        self.in_memory = 0

    @property
    def in_files(self) -> int:
        """Bytes of temporary files."""
        return sum(file.size for file in self._files)

    def put(self, chunk: Loaded) -> None:
        """Take a chunk."""
        held, number = _Held(chunk), next(self._numbers)
        first = held.item
        if first is None:
            return
        self._chunks[number] = held
        self.in_memory += len(chunk.data)
        heapq.heappush(self._next, (first, number))
        heapq.heappush(self._latest, (-first, number))
        while self.in_memory > self._budget and self._latest:
            self._move(heapq.heappop(self._latest)[1])

    def due(self, stop: int | None = None) -> Iterator[Due]:
        """Yield the results whose turn has come.

        Args:
            stop: Every chunk with an item before this one was put. None where chunks come in any order: then a result is
                yielded after those of all items before it.
        """
        while self._next and self._next[0][0] < (self._turn + 1 if stop is None else stop):
            item, number = self._next[0]
            held = self._chunks[number]
            found, self._turn = held.take(), item + 1
            if held.item is None:
                heapq.heappop(self._next)
                self._drop(number)
            else:
                heapq.heapreplace(self._next, (held.item, number))
            del held
            yield found
            del found  # so that the memory is free while the caller waits for the next one

    def _move(self, number: int) -> None:
        held = self._chunks.get(number)
        if held is None or held.data is None:
            return
        if self._file is None or self._file.size >= _FILE_BYTES:
            self._file = _File()
            self._files.add(self._file)
        self.in_memory -= len(held.data)
        held.move(held.data, self._file)

    def _drop(self, number: int) -> None:
        held = self._chunks.pop(number)
        if held.data is not None:
            self.in_memory -= len(held.data)
        elif held.file is not None:
            held.file.chunks -= 1
            if not held.file.chunks:
                if held.file is self._file:
                    self._file = None
                self._files.discard(held.file)
                held.file.close()

    def close(self) -> None:
        """Drop all chunks and close the files."""
        for file in self._files:
            file.close()
        self._files.clear()
        self._chunks.clear()


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
        # the result of an item that was run again is in another chunk
        wanted = set(job.ended_in(one.shard, chunk))
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
    for group in ranges(entries, gap=_GAP):
        start = group[0].offset
        moved = len(data) - start
        data += store.read(name, start=start, length=group[-1].stop - start)
        found += [replace(entry, offset=entry.offset + moved) for entry in group]
    return data, found
