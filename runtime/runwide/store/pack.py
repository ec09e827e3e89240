"""Packs: many values in one object, after an index of them.

A pack, little-endian; the head is everything before the values::

    magic     8 bytes   89 52 57 50 0d 0a 1a 0a
    version   u16       1; a reader refuses a newer version
    flags     u16       0
    meta      u32       length of the meta section in bytes
    count     u32       number of entries
    reserved  u32       0
    digest    32 bytes  SHA-256 over the head without this field and the next
    mac       32 bytes  HMAC-SHA-256 of the digest under the signing key; zeros without a key
    meta                canonical JSON: {"job": …, "slot": …, "note": …}
    entries   64 each   item u64, offset u64 (from the end of the head), length u64, flags u64, SHA-256 of the value
    padding             to a multiple of 64
    values              frames (see `runwide.store.codec`), each at a multiple of 64

The head's digest names the pack in a manifest, and covers every value through the entries. It is also in the pack itself,
so that damage is found even if no manifest names the pack yet (a chunk of a shard that is resumed).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import DigestMismatch, FormatTooNew, FrameCorrupt
from runwide.json_text import dumps, loads
from runwide.store import signing
from runwide.store.buffers import Buffer, padding
from runwide.store.codec import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.store.codec import Encoded

MAGIC = b"\x89RWP\r\n\x1a\n"
VERSION = 1
FAILED = 1  # entry flag: the value is a failure's exception, not a result
_FIXED = struct.Struct("<8sHHIII")
_SEAL = 64  # digest and mac
_ENTRY = struct.Struct("<QQQQ32s")
SMALLEST = _FIXED.size + _SEAL


@dataclass(frozen=True, slots=True)
class Entry:
    """The place of one value in a pack.

    Args:
        offset: Offset of the value in the object, in bytes.
        failed: Whether the value is the exception of a failed task.
    """

    item: int
    offset: int
    length: int
    digest: str
    failed: bool = False

    @property
    def stop(self) -> int:
        """The offset of the byte after the value."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Head:
    """The verified index of a pack.

    Args:
        slot: The pack's own name in the job.
        digest: SHA-256 that names the pack, in hex.
    """

    job: str
    slot: str
    entries: tuple[Entry, ...]
    size: int
    digest: str
    note: dict[str, Any]

    @property
    def stop(self) -> int:
        """The size of the whole pack in bytes."""
        return self.entries[-1].stop if self.entries else self.size


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack ready to be written."""

    head: Head
    parts: tuple[Buffer, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """One value to be packed.

    Args:
        failed: Whether the value is the exception of a failed task.
    """

    item: int
    value: Encoded
    failed: bool = False


def build(
    members: Sequence[Member],
    *,
    job: str,
    slot: str,
    note: dict[str, Any] | None = None,
    run_key: bytes | None = None,
) -> Packed:
    """Pack frames after an index.

    Example:
        >>> from runwide.store.codec import encode
        >>> packed = build([Member(4, encode("x", context="c"))], job="j", slot="items/0.pack")
        >>> read_head(b"".join(packed.parts)).entries[0].item
        4
    """
    meta = dumps({"job": job, "note": note or {}, "slot": slot})
    fixed = _FIXED.pack(MAGIC, VERSION, 0, len(meta), len(members), 0)
    table = b"".join(
        _entry(member, offset) for member, offset in zip(members, _offsets(members), strict=True)
    )
    tail = meta + table
    tail += padding(len(fixed) + _SEAL + len(tail))
    digest = hashlib.sha256(fixed + tail)
    mac = signing.sign(digest.hexdigest(), "pack", run_key=run_key)
    bytes_of_head = fixed + digest.digest() + mac + tail
    head = read_head(bytes_of_head)
    values = tuple(part for member in members for part in member.value.parts)
    return Packed(head, (bytes_of_head, *values), head.stop)


def read_head(
    buffer: Buffer,
    *,
    job: str | None = None,
    slot: str | None = None,
    digest: str | None = None,
    uri: str | None = None,
    run_key: bytes | None = None,
    vouched: bool = False,
) -> Head:
    """Read and check the index at the start of ``buffer``.

    Args:
        buffer: The pack, or at least its head.
        digest: The SHA-256 from a manifest, in hex; without it the head is compared with its own digest.
        vouched: Whether a pack without ``digest`` must be signed with the key, if there is a key.

    Raises:
        DigestMismatch: The head has another digest, or is not signed.
        FrameCorrupt: The bytes are not a pack, are damaged, or belong to another job or slot.
        FormatTooNew: A newer runwide wrote the pack, as a digest or a signature confirms.
    """
    view = memoryview(buffer).cast("B")
    meta, count = _fixed(view, uri)
    if digest is None and not vouched:
        _check_version(view, uri, known=True)
    end = _end(meta, count)
    if end > view.nbytes:
        raise FrameCorrupt(f"the pack ends after {view.nbytes} bytes, its head alone has {end}", uri=uri)
    found = hashlib.sha256(view[: _FIXED.size])
    found.update(view[SMALLEST:end])
    _check(found.digest(), bytes(view[_FIXED.size : _FIXED.size + 32]), digest, uri)
    known = digest is not None
    if vouched and not known:
        mac = bytes(view[SMALLEST - 32 : SMALLEST])
        known = signing.check(mac, found.hexdigest(), "pack", uri=uri, run_key=run_key)
    _check_version(view, uri, known=known)
    try:
        head = _parsed(view[:end], meta, count, found.hexdigest())
    except (ValueError, TypeError, KeyError) as error:
        raise FrameCorrupt(f"the pack's head is invalid ({error})", uri=uri) from error
    return _bound(head, job, slot, uri)


def head_size(buffer: Buffer, *, uri: str | None = None) -> int:
    """Return the size of a pack's head in bytes, from at least `SMALLEST` bytes of its beginning."""
    return _end(*_fixed(memoryview(buffer).cast("B"), uri))


