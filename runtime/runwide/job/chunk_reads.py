"""Read chunks of results, and verify them before anything in them is used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.errors import DigestMismatch, FrameCorrupt, IntegrityError
from runwide.job import plan
from runwide.job.failed import failure_from_json
from runwide.job.reference import quoted
from runwide.spill import pack
from runwide.spill.verified import SLACK, checked_read

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from runwide.job.model import Chunk, Job
    from runwide.records import Failure
    from runwide.spill.pack import Entry
    from runwide.spill.store import Store

_SHARD = re.compile(r"shards/(\d{1,9})/")
_FIRST_READ = 64 << 10  # bytes; the index of some 800 items
_LARGEST_HEAD = 1 << 30  # bytes; each failed item has a traceback in it
_LARGE = 4 * plan.CHUNK_BYTES  # of a larger chunk the head is read first


@dataclass(frozen=True, slots=True)
class Loaded:
    """A verified chunk, and its results that are wanted.

    Args:
        data: Its bytes.
        entries: Where in it the results are.
        failures: The failed items among them.
        uri: Its URI.
    """

    data: bytearray
    entries: Sequence[Entry]
    failures: Mapping[int, Failure]
    uri: str


def read_chunk(
    store: Store, job: Job, name: str, digest: str | None = None, *, size: int | None = None
) -> tuple[bytearray, pack.Head]:
    """Read a whole chunk and verify its head and its values.

    Args:
        store: The job's folder.
        job: The job.
        name: The chunk's name in the job.
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

    Args:
        store: The job's folder.
        job: The job.
        chunk: The chunk, as the manifest names it.

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
    """Read a chunk that no manifest names yet; of a large one, the head must be valid before the rest is read.

    Args:
        store: The job's folder.
        job: The job.
        name: The chunk's name in the job.
        size: Its size in bytes, if it is known.

    Raises:
        IntegrityError: As for `read_chunk`.
    """
    if size is None or size > _LARGE:
        size = read_head(store, job, name).stop
    return read_chunk(store, job, name, size=size)


def read_head(store: Store, job: Job, name: str) -> pack.Head:
    """Read only the head of a chunk that no manifest names; it must be signed, if a key is set.

    Args:
        store: The job's folder.
        job: The job.
        name: The chunk's name in the job.
    """
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
    """Reject a chunk with fewer results than its manifest says, before the items in the manifest are iterated.

    Args:
        head: The chunk's head.
        chunk: The chunk, as the manifest names it.
        uri: Its URI.

    Raises:
        FrameCorrupt: It has fewer.
    """
    if chunk.count > len(head.entries):
        raise FrameCorrupt("the chunk has other results than its manifest says", uri=uri)


def failures_in(
    head: pack.Head, items: Container[int], *, ended: AbstractSet[int] = frozenset()
) -> list[Failure]:
    """Return the failures that a chunk records, after checking that it may have its items.

    Args:
        head: The chunk's head.
        items: The items of the shard.
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
