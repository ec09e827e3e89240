"""Bytes in parts that are not copied, and their compression."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeAlias

from runwide import settings
from runwide.errors import EnvironmentMismatch, FrameCorrupt, InputError
from runwide.host import memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pickle import PickleBuffer


Buffer: TypeAlias = "bytes | bytearray | memoryview"

ALIGNMENT = 64  # bytes: a cache line, and more than any numpy type needs
_PADDING = bytes(ALIGNMENT)


def views(data: Buffer | Sequence[Buffer]) -> list[memoryview]:
    """Return flat views of the given bytes, without empty views.

    Example:
        >>> [bytes(view) for view in views([b"ab", b"", bytearray(b"c")])]
        [b'ab', b'c']
    """
    parts = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
    flat = (memoryview(part).cast("B") for part in parts)
    return [view for view in flat if view.nbytes]


def size_of(parts: Iterable[Buffer]) -> int:
    """Return the total size in bytes."""
    return sum(memoryview(part).nbytes for part in parts)


def padding(size: int) -> bytes:
    """Return the bytes that fill ``size`` up to the next multiple of the alignment."""
    return _PADDING[: -size % ALIGNMENT]


def sha256(*parts: Buffer) -> str:
    """Return the SHA-256 of the parts one after another, as 64 hex characters."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def pieces(parts: Iterable[memoryview], size: int) -> Iterator[memoryview]:
    """Yield the parts in pieces of at most ``size`` bytes."""
    for part in parts:
        for start in range(0, part.nbytes, size):
            yield part[start : start + size]


def gathered(parts: Iterable[memoryview], size: int) -> Iterator[Buffer]:
    """Yield the parts in pieces of at most ``size`` bytes; small neighbours are joined: each piece may cost a system call.

    Example:
        >>> [len(piece) for piece in gathered([memoryview(b"x" * n) for n in (1, 2, 100, 3)], 64)]
        [3, 64, 39]
    """
    small: list[memoryview] = []
    waiting = 0
    for piece in pieces(parts, size):
        if waiting + piece.nbytes > size and small:
            yield _joined(small)
            small, waiting = [], 0
        small.append(piece)
        waiting += piece.nbytes
    if small:
        yield _joined(small)


def _joined(parts: Sequence[memoryview]) -> Buffer:
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Buffers(list[memoryview]):
    """The large buffers of a pickle, which stay outside of it; used as its ``buffer_callback``.

    Args:
        least: The size in bytes from which a buffer stays outside.
    """

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least

    def __call__(self, buffer: PickleBuffer) -> bool:
        """Take a buffer if it is large enough; return whether it goes into the pickle."""
        view = buffer.raw()
        inside: bool = view.nbytes < self._least
        if not inside:
            self.append(view)
        return inside


LEAST = 16 << 10  # bytes; below, a request costs more than its bytes
_SAMPLE, _SAMPLES = 16 << 10, 4  # bytes of each sample, and their number
# Part of the size. At 2 Gbit/s to the store and back for each core, a value that shrinks to more costs a core more time than
# it saves (tests/benchmarks/compression.py). A user with a faster connection does not ask for compression.
_PAYS = 0.8
_PIECE = 1 << 20
_MOST = 1 << 15  # bytes that one byte can expand to: a zstd block of four bytes can fill 128 KiB
_LEVEL = 1


def compressed(parts: Sequence[Buffer], size: int) -> bytes | None:
    """Return the parts as one zstd frame; None if the user has not asked for it, or if it would not pay."""
    if size < LEAST or not settings.is_set("RUNWIDE_COMPRESSION") or settings.read().compression != "zstd":
        return None
    try:
        import zstandard
    except ImportError as error:
        raise InputError(
            "RUNWIDE_COMPRESSION=zstd is set, and zstandard is not installed",
            hint="pip install 'runwide[zstd]', here and in the image of the components",
        ) from error
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    flat = views(list(parts))
    if size > _SAMPLE * _SAMPLES:  # a smaller value is its own sample
        sample = b"".join(samples(flat, size))
        if len(compressor.compress(sample)) > _PAYS * len(sample):
            return None
    stream = compressor.compressobj(size=size)
    small = b"".join([*(stream.compress(piece) for piece in pieces(flat, _PIECE)), stream.flush()])
    return small if len(small) <= _PAYS * size else None


def samples(parts: Sequence[memoryview], size: int) -> list[memoryview]:
    """Return a few short pieces, spread evenly over the parts.

    Example:
        >>> [len(piece) for piece in samples([memoryview(bytes(1 << 20))], 1 << 20)]
        [16384, 16384, 16384, 16384]
    """
    starts = [number * max(0, size - _SAMPLE) // (_SAMPLES - 1) for number in range(_SAMPLES)]
    found, begin = [], 0
    for part in parts:
        stop = begin + part.nbytes
        found += [part[start - begin :][:_SAMPLE] for start in starts if begin <= start < stop]
        begin = stop
    return found


def expanded(data: memoryview, size: int, *, uri: str | None = None) -> bytearray:
    """Return the bytes of a zstd frame, whose number is in the verified header of the value.

    No more memory than that is allocated, and none for a number that the compressed bytes cannot expand to.

    Raises:
        FrameCorrupt: The number of bytes is wrong, impossible for zstd, or larger than this machine's memory; or this is not
            a zstd frame.
    """
    there_are = memory.read().size
    if size > _MOST * data.nbytes or (there_are is not None and size > there_are):
        raise FrameCorrupt(f"the value promises {size} bytes, out of {data.nbytes} of zstd", uri=uri)
    try:
        import zstandard
    except ImportError as error:
        raise EnvironmentMismatch(
            "the value is compressed with zstd, and zstandard is not installed here",
            uri=uri,
            hint="install runwide[zstd] here, or unset RUNWIDE_COMPRESSION where the value is made",
        ) from error
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            content = _exactly(reader, size)
    except (zstandard.ZstdError, MemoryError, OverflowError) as error:
        raise FrameCorrupt(f"the value cannot be decompressed ({error})", uri=uri) from error
    if content is None:
        raise FrameCorrupt(f"the value does not decompress to the {size} bytes that it promises", uri=uri)
    return content


def _exactly(reader: Any, size: int) -> bytearray | None:
    content = bytearray(size)
    view = memoryview(content)
    done = 0
    while done < size:
        count = reader.readinto(view[done:])
        if not count:
            return None
        done += count
    return None if reader.read(1) else content
