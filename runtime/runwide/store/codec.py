"""Values as frames of bytes; a frame is decoded only after its digest was checked.

A frame, little-endian; every section but the lengths starts at a multiple of 64 bytes::

    magic     8 bytes   89 52 57 46 0d 0a 1a 0a: a text-mode copy or a truncated one shows at once
    version   u16       1; a reader refuses a newer version
    flags     u16       1: one zstd frame of all that follows the context; a reader refuses others
    context   u32       length of the context in bytes
    buffers   u32       number of buffers out of band
    reserved  u32       0
    pickle    u64       length of the pickle in bytes
    lengths   u64 each  lengths of the buffers; with flag 1 also that of the zstd frame
    context             UTF-8: the job and the slot of this value
    pickle              pickle protocol 5
    buffers             as they were in memory

The digest that names a frame covers all of its stored bytes, with header and padding, so a valid frame of another
job or another slot cannot replace it.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import DigestMismatch, FormatTooNew, FrameCorrupt, StoreError
from runwide.store.buffers import (
    ALIGNMENT,
    LEAST,
    Buffer,
    Buffers,
    compressed,
    expanded,
    padding,
    sha256,
    size_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runwide.pickling.items import Definitions

MAGIC = b"\x89RWF\r\n\x1a\n"
VERSION = 1
ZSTD = 1  # flag
_HEADER = struct.Struct("<8sHHIIIQ")
_SMALL = LEAST - ALIGNMENT  # bytes; a smaller value is never compressed
_IN_BAND = 4096  # bytes; a smaller buffer is cheaper to copy into the pickle than to keep as a section


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value as the parts of a frame: large arrays are views of the caller's memory.

    Args:
        digest: SHA-256 of the whole frame, in hex.
    """

    parts: tuple[Buffer, ...]
    size: int
    digest: str


def encode(value: Any, *, context: str, definitions: Definitions | None = None) -> Encoded:
    """Turn a value into a frame without copying its large buffers.

    Args:
        value: Anything that cloudpickle can pickle.
        context: The job and slot that the value belongs to; `decode` must be given the same.
        definitions: For an item, whose bytes are the same in each process: the definitions that the pickles of its
            job's items share, empty at first. None for a result.

    Returns:
        The frame. Its parts are valid as long as the value exists and is not changed.

    Raises:
        Exception: Any exception of pickling the value, unchanged.

    Example:
        >>> frame = encode([1, 2, 3], context="job/item/0")
        >>> decode(b"".join(frame.parts), digest=frame.digest, context="job/item/0")
        [1, 2, 3]
    """
    stream, buffers = _dumps(value, definitions)
    name = context.encode()
    if not buffers and len(stream) < _SMALL:
        return _small(stream, name)
    sections = tuple(_padded([stream, *buffers]))
    small = compressed(sections, size_of(sections))
    lengths = [buffer.nbytes for buffer in buffers]
    if small is not None:
        sections = tuple(_padded([small]))
        lengths.append(len(small))
    flags = 0 if small is None else ZSTD
    head = _HEADER.pack(MAGIC, VERSION, flags, len(name), len(buffers), 0, len(stream))
    parts = (*_padded([head + struct.pack(f"<{len(lengths)}Q", *lengths) + name]), *sections)
    return Encoded(parts, size_of(parts), sha256(*parts))


def _small(stream: bytes, name: bytes) -> Encoded:
    """Return the frame as one part: there may be millions of small values, and this takes a third of the time."""
    head = _HEADER.pack(MAGIC, VERSION, 0, len(name), 0, 0, len(stream)) + name
    frame = b"".join((head, padding(len(head)), stream, padding(len(stream))))
    return Encoded((frame,), len(frame), sha256(frame))


def decode(buffer: Buffer, *, digest: str, context: str, uri: str | None = None, plain: bool = False) -> Any:
    """Turn a frame back into its value, after checking its digest and context.

    Args:
        buffer: Exactly the frame. Arrays of the value are views of it, writable if it is.
        digest: SHA-256 from a trusted manifest, in hex.
        context: The context that `encode` was given.
        uri: The frame's URI, for errors.
        plain: Whether to load plain data only, since the digest is not trusted.

    Raises:
        DigestMismatch: The bytes have another digest; they were not unpickled.
        FrameCorrupt: The bytes are not a frame, or belong to another job or slot; they were not unpickled.
        NotPlain: With ``plain``, the value is not plain data; none of its code was run.
        FormatTooNew: A newer runwide wrote the frame.
        Exception: Any exception of unpickling, unchanged.
    """
    verify(buffer, digest=digest, uri=uri)
    return decode_verified(buffer, context=context, uri=uri, plain=plain)


def decode_verified(buffer: Buffer, *, context: str, uri: str | None = None, plain: bool = False) -> Any:
    """Decode bytes in memory whose digest was checked before, so that nothing is hashed twice."""
    found, stream, buffers = _sections(memoryview(buffer).cast("B"), uri)
    _check_context(found, context, uri)
    if plain:
        from runwide.store.plain import loads  # most processes do not need it

        return loads(stream, buffers=buffers)
    # `decode` or the caller has checked the digest
    return pickle.loads(stream, buffers=buffers)  # noqa: TID251


