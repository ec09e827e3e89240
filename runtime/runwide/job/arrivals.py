"""Results of a job while its shards run, each as soon as it is stored."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from runwide.errors import IntegrityError, ObjectNotFound, StoreUnavailable
from runwide.job import chained, code, environment, incomplete, manifest, model
from runwide.job.flow import ahead
from runwide.job.in_order import Turns
from runwide.job.reading import Loaded, failures_in, outcome, read_named, read_unnamed, threads_for
from runwide.log import Log
from runwide.store import signing
from runwide.store.base import open_inside
from runwide.store.records import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from runwide.job.model import Job, Shard
    from runwide.records import Failure, Outcome
    from runwide.store.base import Store
    from runwide.store.pack import Head


log = Log("job")

_NAME = re.compile(
    r"shards/(\d{4,9})/(?:(chunks/\d{6,9}\.pack)|events[-.\w]*\.jsonl|shard(?:-\d{4,9})?\.json)"
)
_PAGE = 1000  # objects in one answer to a listing
_THREADS = 8  # manifests that are read at once


def lists_all(objects: int, shards: int) -> bool:
    """Decide whether one listing of all shards takes no more requests than one listing of each open shard.

    Args:
        objects: Number of objects that the listing of all shards had last time.

    Example:
        >>> lists_all(2500, 100), lists_all(2500, 2)
        (True, False)
    """
    return 1 + objects // _PAGE <= shards


class _OpenShard:
    """A shard that may still store something."""

    __slots__ = ("before", "folder", "index", "items", "last", "left", "manifests")

    def __init__(self, job: Job, index: int) -> None:
        self.index = index
        self.folder = f"{model.shard_folder(index)}/"
        self.items = job.items_of(index)
        self.left = len(self.items)  # items whose ends were not yielded yet
        self.last = ""  # name of the last chunk that was read or ignored
        self.manifests: list[int] = []  # numbers, the last one first
        self.before: list[int] | None = None  # the manifests at the first look


class Arrivals:
    """The chunks of a job as its shards store them; each item's end is yielded once.

    Args:
        again: Whether shards may run failed items again. Then a failed item is yielded when its shard has a new manifest.
        on_log: Called with the name of each new part of the event logs.
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
        chained.check_source(job)
        self._yielded = bytearray(job.count)  # a byte for each item
        self._objects = 0
        self.done = 0
        self.failed = 0

    @property
    def unfinished(self) -> list[int]:
        """The shards that may still store something."""
        return list(self._open)

    def ended(self) -> Iterator[int]:
        """Yield the items that have ended so far."""
        return (item for item, yielded in enumerate(self._yielded) if yielded)

    def look(self, *, over: bool = False) -> Iterator[Loaded]:
        """Look at the store once, and yield the chunks that are new.

        If the store does not answer, this yields nothing and the next look asks again.

        Args:
            over: Whether no shard runs any more. Then each manifest is the last one, and a store that does not answer is an
                error.

        Raises:
            DigestMismatch: A manifest, or an object that it names, was changed.
            JobIncomplete: Results were removed.
            StoreError: This process may not read there; or there was no answer, and no shard runs any more.
        """
        try:
            yield from self._new_chunks(self._list())
            yield from self._close(
                [shard for shard in self._open.values() if self._is_over(shard, over=over)]
            )
        except (StoreUnavailable, IntegrityError) as error:
            if over or not (isinstance(error, StoreUnavailable) or arrived_damaged(error)):
                raise
            log.warning("store.silent", cause=str(error))

    def check(self) -> None:
        """Raise `JobIncomplete` if shards have not finished."""
        if self._open:
            raise incomplete.of_shards(self._job, list(self._open), "have not finished")

    def _list(self) -> list[tuple[_OpenShard, str, int]]:
        """List the new chunks of open shards, in the order in which they were written."""
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
        for index, numbers in model.manifests_in(names).items():
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

    def _new_chunks(self, found: Sequence[tuple[_OpenShard, str, int]]) -> Iterator[Loaded]:
        """Read chunks that no manifest names yet, so that only a signature can vouch for them."""
        if found and self._job.run_key is None:
            signing.believe("results", self._job.uri)
        reads = ahead(self._read, found, threads=threads_for([size for _, _, size in found]))
        for (shard, name, _), read in zip(found, reads, strict=True):
            loaded = None if read is None else self._count(shard, name, *read)
            del read
            shard.last = name
            if loaded is not None:
                yield loaded
            del loaded  # so that the memory is free while the next one is read

    def _read(self, found: tuple[_OpenShard, str, int]) -> tuple[bytearray, Head, dict[int, Failure]] | None:
        shard, name, size = found
        try:
            data, head = read_unnamed(self._store, self._job, name, size=size)
            return data, head, {failure.index: failure for failure in failures_in(head, shard.items)}
        except (IntegrityError, *ABSENT, KeyError, TypeError, ValueError, AttributeError) as error:
            if arrived_damaged(error):
                raise
            # the shard ignores this chunk too, and runs its items again
            log.warning("chunk.ignored", uri=self._store.child_uri(name), cause=str(error))
            return None

    def _count(
        self, shard: _OpenShard, name: str, data: bytearray, head: Head, failures: dict[int, Failure]
    ) -> Loaded | None:
        if any(self._yielded[entry.item] for entry in head.entries):
            log.warning("chunk.ignored", uri=self._store.child_uri(name), cause="its items have ended before")
            return None
        entries = [entry for entry in head.entries if not (self._again and entry.failed)]
        return self._note(shard, Loaded(data, entries, failures, self._store.child_uri(name)))

    def _note(self, shard: _OpenShard, loaded: Loaded) -> Loaded:
        for entry in loaded.entries:
            self._yielded[entry.item] = 1
        shard.left -= len(loaded.entries)
        self.done += len(loaded.entries)
        self.failed += sum(entry.item in loaded.failures for entry in loaded.entries)
        return loaded

    def _close(self, shards: Sequence[_OpenShard]) -> Iterator[Loaded]:
        """Close finished shards, and yield the chunks in their manifests that were not yielded yet."""

        def read(shard: _OpenShard) -> Shard:
            return manifest.read_shard(self._store, self._job, shard.index, numbers=shard.manifests)[0]

        wanted = [shard for shard in shards if shard.left]
        for shard, found in zip(wanted, ahead(read, wanted, threads=_THREADS), strict=True):
            yield from self._rest(shard, found)
        for shard in shards:
            del self._open[shard.index]

    def _rest(self, shard: _OpenShard, found: Shard) -> Iterator[Loaded]:
        failures = {failure.index: failure for failure in found.failures}
        ended_in = partial(self._job.ended_in, shard.index)
        chunks = [chunk for chunk in found.chunks if not all(self._yielded[item] for item in ended_in(chunk))]
        reads = ahead(
            partial(read_named, self._store, self._job),
            chunks,
            threads=threads_for([chunk.size for chunk in chunks]),
        )
        try:
            for chunk, (data, head) in zip(chunks, reads, strict=True):
                wanted = {item for item in ended_in(chunk) if not self._yielded[item]}
                entries = [entry for entry in head.entries if entry.item in wanted]
                yield self._note(shard, Loaded(data, entries, failures, self._store.child_uri(chunk.name)))
                del data
        except ObjectNotFound as error:
            raise incomplete.of_results(self._job, [found]) or error from error


