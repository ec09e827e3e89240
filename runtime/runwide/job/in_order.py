"""The results of a job in input order, one after another, in bounded memory."""

from __future__ import annotations

import heapq
import tempfile
from array import array
from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runwide.errors import FrameCorrupt, ScratchError
from runwide.host import space
from runwide.job.chunk_reads import check_count, read_named
from runwide.job.flow import ahead
from runwide.spill import pack
from runwide.spill.verified import SLACK, checked_read

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from runwide.job.manifest import Chunk, Job, Shard
    from runwide.spill.pack import Entry
    from runwide.spill.store import Store

_SMALL = 1 << 20  # bytes of a chunk that is read whole in any case
_HEAD = 64 << 10  # bytes of a chunk that are read to know how long its index is
_GAP = 64 << 10  # bytes between two values that are read with one request
_THREADS = 4  # chunks on the way at once
_MEMORY = (
    64 << 20
)  # bytes of chunks that are held in memory, with results that come later; more are held in files


@dataclass(frozen=True, slots=True)
class Stored:
    """One result as it lies in the store, verified.

    Args:
        item: Its item.
        digest: SHA-256 of its frame, in hex.
        frame: Its frame, in memory of its own.
        chunk: Name of its chunk in the job.
    """

    item: int
    digest: str
    frame: bytearray
    chunk: str


def stored(
    store: Store,
    job: Job,
    shards: Iterable[Shard],
    *,
    only: Iterable[int] | None = None,
    whole: bool = True,
    memory: int = _MEMORY,
) -> Generator[Stored, None, None]:
    """Yield the results of shards in input order, each chunk read once.

    A chunk is read when its first result is due, and held until its last one was taken: in memory as far as that is
    allowed, and beyond in a file of this machine.

    Args:
        store: The job's folder.
        job: The job.
        shards: Its shards, or some of them.
        only: The items whose results are wanted; None for all.
        whole: Whether each chunk is read and verified whole; else only what is wanted is read of those of which that is the
            smaller part, and is to be verified where it is unpickled.
        memory: How many bytes of chunks are held in memory.

    Raises:
        IntegrityError: A chunk was changed, or has other results than its manifest says.
        ObjectNotFound: A chunk was removed.
        ScratchError: Files cannot be written here.
    """
    places = None if only is None else job.layout.positions(only)
    wanted = sorted(
        one
        for shard in shards
        for one in _wanted(job, shard, None if places is None else places.get(shard.index, []))
    )

    def read(one: _Wanted) -> tuple[bytearray, list[Entry]]:
        return _read(store, job, one, whole=whole)

    open_ones: list[tuple[int, int, _Open]] = []
    with ExitStack() as ending:
        room = _Room(memory, ending)
        reading = ahead(read, wanted, threads=_THREADS)
        for number, (one, (data, entries)) in enumerate(zip(wanted, reading, strict=True)):
            yield from _taken(open_ones, one.first)
            heapq.heappush(open_ones, (one.first, number, _Open(one.chunk.name, data, entries, room)))
        yield from _taken(open_ones, job.count)


class _Wanted(NamedTuple):
    """A chunk, and the places of the items of its shard whose results are wanted of it."""

    first: int
    name: str
    shard: int
    chunk: Chunk
    places: Sequence[int] | None


def _wanted(job: Job, shard: Shard, places: Sequence[int] | None) -> Iterator[_Wanted]:
    """The chunks of a shard with results that are wanted, which are at these places; None for all."""
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


def _read(store: Store, job: Job, one: _Wanted, *, whole: bool) -> tuple[bytearray, list[Entry]]:
    """Read what is wanted of a chunk, and its entries in input order."""
    chunk, places = one.chunk, one.places
    part = not whole and chunk.size > _SMALL and places is not None and 2 * len(places) < chunk.count
    if part:
        head = _head(store, job, chunk)
        check_count(head, chunk, store.child_uri(chunk.name))
    else:
        data, head = read_named(store, job, chunk)
    if places is None:
        wanted = set(job.ended_in(one.shard, chunk))  # an item that was run again counts where it ended last
    else:
        items = job.items_of(one.shard)
        wanted = {items[place] for place in places}
    entries = [entry for entry in head.entries if entry.item in wanted]
    if len(entries) != len(wanted) or {entry.item for entry in entries} != wanted:
        uri = store.child_uri(chunk.name)
        raise FrameCorrupt("the chunk has other results than its manifest says", uri=uri)
    if part:
        data, entries = _parts(store, chunk.name, entries)
    return data, sorted(entries, key=lambda entry: entry.item)