def verify_values(buffer: Buffer, head: Head, *, uri: str | None = None) -> None:
    """Compare every value of a whole pack with its digest, and the pack's size with its index."""
    view = memoryview(buffer).cast("B")
    if head.stop != view.nbytes:
        raise FrameCorrupt(f"the pack has {view.nbytes} bytes, its index accounts for {head.stop}", uri=uri)
    for entry in head.entries:
        verify(view[entry.offset : entry.stop], digest=entry.digest, uri=uri)


def _end(meta: int, count: int) -> int:
    end = SMALLEST + meta + count * _ENTRY.size
    return end + -end % 64


def _offsets(members: Sequence[Member]) -> list[int]:
    offsets, offset = [], 0
    for member in members:
        offsets.append(offset)
        offset += member.value.size
    return offsets


def _entry(member: Member, offset: int) -> bytes:
    value, flags = member.value, FAILED if member.failed else 0
    return _ENTRY.pack(member.item, offset, value.size, flags, bytes.fromhex(value.digest))


def _fixed(view: memoryview, uri: str | None) -> tuple[int, int]:
    if view.nbytes < SMALLEST or view[:8] != MAGIC:
        raise FrameCorrupt("these bytes are not a pack written by runwide", uri=uri)
    _, _, _, meta, count, _ = _FIXED.unpack_from(view)
    return meta, count


def _check_version(view: memoryview, uri: str | None, *, known: bool) -> None:
    version = _FIXED.unpack_from(view)[1]
    if version <= VERSION:
        return
    message = f"the pack has format {version}, this runwide reads up to {VERSION}"
    if not known:  # any program could have written that, and must not stop the reader
        raise FrameCorrupt(message, uri=uri)
    raise FormatTooNew(message, uri=uri, hint="upgrade runwide")


def _check(found: bytes, inside: bytes, promised: str | None, uri: str | None) -> None:
    if promised is not None and found.hex() != promised:
        raise DigestMismatch(
            f"the pack has SHA-256 {found.hex()[:12]}…, not the promised {promised[:12]}…",
            uri=uri,
            hint="none of it was unpickled; the object was changed or damaged after it was written",
        )
    if found != inside:
        raise FrameCorrupt("the pack's head does not match its own digest", uri=uri)


def _parsed(view: memoryview, meta: int, count: int, digest: str) -> Head:
    table = SMALLEST + meta
    about = loads(view[SMALLEST:table])
    job, slot, note = about["job"], about["slot"], about["note"]
    if not (isinstance(job, str) and isinstance(slot, str) and isinstance(note, dict)):
        raise TypeError("its job, place or note has another type")
    entries = tuple(
        Entry(item, view.nbytes + offset, length, value.hex(), bool(flags & FAILED))
        for item, offset, length, flags, value in _ENTRY.iter_unpack(
            view[table : table + count * _ENTRY.size]
        )
    )
    stop = view.nbytes
    for entry in entries:  # if entries shared bytes, these would be hashed many times
        if entry.offset != stop:
            raise ValueError("its values do not follow each other")
        stop = entry.stop
    return Head(job, slot, entries, view.nbytes, digest, note)


def _bound(head: Head, job: str | None, slot: str | None, uri: str | None) -> Head:
    for what, found, wanted in (("job", head.job, job), ("place", head.slot, slot)):
        if wanted is not None and found != wanted:
            raise FrameCorrupt(f"the pack belongs to {what} {found[:200]!r}, not to {wanted!r}", uri=uri)
    return head
