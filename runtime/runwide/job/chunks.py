"""A shard's results as a log of chunks that several writers may append to at once."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.errors import IntegrityError, ObjectExists, RunwideError
from runwide.job import manifest, plan
from runwide.job.chunk_reads import promised_size, read_chunk
from runwide.job.environment import current
from runwide.job.failed import failure_from_json, failure_to_json
from runwide.job.flow import ahead
from runwide.log import Log
from runwide.spill import pack, signing
from runwide.spill.verified import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from runwide.job.manifest import Job
    from runwide.records import Failure
    from runwide.spill.store import Store

log = Log("job")

_NAME = re.compile(r"chunks/(\d{6,9})\.pack")
LARGE = 4 * plan.CHUNK_BYTES  # above this, the head of a chunk is looked at before the chunk is read
_READERS, _READ_BYTES = (
    8,
    64 << 20,
)  # chunks that are read at once as a shard goes on: many where they are small
_WAITING_BYTES = 2 * plan.CHUNK_BYTES  # above this, whoever has a result waits until some are written


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one item, on its way into a chunk.

    Args:
        member: Its result's frame, or that of the exception.
        failure: Set when it failed for good.
    """

    member: pack.Member
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk that is in the store and whose bytes were checked.

    Args:
        number: Its place in the log.
        name: Its name in the job.
        size: Its size in bytes.
        digest: SHA-256 of its head, in hex.
        failures: The failed items in it.
    """

    number: int
    name: str
    size: int
    digest: str
    failures: tuple[Failure, ...]


class ChunkLog:
    """The chunks of one shard.

    Each writer writes the next number, once; where somebody was faster it takes over what they wrote and goes on with
    the rest under the next number. So the chunks of a shard have every item at most once, and two copies of a shard,
    or a dead one and its successor, agree on them without talking. Only the end of a failed item may be followed by
    another one, in a later chunk, which then counts. A chunk that fails its checks stays where it is, counts as absent,
    and its items are computed again.

    Args:
        store: The job's folder.
        job: The job.
        index: The shard.

    Attributes:
        stored: The chunks that were checked.
        manifests: The numbers of the manifests that the shard had when its chunks were looked for, the last one first.
    """

    def __init__(self, store: Store, job: Job, index: int) -> None:
        self._store = store
        self._job = job
        self._index = index
        self._items = job.items_of(index)
        self._next = 0
        self._taken: set[int] = set()
        self._where: dict[int, int] = {}  # item -> number of the chunk with its end
        self._failed: set[int] = set()
        self._again: set[int] = set()
        self.stored: list[Stored] = []
        self.manifests: list[int] = []

    @property
    def uri(self) -> str:
        """URI of the job's folder."""
        return self._store.uri

    @property
    def finished(self) -> set[int]:
        """The items that need not be run."""
        return self._where.keys() - self._again

    def resume(self) -> None:
        """Take over the chunks that are in the store and not known yet, and count the manifests."""
        prefix = f"{manifest.shard_folder(self._index)}/"
        names = {info.name: info.size for info in self._store.list(prefix)}
        self.manifests = manifest.manifests_in(names).get(self._index, [])
        numbers = {name: _NAME.fullmatch(name.removeprefix(prefix)) for name in names}
        found = sorted(
            (int(number[1]), names[name])
            for name, number in numbers.items()
            if number and int(number[1]) not in self._taken
        )
        threads = max(1, min(_READERS, _READ_BYTES // max((1, *(size for _, size in found)))))
        for (number, _), read in zip(found, ahead(self._read, found, threads=threads), strict=True):
            self._take(number, read)
        self._taken |= self._named()
        if self.stored and self._job.run_key is None:
            signing.believe("results", self._store.uri)

    def _named(self) -> set[int]:
        """The chunks that the last manifest names: one that was removed must not come back with other bytes."""
        if not self.manifests:
            return set()
        try:
            last, _, _ = manifest.last_shard(self._store, self._job, self._index, self.manifests)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            return set()
        found = (_NAME.search(chunk.name) for chunk in last.chunks)
        return {int(name[1]) for name in found if name}

    def run_failed_again(self) -> None:
        """Count the items that have failed so far as not finished."""
        self._again = set(self._failed)

    def append(self, ends: list[Ended]) -> None:
        """Write ends as chunks; those that another writer has stored in the meantime are dropped."""
        while ends := self._missing(ends):
            number = self._free_number()
            packed = self._packed(number, ends)
            try:
                self._store.create(self._name(number), packed.parts)
            except ObjectExists:
                log.info("chunk.adopted", job=self._job.id, shard=self._index, chunk=number)
                self._adopt(number)
            else:
                self._record(number, packed.head, packed.size, [end.failure for end in ends if end.failure])

    def _missing(self, ends: list[Ended]) -> list[Ended]:
        finished = self.finished  # made anew by each look
        return [end for end in ends if end.member.item not in finished]

    def manifest(self) -> manifest.Shard:
        """What the shard's manifest should say, a function of the chunks alone."""
        positions: dict[int, list[int]] = {one.number: [] for one in self.stored}
        position_of = self._job.layout.position_of
        for item, number in self._where.items():
            positions[number].append(position_of(item))
        chunks, failures = [], []
        for one in sorted(self.stored, key=lambda stored: stored.number):
            spans = tuple((start, stop) for start, stop in plan.spans(positions[one.number]))
            chunks.append(manifest.Chunk(one.name, one.size, one.digest, spans))
            failures += [failure for failure in one.failures if self._where[failure.index] == one.number]
        return manifest.Shard(
            self._index, tuple(chunks), tuple(sorted(failures, key=lambda failure: failure.index))
        )

    def _free_number(self) -> int:
        while self._next in self._taken:
            self._next += 1
        return self._next

    def _name(self, number: int) -> str:
        return f"{manifest.shard_folder(self._index)}/chunks/{number:06d}.pack"

    def _packed(self, number: int, ends: list[Ended]) -> pack.Packed:
        failures = [failure_to_json(end.failure) for end in ends if end.failure]
        note = {"environment": current(), "failures": failures, "time": round(time.time(), 3)}
        members = [end.member for end in ends]
        return pack.build(
            members, job=self._job.digest, slot=self._name(number), note=note, run_key=self._job.run_key
        )

    def _record(self, number: int, head: pack.Head, size: int, failures: list[Failure]) -> None:
        items = {entry.item for entry in head.entries}
        self._taken.add(number)
        self._where.update(dict.fromkeys(items, number))
        self._failed = (self._failed - items) | {failure.index for failure in failures}
        self._again -= items
        self.stored.append(Stored(number, self._name(number), size, head.digest, tuple(failures)))

    def _adopt(self, number: int) -> None:
        """Take over a chunk that is there, if it is whole and what it claims to be."""
        self._take(number, self._read((number, None)))

    def _read(self, found: tuple[int, int | None]) -> tuple[pack.Head, int] | Exception:
        """Read and check a chunk; return its index and its size, or why it is none."""
        number, size = found
        name = self._name(number)
        try:
            if size is None or size > LARGE:
                size = promised_size(self._store, self._job, name)
            data, head = read_chunk(self._store, self._job, name, size=size)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            return error
        return head, len(data)

    def _take(self, number: int, read: tuple[pack.Head, int] | Exception) -> None:
        """Count a chunk that was read, if its items are ones of this shard that may end there."""
        self._taken.add(number)
        try:
            if isinstance(read, Exception):
                raise read
            head, size = read
            failures = self._failures_of(head)
        except (IntegrityError, *ABSENT, KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("chunk.ignored", uri=self._store.child_uri(self._name(number)), cause=str(error))
            return
        self._record(number, head, size, failures)

    def _failures_of(self, head: pack.Head) -> list[Failure]:
        """The failures that a chunk notes, once its items are ones of this shard that may end there."""
        items = [entry.item for entry in head.entries]
        succeeded = self._where.keys() - self._failed
        if (
            len(set(items)) != len(items)
            or not all(item in self._items for item in items)
            or not succeeded.isdisjoint(items)
        ):
            raise ValueError("it has items that are not its own")
        failures = [failure_from_json(row) for row in head.note["failures"]]
        failed = [entry.item for entry in head.entries if entry.failed]
        if sorted(failure.index for failure in failures) != sorted(failed):
            raise ValueError("its failures do not match its values")
        return failures


class Writer:
    """Writes finished results behind the workers' backs, in chunks, by size and by age.

    Leaving it writes what is waiting, also when the shard is interrupted: what was finished is not lost.

    Args:
        chunks: Where to.
        stored: Called, on another thread, when a batch of results was written, with the number of failures in it.
    """

    def __init__(self, chunks: ChunkLog, *, stored: Callable[[int], None] | None = None) -> None:
        self._chunks = chunks
        self._stored = stored
        self._waiting: list[Ended] = []
        self._bytes = 0
        self._oldest = 0.0
        self._most_seconds = plan.flush_after(chunks.uri)
        self._closing = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, end: Ended) -> None:
        """Hand over the end of an item; waits while too much is waiting, and raises what writing has raised."""
        if self._thread is None:  # with the first end, since starting one takes time from the first task
            thread = threading.Thread(target=self._run, name="runwide-writer", daemon=True)
            thread.start()
            self._thread = thread
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < _WAITING_BYTES or self._error is not None)
            self._raise()
            if not self._waiting:
                self._oldest = time.monotonic()
            self._waiting.append(end)
            self._bytes += end.member.value.size
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while batch := self._batch():
                self._chunks.append(batch)
                if self._stored is not None:
                    self._stored(sum(end.failure is not None for end in batch))
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _batch(self) -> list[Ended]:
        """What should be written now, as soon as something should; nothing at the end."""
        with self._changed:
            while not self._closing and self._bytes < plan.CHUNK_BYTES:
                patience = self._patience()
                if patience is not None and patience <= 0:
                    break
                self._changed.wait(patience)
            batch = self._waiting[: plan.chunk_of([end.member.value.size for end in self._waiting])]
            self._waiting = self._waiting[len(batch) :]
            self._bytes -= sum(end.member.value.size for end in batch)
            self._changed.notify_all()
            return batch

    def _patience(self) -> float | None:
        if not self._waiting:
            return None
        now = time.monotonic()
        return self._oldest + self._most_seconds - now

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self._raise()
        elif self._error is not None:
            log.error("results.lost", cause=str(self._error), items=len(self._waiting))


def located(failure: Failure, index: int) -> Failure:
    """A failure whose index is that of the item in the whole map, in the record and in its exception."""
    # errors of users may have an attribute of that name for something else
    if isinstance(failure.exception, RunwideError):
        failure.exception.item = index
    return failure.but(index=index)
