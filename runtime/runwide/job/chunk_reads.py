"""Reads of one chunk of results, checked before anything of it is used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runwide.errors import DigestMismatch, FrameCorrupt
from runwide.job.reference import quoted
from runwide.spill import pack
from runwide.spill.verified import SLACK, checked_read

if TYPE_CHECKING:
    from runwide.job.model import Chunk, Job
    from runwide.spill.store import Store

_SHARD = re.compile(r"shards/(\d{1,9})/")
_LARGEST_HEAD = 1 << 30  # bytes; each failed item has a traceback in it


def read_chunk(
    store: Store, job: Job, name: str, digest: str | None = None, *, size: int | None = None
) -> tuple[bytearray, pack.Head]:
    """Read a whole chunk and check it, head and values, before anything of it is used.

    Args:
        store: The job's folder.
        job: The job.
        name: Its name in the job.
        digest: What a manifest promises; without it a signature is demanded, where a key is set.
        size: Its size in bytes, as the manifest promises; of a larger one nothing is read.

    Raises:
        IntegrityError: It is damaged, belongs to another job or place, or is not signed.
        FormatTooNew: A newer runwide wrote it, and somebody vouches for it.
    """
    uri = store.child_uri(name)

    def head_of(data: bytearray) -> pack.Head:
        return pack.read_head(
            data, job=job.digest, slot=name, digest=digest, uri=uri, run_key=job.run_key, vouched=True
        )

    def check(data: bytearray) -> tuple[bytearray, pack.Head]:
        head = head_of(data)
        pack.verify_values(data, head, uri=uri)
        return data, head

    return checked_read(store, name, check, most=None if size is None else size + SLACK)


def read_named(store: Store, job: Job, chunk: Chunk) -> tuple[bytearray, pack.Head]:
    """Read a chunk as `read_chunk` does, and hold what its manifest promises against it.

    Args:
        store: The job's folder.
        job: The job.
        chunk: The chunk, as the manifest of a shard names it.

    Raises:
        IntegrityError: As for `read_chunk`; or it has fewer results than the manifest says.
    """
    try:
        data, head = read_chunk(store, job, chunk.name, chunk.digest, size=chunk.size)
        check_count(head, chunk, store.child_uri(chunk.name))
    except (DigestMismatch, FrameCorrupt) as error:
        error.hint = "; ".join(filter(None, (error.hint, _again(job, chunk.name))))
        raise
    return data, head


def _again(job: Job, name: str) -> str:
    """How to have a chunk that was changed made anew: its shard counts it as absent."""
    shard = _SHARD.match(name)
    if shard is None:
        return ""
    reference = quoted(job.reference)
    return f"have its items run again: runwide shard {reference} {int(shard[1])}, then runwide gather {reference}"


def check_count(head: pack.Head, chunk: Chunk, uri: str) -> None:
    """Refuse a chunk with fewer results than its manifest says, before the items of the manifest are walked.

    Args:
        head: Its index.
        chunk: The chunk, as the manifest of a shard names it.
        uri: Where it lies.

    Raises:
        FrameCorrupt: It has fewer.
    """
    if chunk.count > len(head.entries):
        raise FrameCorrupt("the chunk has other results than its manifest says", uri=uri)


def promised_size(store: Store, job: Job, name: str) -> int:
    """How large a chunk says that it is, from its head alone: what nobody vouches for is not read whole."""
    uri = store.child_uri(name)
    size = pack.head_size(store.read(name, length=pack.SMALLEST), uri=uri)
    if size > _LARGEST_HEAD:
        raise FrameCorrupt(f"the chunk's head has {size} bytes, more than any", uri=uri)
    head = store.read(name, length=size)
    return pack.read_head(head, job=job.digest, slot=name, uri=uri, run_key=job.run_key, vouched=True).stop
