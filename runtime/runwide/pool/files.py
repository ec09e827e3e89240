"""Write the files of payloads."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Span = tuple[int, int]
    """Offset and length."""

_ALIGN = 64  # alignment of buffers in a file: a cache line, and good for numpy's vector loops
_COPIED = 1 << 24  # bytes of one read


def layout(sizes: list[int]) -> tuple[list[Span], int]:
    """Return the places of buffers of these sizes in a file, and its size.

    Example:
        >>> layout([100, 0, 10])
        ([(0, 100), (128, 0), (128, 10)], 192)
    """
    spans, offset = [], 0
    for size in sizes:
        spans.append((offset, size))
        offset = -(-(offset + size) // _ALIGN) * _ALIGN
    return spans, max(offset, 1)


def write(path: str, parts: Sequence[bytes | memoryview], spans: Sequence[Span]) -> None:
    """Write buffers to a new file.

    Raises:
        OSError: The file exists, or cannot be written; a part of it may have been written.
    """
    # pwrite() instead of a shared mapping: a full disk is then an error, and not a SIGBUS.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with closing(descriptor):
        for part, (offset, length) in zip(parts, spans, strict=True):
            view = memoryview(part).cast("B")
            written = 0
            while written < length:
                written += os.pwrite(descriptor, view[written:], offset + written)


def zeros(path: str, size: int) -> int:
    """Make a file of zeros without holes, and return a descriptor of it.

    Raises:
        OSError: The file exists, or cannot be written; then it is removed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.pwrite(descriptor, bytes(size), 0)
    except OSError:
        os.close(descriptor)
        with suppress(OSError):
            Path(path).unlink()
        raise
    return descriptor


def copy(source: int, path: str) -> None:
    """Copy an open file. The copy is complete before it has its name.

    Raises:
        OSError: The copy cannot be written.
    """
    size, offset, part = os.fstat(source).st_size, 0, f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with closing(descriptor):
            while offset < size:
                # Not sendfile, which writes only to sockets on macOS.
                offset += os.pwrite(descriptor, os.pread(source, min(_COPIED, size - offset), offset), offset)
        Path(part).rename(path)
    except OSError:
        with suppress(OSError):
            Path(part).unlink()
        raise


@contextmanager
def closing(descriptor: int) -> Iterator[None]:
    """Close a descriptor at the end of the block."""
    try:
        yield
    finally:
        os.close(descriptor)
