"""Read a job's items and results from the store, and verify them."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runwide.causes import Cause
from runwide.errors import DigestMismatch, FrameCorrupt, IntegrityError, RemoteTraceback
from runwide.job import model, plan
from runwide.job.fields import failure_from_json
from runwide.job.flow import ahead
from runwide.job.reference import quoted
from runwide.job.task import Part
from runwide.records import Failure, FailureKind, Outcome
from runwide.store import pack
from runwide.store.codec import decode_verified
from runwide.store.records import SLACK, checked_read

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Generator, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from runwide.job import code
    from runwide.job.model import Chunk, Job, Pack
    from runwide.job.task import Packet
    from runwide.store.base import Store
    from runwide.store.buffers import Buffer
    from runwide.store.pack import Entry


_RANGE = 16 << 20  # bytes that are read with one request
_THREADS = 2  # one range is read while another one is used


def frames(
    store: Store, job: Job, pending: Sequence[int], *, whole: bool = False
) -> Generator[Packet, None, None]:
    """Yield the frames of items by shard, and in a shard in ascending order.

    Only the index is verified here: the process that unpickles a frame verifies it.

    Args:
        whole: Whether to read whole packs, for which a bucket sends a checksum.
    """
    if job.source is not None:
        from runwide.job import chained  # only few jobs need it

        yield from chained.source_frames(job, job.source, pending, whole=whole)
        return
    places = job.layout.positions(pending)
    for one in job.packs:
        found = places.get(one.shard)
        if found and one.holds(found):
            first, last = bisect_left(found, one.start), bisect_left(found, one.stop)
            yield from _of_pack(store, job, one, found[first:last], whole=whole)


def _of_pack(store: Store, job: Job, one: Pack, places: list[int], *, whole: bool) -> Iterator[Packet]:
    def wanted(entries: Sequence[Entry]) -> list[Entry]:
        return [entries[place - one.start] for place in places]

    def check(data: bytearray) -> tuple[bytearray, Sequence[Entry]]:
        return data, _entries(store, job, one, data)

    most = one.size + SLACK
    if whole or (len(places) == one.count and one.size <= _RANGE):  # index and values in one request
        data, entries = checked_read(store, one.name, check, most=most)
        yield from _packets(wanted(entries), data, 0)
        return
    _, all_entries = checked_read(store, one.name, check, length=one.head, most=most)
    groups = list(ranges(wanted(all_entries)))

    def read(group: list[Entry]) -> bytearray:
        return store.read(one.name, start=group[0].offset, length=group[-1].stop - group[0].offset)

    for group, data in zip(groups, ahead(read, groups, threads=_THREADS), strict=True):
        yield from _packets(group, data, group[0].offset)


def _entries(store: Store, job: Job, one: Pack, data: bytearray) -> Sequence[Entry]:
    uri = store.child_uri(one.name)
    head = pack.read_head(data, job=job.id, slot=one.name, digest=one.digest, uri=uri)
    if [entry.item for entry in head.entries] != list(job.items_of(one.shard)[one.start : one.stop]):
        raise FrameCorrupt("the pack has other items than the job says", uri=uri)
    return head.entries


def ranges(entries: Sequence[Entry], *, gap: int = 0) -> Iterator[list[Entry]]:
    """Yield groups of neighbouring entries, each of which is read with one request of bounded size.

    Args:
        gap: Most bytes between two entries of a group.
    """
    group: list[Entry] = []
    for entry in entries:
        if group and (entry.offset - group[-1].stop > gap or entry.stop - group[0].offset > _RANGE):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _packets(entries: Sequence[Entry], data: bytearray, base: int) -> Iterator[Packet]:
    for entry in entries:
        yield entry.item, entry.digest, Part(data, entry.offset - base, entry.stop - base)


_SHARD = re.compile(r"shards/(\d{1,9})/")
_FIRST_READ = 64 << 10  # bytes; the index of some 800 items
_LARGEST_HEAD = 1 << 30  # bytes; each failed item has a traceback in it
_READERS, _READ_BYTES = 8, 64 << 20  # most chunks, and most of their bytes, that are read at once
_LARGE = 4 * plan.CHUNK_BYTES  # of a larger chunk the head is read first


@dataclass(frozen=True, slots=True)
class Loaded:
    """A verified chunk, and its results that are wanted.

    Args:
        entries: Where in it the results are.
        failures: The failed items among them.
    """

    data: bytearray
    entries: Sequence[Entry]
    failures: Mapping[int, Failure]
    uri: str


def threads_for(sizes: Collection[int]) -> int:
    """Return how many chunks to read at once, so that their bytes stay within a limit.

    Example:
        >>> threads_for([1000]), threads_for([32 << 20, 1000]), threads_for([1 << 30])
        (8, 2, 1)
    """
    return max(1, min(_READERS, _READ_BYTES // max([1, *sizes])))


def read_chunk(
    store: Store, job: Job, name: str, digest: str | None = None, *, size: int | None = None
) -> tuple[bytearray, pack.Head]:
    """Read a whole chunk and verify its head and its values.

    Args:
        digest: Its digest in a manifest; without one a signature is required, if a key is set.
        size: Its size in bytes in the manifest; an object that is larger is not read.

    Raises:
        IntegrityError: The chunk is damaged, belongs to another job or place, or is not signed.
        FormatTooNew: A newer runwide wrote it, and a digest or a signature vouches for it.
    """
    uri = store.child_uri(name)

    def check(data: bytearray) -> tuple[bytearray, pack.Head]:
        head = pack.read_head(
            data, job=job.digest, slot=name, digest=digest, uri=uri, run_key=job.run_key, vouched=True
        )
        pack.verify_values(data, head, uri=uri)
        return data, head

    return checked_read(store, name, check, most=None if size is None else size + SLACK)


def read_named(store: Store, job: Job, chunk: Chunk) -> tuple[bytearray, pack.Head]:
    """Read a chunk that a shard's manifest names, and compare it with the manifest.

    Raises:
        IntegrityError: As for `read_chunk`; or the chunk has fewer results than the manifest says.
    """
    try:
        data, head = read_chunk(store, job, chunk.name, chunk.digest, size=chunk.size)
        check_count(head, chunk, store.child_uri(chunk.name))
    except (DigestMismatch, FrameCorrupt) as error:
        error.hint = "; ".join(filter(None, (error.hint, _how_to_repair(job, chunk.name))))
        raise
    return data, head


def read_unnamed(
    store: Store, job: Job, name: str, *, size: int | None = None
) -> tuple[bytearray, pack.Head]:
    """Read a chunk that no manifest names yet; of a large one, the head must be valid before the rest is read."""
    if size is None or size > _LARGE:
        size = read_head(store, job, name).stop
    return read_chunk(store, job, name, size=size)


def read_head(store: Store, job: Job, name: str) -> pack.Head:
    """Read only the head of a chunk that no manifest names; it must be signed, if a key is set."""
    uri = store.child_uri(name)
    try:
        data = store.read(name, length=_FIRST_READ)
    except IntegrityError:  # the object is shorter than that
        data = store.read(name, most=_FIRST_READ)
    size = pack.head_size(data, uri=uri)
    if size > _LARGEST_HEAD:
        raise FrameCorrupt(f"the head of the chunk has {size} bytes, more than the limit", uri=uri)
    if size > len(data):
        data = store.read(name, length=size)
    return pack.read_head(data, job=job.digest, slot=name, uri=uri, run_key=job.run_key, vouched=True)


def _how_to_repair(job: Job, name: str) -> str:
    """Return the command that computes a damaged chunk again: its shard counts it as absent."""
    shard = _SHARD.match(name)
    if shard is None:
        return ""
    reference = quoted(job.reference)
    return f"have its items run again: runwide shard {reference} {int(shard[1])}, then runwide gather {reference}"


def check_count(head: pack.Head, chunk: Chunk, uri: str) -> None:
    """Reject a chunk with fewer results than its manifest says, before the items in the manifest are iterated."""
    if chunk.count > len(head.entries):
        raise FrameCorrupt("the chunk has other results than its manifest says", uri=uri)


def failures_in(
    head: pack.Head, items: Container[int], *, ended: AbstractSet[int] = frozenset()
) -> list[Failure]:
    """Return the failures that a chunk records, after checking that it may have its items.

    Args:
        ended: Items that have succeeded in other chunks.

    Raises:
        ValueError: An item belongs to another shard, has succeeded before, is there twice, or has failed without a record.
        KeyError: The chunk has no record of failures; or `TypeError` or `AttributeError` for one that is invalid.
    """
    found = [entry.item for entry in head.entries]
    if len(set(found)) != len(found) or not all(item in items and item not in ended for item in found):
        raise ValueError("it has items that are not its own")
    failures = [failure_from_json(row) for row in head.note["failures"]]
    failed = [entry.item for entry in head.entries if entry.failed]
    if sorted(failure.index for failure in failures) != sorted(failed):
        raise ValueError("its failures do not match its values")
    return failures


def outcome(
    frame: Buffer, item: int, job: Job, failure: Failure | None, uri: str, *, late: code.Late
) -> Outcome:
    """Return the outcome of an item.

    Args:
        frame: Its frame, verified.
        late: The job's code, for modules that are missing in this process.
    """
    context = model.result_context(job.digest, item)
    load = partial(decode_verified, frame, context=context, uri=uri)
    try:
        value = late.loaded(load)
    except Exception as error:
        return Outcome(item, failure=failure or _not_loadable(error, item, uri, late.hint(error)))
    if failure is None:
        return Outcome(item, value)
    if isinstance(value, BaseException) and failure.traceback:
        value.__cause__ = RemoteTraceback("in a worker", item=item, traceback=failure.traceback)
    return Outcome(item, failure=failure.but(exception=value))


def _not_loadable(error: Exception, item: int, uri: str, hint: str | None) -> Failure:
    hint = hint or "install here what the function's image has, or return plain data"
    reason = f"{type(error).__name__}: {error}"
    raised = Cause.RESULT_NOT_LOADABLE.error(item=item, hint=hint, facts={"uri": uri}, reason=reason)
    raised.__cause__ = error
    return Failure(item, FailureKind.PICKLING, type(raised).__name__, raised.message, exception=raised)
