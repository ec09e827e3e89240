"""Bytes in parts that are not copied."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

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
