"""New chunks of a job whose shards run, found by few listings, read ahead and verified."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runwide.errors import IntegrityError, ObjectNotFound, StoreUnavailable
from runwide.job import chained, incomplete, manifest
from runwide.job.chunk_reads import promised_size, read_chunk, read_named
from runwide.job.chunks import LARGE
from runwide.job.failed import failure_from_json
from runwide.job.flow import ahead
from runwide.log import Log
from runwide.spill import signing
from runwide.spill.verified import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from runwide.job.manifest import Chunk, Job, Shard
    from runwide.records import Failure
    from runwide.spill.pack import Entry, Head
    from runwide.spill.store import Store

log = Log("job")

_NAME = re.compile(
    r"shards/(\d{4,9})/(?:(chunks/\d{6,9}\.pack)|events[-.\w]*\.jsonl|shard(?:-\d{4,9})?\.json)"
)
_PAGE = 1000  # objects in an answer to a listing
_THREADS = 8
_AHEAD_BYTES = 64 << 20  # of chunks that are read at once


@dataclass(frozen=True, slots=True)
class Loaded:
    """A chunk that was verified, and the ends in it that count and were not given before.

    Args:
        data: Its bytes.
        entries: Where the ends lie.
        failures: The failed items among them.
        uri: Where it lies.
    """

    data: bytearray
    entries: Sequence[Entry]
    failures: Mapping[int, Failure]
    uri: str


def lists_all(objects: int, shards: int) -> bool:
    """Decide whether one listing of all shards takes no more requests than one of each open shard.

    Args:
        objects: How many objects the listing would have, as far as is known.
        shards: How many shards are open.

    Example:
        >>> lists_all(2500, 100), lists_all(2500, 2)
        (True, False)
    """
    return 1 + objects // _PAGE <= shards


def threads_for(sizes: Collection[int]) -> int:
    """Return how many chunks are read at once, so that a bounded amount is on the way.

    Args:
        sizes: Their sizes in bytes.

    Example:
        >>> threads_for([1000]), threads_for([32 << 20, 1000]), threads_for([1 << 30])
        (8, 2, 1)
    """
    return max(1, min(_THREADS, _AHEAD_BYTES // max([1, *sizes])))


class _OpenShard:
    """A shard that may still store something."""

    __slots__ = ("before", "folder", "index", "items", "last", "left", "manifests")

    def __init__(self, job: Job, index: int) -> None:
        self.index = index
        self.folder = f"{manifest.shard_folder(index)}/"
        self.items = job.items_of(index)
        self.left = len(self.items)  # whose ends were not given
        self.last = ""  # name of the last chunk that was taken or passed over
        self.manifests: list[int] = []  # the last one first
        self.before: list[int] | None = None  # those that were there at the first look


class Arrivals:
    """The chunks of a job as its shards store them; each item's end is given once.

    Args:
        store: The job's folder.
        job: The job.
        again: Whether shards may run failed items again: then a failed one is given once its shard has a new manifest.
        on_log: Called with the name of each part of the event logs that is new.

    Attributes:
        done: How many items have ended.
        failed: How many of them have failed.
    """

    def __init__(
        self, store: Store, job: Job, *, again: bool = False, on_log: Callable[[str], None] | None = None
    ) -> None:
        self._store = store
        self._job = job
        self._again = again
        self._on_log = on_log
        self._logs: set[str] = set()
        self._open = {index: _OpenShard(job, index) for index in range(job.shards)}
        chained.check_count(job)
        self._given = bytearray(job.count)  # a byte an item
        self._objects = 0
        self.done = 0
        self.failed = 0

    @property
    def unfinished(self) -> list[int]:
        """The shards that may still store something."""
        return list(self._open)

    def ended(self) -> Iterator[int]:
        """The items that have ended, as far as was seen."""
        return (item for item, given in enumerate(self._given) if given)

    def look(self, *, over: bool = False) -> Iterator[Loaded]:
        """Look once; a store that does not answer now is asked the next time, unless there is none.

        Args:
            over: Whether no shard runs any more, so that each manifest is the last one.

        Raises:
            DigestMismatch: A manifest or what it names was changed.
            JobIncomplete: Results were removed.
            StoreError: This process may not read there; or there was no answer, and no shard runs any more.
        """
        try:
            yield from self._taken(self._listed())
            yield from self._ended(
                [shard for shard in self._open.values() if self._is_over(shard, over=over)]
            )
        except (StoreUnavailable, IntegrityError) as error:
            if over or not (isinstance(error, StoreUnavailable) or arrived_damaged(error)):
                raise
            log.warning("store.silent", cause=str(error))

    def check(self) -> None:
        """Raise the error of shards that have not finished, if there are some.

        Raises:
            JobIncomplete: There are.
        """
        if self._open:
            raise incomplete.of_shards(self._job, list(self._open), "have not finished")

    def _listed(self) -> list[tuple[_OpenShard, str, int]]:
        """The chunks of open shards that are new, in the order of their writing."""
        if not self._open:
            return []
        if lists_all(self._objects, len(self._open)):
            start = min(shard.folder for shard in self._open.values())
            names = {one.name: one.size for one in self._store.list("shards/", start=start)}
            self._objects = len(names)
        else:
            names = {}
            for shard in self._open.values():
                names.update((one.name, one.size) for one in self._store.list(shard.folder, start=shard.last))
        found = [chunk for name, size in names.items() for chunk in self._new(name, size)]
        for index, numbers in manifest.manifests_in(names).items():
            if index in self._open:
                self._open[index].manifests = numbers
        for shard in self._open.values():
            shard.before = shard.manifests if shard.before is None else shard.before
        return found

    def _new(self, name: str, size: int) -> Iterator[tuple[_OpenShard, str, int]]:
        match = _NAME.fullmatch(name)
        shard = self._open.get(int(match[1])) if match else None
        if match is None or shard is None or not name.startswith(shard.folder):
            return
        if match[2] and name > shard.last:
            self._objects += 1
            yield shard, name, size
        elif self._on_log is not None and name.endswith(".jsonl") and name not in self._logs:
            self._logs.add(name)
            self._on_log(name)

    def _is_over(self, shard: _OpenShard, *, over: bool) -> bool:
        if over:
            return bool(shard.manifests) or not shard.left
        newer = bool(shard.manifests) and not (self._again and shard.manifests == shard.before)
        return newer or (not shard.left and self._on_log is None)

    def _taken(self, found: Sequence[tuple[_OpenShard, str, int]]) -> Iterator[Loaded]:
        """Read chunks that no manifest names yet: the key vouches for them, or nobody."""
        if found and self._job.run_key is None:
            signing.believe("results", self._job.uri)
        reads = ahead(self._unnamed, found, threads=threads_for([size for _, _, size in found]))
        for (shard, name, _), read in zip(found, reads, strict=True):
            loaded = None if read is None else self._counted(shard, name, *read)
            del read
            shard.last = name
            if loaded is not None:
                yield loaded
            del loaded  # while the next is waited for, nobody keeps it here

    def _unnamed(
        self, found: tuple[_OpenShard, str, int]
    ) -> tuple[bytearray, Head, dict[int, Failure]] | None:
        shard, name, size = found
        try:
            if size > LARGE:
                size = promised_size(self._store, self._job, name)
            data, head = read_chunk(self._store, self._job, name, size=size)
            return data, head, _failures(shard, head)
        except (IntegrityError, *ABSENT, KeyError, TypeError, ValueError, AttributeError) as error:
            if arrived_damaged(error):
                raise
            # the shard itself passes over it, and runs its items again
            log.warning("chunk.ignored", uri=self._store.child_uri(name), cause=str(error))
            return None

    def _counted(
        self, shard: _OpenShard, name: str, data: bytearray, head: Head, failures: dict[int, Failure]
    ) -> Loaded | None:
        if any(self._given[entry.item] for entry in head.entries):
            log.warning("chunk.ignored", uri=self._store.child_uri(name), cause="its items have ended before")
            return None
        entries = [entry for entry in head.entries if not (self._again and entry.failed)]
        return self._give(shard, Loaded(data, entries, failures, self._store.child_uri(name)))

    def _give(self, shard: _OpenShard, loaded: Loaded) -> Loaded:
        for entry in loaded.entries:
            self._given[entry.item] = 1
        shard.left -= len(loaded.entries)
        self.done += len(loaded.entries)
        self.failed += sum(entry.item in loaded.failures for entry in loaded.entries)
        return loaded

    def _ended(self, shards: Sequence[_OpenShard]) -> Iterator[Loaded]:
        """Close shards, with what their manifests name that was not given."""
        wanted = [shard for shard in shards if shard.left]
        for shard, found in zip(wanted, ahead(self._manifest, wanted, threads=_THREADS), strict=True):
            yield from self._named(shard, found)
        for shard in shards:
            del self._open[shard.index]

    def _manifest(self, shard: _OpenShard) -> Shard:
        return manifest.read_shard(self._store, self._job, shard.index, numbers=shard.manifests)[0]

    def _named(self, shard: _OpenShard, found: Shard) -> Iterator[Loaded]:
        noted = {failure.index: failure for failure in found.failures}
        ended_in = partial(self._job.ended_in, shard.index)
        chunks = [chunk for chunk in found.chunks if not all(map(self._is_given, ended_in(chunk)))]
        reads = ahead(self._promised, chunks, threads=threads_for([chunk.size for chunk in chunks]))
        try:
            for chunk, (data, head) in zip(chunks, reads, strict=True):
                wanted = {item for item in ended_in(chunk) if not self._given[item]}
                entries = [entry for entry in head.entries if entry.item in wanted]
                yield self._give(shard, Loaded(data, entries, noted, self._store.child_uri(chunk.name)))
                del data
        except ObjectNotFound as error:
            raise incomplete.of_results(self._job, [found]) or error from error

    def _promised(self, chunk: Chunk) -> tuple[bytearray, Head]:
        return read_named(self._store, self._job, chunk)

    def _is_given(self, item: int) -> bool:
        return bool(self._given[item])


def _failures(shard: _OpenShard, head: Head) -> dict[int, Failure]:
    """The failures that a chunk notes, once its items are ones of its shard."""
    items = {entry.item for entry in head.entries}
    if len(items) != len(head.entries) or not all(item in shard.items for item in items):
        raise ValueError("it has items that are not its own")
    failures = {one.index: one for one in map(failure_from_json, head.note["failures"])}
    if failures.keys() != {entry.item for entry in head.entries if entry.failed}:
        raise ValueError("its failures do not match its values")
    return failures