def rebound(buffer: Buffer, *, context: str, new: str, uri: str | None = None) -> Encoded:
    """Bind a frame to another slot, without unpickling its value.

    Args:
        buffer: The frame, after `verify`.
        context: The context that `encode` was given.

    Example:
        >>> frame = b"".join(encode([1, 2, 3], context="job/item/0").parts)
        >>> moved = rebound(frame, context="job/item/0", new="job/item/1")
        >>> moved == encode([1, 2, 3], context="job/item/1")
        True
        >>> decode(b"".join(moved.parts), digest=moved.digest, context="job/item/1")
        [1, 2, 3]
    """
    view = memoryview(buffer).cast("B")
    found, lengths, start = _head(view, uri)
    _check_context(found, context, uri)
    magic, version, flags, _, count, reserved, stream = _HEADER.unpack_from(view)
    name = new.encode()
    head = _HEADER.pack(magic, version, flags, len(name), count, reserved, stream)
    head += struct.pack(f"<{len(lengths) - 1}Q", *lengths[1:]) + name
    frame = b"".join((head, padding(len(head)), view[start:]))
    return Encoded((frame,), len(frame), sha256(frame))


def verify(buffer: Buffer, *, digest: str, uri: str | None = None) -> None:
    """Compare bytes with a SHA-256; `DigestMismatch` if they have another."""
    found = sha256(buffer)
    if found != digest:
        raise DigestMismatch(
            f"the bytes have SHA-256 {found[:12]}…, not the promised {digest[:12]}…",
            uri=uri,
            hint="none of them was unpickled; the object was changed or damaged after it was written",
        )


def _dumps(value: Any, definitions: Definitions | None) -> tuple[bytes, Sequence[memoryview]]:
    """Pickle with the C pickler if it gives the same result as cloudpickle, else with cloudpickle.

    cloudpickle sends by value: lambdas, nested functions, and everything defined in ``__main__`` or in a registered
    module. The C pickler is ten times as fast, refuses the first two, and writes the name ``__main__`` into the pickle.
    """
    import cloudpickle

    buffers = Buffers(_IN_BAND)
    if not cloudpickle.list_registry_pickle_by_value():
        try:
            stream = pickle.dumps(value, protocol=5, buffer_callback=buffers)
            if b"__main__" not in stream and (
                definitions is None or not (_may_have_sets(stream) or definitions.note(stream))
            ):
                return stream, buffers
        except StoreError:  # a file could not be written to the store
            raise
        except Exception:  # noqa: S110 - cloudpickle tries it next, and has the better message
            pass
    buffers.clear()
    if definitions is not None:
        from runwide.pickling import reproducible  # it loads cloudpickle

        return reproducible.item(value, definitions, buffers), buffers
    from runwide.pickling import pickler

    return pickler.dumps(value, buffer_callback=buffers), buffers


def _may_have_sets(stream: bytes) -> bool:
    """Return whether a pickle has the opcodes of sets, whose members may be in another order in another process."""
    return b"\x8f" in stream or b"\x91" in stream


def _padded(sections: list[Any]) -> Iterator[Buffer]:
    for section in sections:
        size = memoryview(section).nbytes
        yield section
        if size % 64:
            yield padding(size)


def _check_context(found: str, context: str, uri: str | None) -> None:
    if found != context:
        raise FrameCorrupt(f"the value belongs to {found[:300]!r}, not to {context!r}", uri=uri)


def _sections(view: memoryview, uri: str | None) -> tuple[str, memoryview, list[memoryview]]:
    """Return context, pickle and buffers of a frame, after checking that they make up the whole frame."""
    name, lengths, start = _head(view, uri)
    rest = view[start:]
    if _HEADER.unpack_from(view)[2] & ZSTD:
        (small,) = _cut(rest, [lengths.pop()], uri)
        rest = memoryview(expanded(small, sum(length + -length % 64 for length in lengths), uri=uri))
    sections = list(_cut(rest, lengths, uri))
    return name, sections[0], sections[1:]


def _head(view: memoryview, uri: str | None) -> tuple[str, list[int], int]:
    """Return the context of a frame, the lengths of its sections and the offset of the first section."""
    if view.nbytes < _HEADER.size or view[:8] != MAGIC:
        raise FrameCorrupt("these bytes are not a value written by runwide", uri=uri)
    _, version, flags, context, count, _, stream = _HEADER.unpack_from(view)
    if version > VERSION or flags & ~ZSTD:
        raise FormatTooNew(
            f"the value has format {version}.{flags}, this runwide reads up to {VERSION}.{ZSTD}",
            uri=uri,
            hint="upgrade runwide",
        )
    known = count + bool(flags & ZSTD)
    start = _HEADER.size + 8 * known
    if start + context > view.nbytes:
        raise FrameCorrupt("the value's header is longer than the value", uri=uri)
    lengths = [stream, *struct.unpack_from(f"<{known}Q", view, _HEADER.size)]
    name = str(view[start : start + context], "utf-8", "replace")
    return name, lengths, start + context + -(start + context) % 64


def _cut(view: memoryview, lengths: list[int], uri: str | None) -> Iterator[memoryview]:
    offset = 0
    for length in lengths:
        yield view[offset : offset + length]
        offset += length + -length % 64
    if offset != view.nbytes:
        raise FrameCorrupt("the value's lengths do not add up", uri=uri)