def _head(store: Store, job: Job, chunk: Chunk) -> pack.Head:
    """Read the index of a chunk, verified."""
    uri = store.child_uri(chunk.name)
    data = store.read(chunk.name, length=min(_HEAD, chunk.size))
    size = min(pack.head_size(data, uri=uri), chunk.size)

    def check(data: bytearray) -> pack.Head:
        return pack.read_head(data, job=job.digest, slot=chunk.name, digest=chunk.digest, uri=uri)

    return checked_read(store, chunk.name, check, length=max(size, pack.SMALLEST), most=chunk.size + SLACK)


def _parts(store: Store, name: str, entries: list[Entry]) -> tuple[bytearray, list[Entry]]:
    """Read some values of a chunk by few ranges: what lies between two that are near each other is read as well."""
    data = bytearray()
    found: list[Entry] = []
    for group in _near(entries):
        start = group[0].offset
        moved = len(data) - start
        data += store.read(name, start=start, length=group[-1].stop - start)
        found += [replace(entry, offset=entry.offset + moved) for entry in group]
    return data, found


def _near(entries: list[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    for entry in entries:
        if group and entry.offset - group[-1].stop > _GAP:
            yield group
            group = []
        group.append(entry)
    yield group


def _taken(open_ones: list[tuple[int, int, _Open]], stop: int) -> Iterator[Stored]:
    """Take results in order, up to an item."""
    while open_ones and open_ones[0][0] < stop:
        _, number, one = open_ones[0]
        yield one.take()
        if one.is_empty:
            heapq.heappop(open_ones)
            one.close()
        else:
            heapq.heapreplace(open_ones, (one.item, number, one))


class _Room:
    """Memory, and a folder for what does not fit there.

    Args:
        memory: How many bytes.
        ending: Removes the folder.
    """

    def __init__(self, memory: int, ending: ExitStack) -> None:
        self.left = memory
        self._ending = ending
        self._folder: Path | None = None
        self._next = 0

    def written(self, data: bytearray) -> Path:
        """Write bytes to a file of their own."""
        root = space.scratch()
        try:
            if self._folder is None:
                made = tempfile.TemporaryDirectory(prefix="runwide-results-", dir=root)
                self._folder = Path(self._ending.enter_context(made))
            path = self._folder / str(self._next)
            self._next += 1
            path.write_bytes(data)
        except OSError as error:
            raise ScratchError(
                f"results that come later cannot be held here ({error.strerror or error})",
                uri=root,
                hint="set RUNWIDE_SCRATCH to a directory with room for them",
            ) from error
        return path


class _Open:
    """A chunk of which results are still to be taken; its index takes 56 bytes a result.

    Args:
        name: Its name in the job.
        data: The whole chunk.
        entries: Its results, in input order.
        room: Where it is held.
    """

    def __init__(self, name: str, data: bytearray, entries: list[Entry], room: _Room) -> None:
        self._name = name
        self._items = array("Q", (entry.item for entry in entries))
        self._offsets = array("Q", (entry.offset for entry in entries))
        self._lengths = array("Q", (entry.length for entry in entries))
        self._digests = b"".join(bytes.fromhex(entry.digest) for entry in entries)
        self._next = 0
        self._room = room
        self._size = len(data)
        self._data: bytearray | None = None
        self._path: Path | None = None
        if self._size <= room.left:
            room.left -= self._size
            self._data = data
        else:
            self._path = room.written(data)

    @property
    def item(self) -> int:
        """The next item."""
        return self._items[self._next]

    @property
    def is_empty(self) -> bool:
        """Whether all were taken."""
        return self._next >= len(self._items)

    def take(self) -> Stored:
        """Take the next result."""
        place = self._next
        self._next += 1
        offset, length = self._offsets[place], self._lengths[place]
        here = self._data
        frame = self._read(offset, length) if here is None else here[offset : offset + length]
        return Stored(
            self._items[place], self._digests[32 * place : 32 * place + 32].hex(), frame, self._name
        )

    def _read(self, offset: int, length: int) -> bytearray:
        frame = bytearray(length)
        path = self._path or Path()
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                view, done = memoryview(frame), 0
                while done < length and (count := file.readinto(view[done:])):
                    done += count
        except OSError as error:
            raise ScratchError(
                f"results that were held here cannot be read ({error.strerror or error})", uri=str(path)
            ) from error
        return frame

    def close(self) -> None:
        """Give its room back."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        elif self._data is not None:
            self._room.left += self._size
            self._data = None
