"""Read the frames of a shard's items by byte range, ahead of the workers."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from runwide.errors import FrameCorrupt
from runwide.job.flow import ahead
from runwide.job.task import Part
from runwide.spill import pack
from runwide.spill.verified import SLACK, checked_read

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from runwide.job.model import Job, Pack
    from runwide.job.task import Packet
    from runwide.spill.pack import Entry
    from runwide.spill.store import Store

_RANGE = 16 << 20  # bytes that are read with one request
_THREADS = 2  # one range is read while another one is used


def frames(
    store: Store, job: Job, pending: Sequence[int], *, whole: bool = False
) -> Generator[Packet, None, None]:
    """Yield the frames of items by shard, and in a shard in ascending order.

    Only the index is verified here: the process that unpickles a frame verifies it.

    Args:
        store: The job's folder.
        job: The job.
        pending: The items.
        whole: Whether to read whole packs, for which a bucket sends a checksum.
    """
    if job.source is not None:
        from runwide.job import chained  # only few jobs need it

        yield from chained.frames(job, pending, whole=whole)
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


def ranges(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield groups of adjacent entries, each of which is read with one request of bounded size."""
    group: list[Entry] = []
    for entry in entries:
        if group and (entry.offset != group[-1].stop or entry.stop - group[0].offset > _RANGE):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _packets(entries: Sequence[Entry], data: bytearray, base: int) -> Iterator[Packet]:
    for entry in entries:
        yield entry.item, entry.digest, Part(data, entry.offset - base, entry.stop - base)