_BUDGET = 256 << 20  # bytes of chunks with results of later items in memory; more are in files


class Stream:
    """The outcomes of a job's items as they are stored, each once; a context manager.

    Args:
        job: The job, with the run's key, if it has one.
        again: Whether shards may run failed items again. Then a failed item is yielded when its shard has finished.
        budget: Bytes of chunks with results of later items in memory; more are in temporary files.

    Example:
        >>> from runwide.job.manifest import read_job
        >>> job = runwide.scatter(abs, [-1, -2, -3], store="memory://doc-stream", shards=2)
        >>> with Stream(read_job(job)) as stream:
        ...     nothing = list(stream.look())
        ...     references = [runwide.shard(job, index, workers=1) for index in range(2)]
        ...     sorted(one.value for one in stream.look())
        [1, 2, 3]
    """

    def __init__(
        self,
        job: Job,
        *,
        ordered: bool = False,
        again: bool = False,
        on_log: Callable[[str], None] | None = None,
        budget: int = _BUDGET,
    ) -> None:
        environment.warn(job.environment, uri=job.uri)
        self.job = job
        self.store = open_inside(job.uri)
        self.arrivals = Arrivals(self.store, job, again=again, on_log=on_log)
        self._late = code.Late(self.store, job)
        self._turns = Turns(budget) if ordered else None

    def look(self, *, over: bool = False) -> Iterator[Outcome]:
        """Look at the store once, and yield the outcomes that are new; see `Arrivals.look`."""
        for loaded in self.arrivals.look(over=over):
            if self._turns is None:
                yield from self._outcomes(loaded)
            else:
                self._turns.put(loaded)
                del loaded
                yield from self._due(self._turns)

    def _outcomes(self, loaded: Loaded) -> Iterator[Outcome]:
        view = memoryview(loaded.data)
        for entry in loaded.entries:
            frame, failure = view[entry.offset : entry.stop], loaded.failures.get(entry.item)
            yield outcome(frame, entry.item, self.job, failure, loaded.uri, late=self._late)
            del frame

    def _due(self, turns: Turns) -> Iterator[Outcome]:
        for one in turns.due():
            yield outcome(one.frame, one.item, self.job, one.failure, one.uri, late=self._late)
            del one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._turns is not None:
            self._turns.close()
        self.store.close()
