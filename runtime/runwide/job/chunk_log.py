"""The log of a shard's results: chunks that several writers may append to at once."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.errors import IntegrityError, ObjectExists, RunwideError
from runwide.job import manifest, model, plan
from runwide.job.environment import current
from runwide.job.fields import failure_to_json
from runwide.job.flow import ahead
from runwide.job.reading import failures_in, read_unnamed, threads_for
from runwide.log import Log
from runwide.store import pack, signing
from runwide.store.records import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from runwide.job.model import Job
    from runwide.records import Failure
    from runwide.store.base import Store

log = Log("job")

_NAME = re.compile(r"chunks/(\d{6,9})\.pack")


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one item, which is to be written into a chunk.

    Args:
        member: The frame of its result, or of its exception.
        failure: The failure, if the item failed.
    """

    member: pack.Member
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk that is in the store and was verified.

    Args:
        name: Its name in the job.
        size: Its size in bytes.
        digest: SHA-256 of its head, in hex.
    """

    number: int
    name: str
    size: int
    digest: str
    failures: tuple[Failure, ...]


class ChunkLog:
    """The chunks of one shard.

    Each writer creates the chunk with the next number. If another writer has created it before, this one adopts that
    chunk, drops the ends that are in it, and writes the others under the next number. So the chunks of a shard have each
    item at most once, and two copies of a shard, or a killed one and its successor, agree on them without messages. Only
    a failed item may have another end, in a later chunk, which then counts. A chunk that fails its checks stays in the
    store and counts as absent: its items are run again.

    Attributes:
        stored: The chunks that were verified.
        manifests: The numbers of the shard's manifests when its chunks were last listed, the last one first.
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
        """The items that need not be run; each access makes a new set."""
        return self._where.keys() - self._again

    def resume(self) -> None:
        """Add the chunks that are new in the store, and list the manifests."""
        prefix = f"{model.shard_folder(self._index)}/"
        names = {info.name: info.size for info in self._store.list(prefix)}
        self.manifests = model.manifests_in(names).get(self._index, [])
        numbers = {name: _NAME.fullmatch(name.removeprefix(prefix)) for name in names}
        found = sorted(
            (int(number[1]), names[name])
            for name, number in numbers.items()
            if number and int(number[1]) not in self._taken
        )
        threads = threads_for([size for _, size in found])
        for (number, _), read in zip(found, ahead(self._read, found, threads=threads), strict=True):
            self._take(number, read)
        self._taken |= self._named()
        if self.stored and self._job.run_key is None:
            signing.believe("results", self._store.uri)

    def _named(self) -> set[int]:
        """Return the chunks that the last manifest names: a removed one must not be written again with other bytes."""
        if not self.manifests:
            return set()
        last = manifest.trusted_shard(self._store, self._job, self._index, self.manifests)
        found = (_NAME.search(chunk.name) for chunk in (last.shard.chunks if last else ()))
        return {int(name[1]) for name in found if name}

    def run_failed_again(self) -> None:
        """Treat the items that have failed so far as not finished."""
        self._again = set(self._failed)

    def append(self, ends: list[Ended]) -> None:
        """Write ends as chunks, without those that another writer has stored meanwhile."""
        while ends := self._missing(ends):
            number = self._free_number()
            packed = self._packed(number, ends)
            try:
                self._store.create(self._name(number), packed.parts)
            except ObjectExists:
                log.info("chunk.adopted", job=self._job.id, shard=self._index, chunk=number)
                self._take(number, self._read((number, None)))
            else:
                self._record(number, packed.head, packed.size, [end.failure for end in ends if end.failure])

    def _missing(self, ends: list[Ended]) -> list[Ended]:
        finished = self.finished
        return [end for end in ends if end.member.item not in finished]

    def manifest(self) -> model.Shard:
        """Return the shard's manifest, which depends on the chunks alone."""
        positions: dict[int, list[int]] = {one.number: [] for one in self.stored}
        position_of = self._job.layout.position_of
        for item, number in self._where.items():
            positions[number].append(position_of(item))
        chunks, failures = [], []
        for one in sorted(self.stored, key=lambda stored: stored.number):
            spans = tuple((start, stop) for start, stop in plan.spans(positions[one.number]))
            chunks.append(model.Chunk(one.name, one.size, one.digest, spans))
            failures += [failure for failure in one.failures if self._where[failure.index] == one.number]
        return model.Shard(
            self._index, tuple(chunks), tuple(sorted(failures, key=lambda failure: failure.index))
        )

    def _free_number(self) -> int:
        while self._next in self._taken:
            self._next += 1
        return self._next

    def _name(self, number: int) -> str:
        return f"{model.shard_folder(self._index)}/chunks/{number:06d}.pack"

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

    def _read(self, found: tuple[int, int | None]) -> tuple[pack.Head, int] | Exception:
        """Read and verify a chunk; return its head and its size, or the error."""
        number, size = found
        try:
            data, head = read_unnamed(self._store, self._job, self._name(number), size=size)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            return error
        return head, len(data)

    def _take(self, number: int, read: tuple[pack.Head, int] | Exception) -> None:
        """Add a chunk that was read, if its items belong to this shard and may have another end."""
        self._taken.add(number)
        try:
            if isinstance(read, Exception):
                raise read
            head, size = read
            failures = failures_in(head, self._items, ended=self._where.keys() - self._failed)
        except (IntegrityError, *ABSENT, KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("chunk.ignored", uri=self._store.child_uri(self._name(number)), cause=str(error))
            return
        self._record(number, head, size, failures)


def located(failure: Failure, index: int) -> Failure:
    """Return a failure with the item's index in the whole map, which is also set on its exception."""
    # other exceptions may use an attribute of that name for something else
    if isinstance(failure.exception, RunwideError):
        failure.exception.item = index
    return failure.but(index=index)
