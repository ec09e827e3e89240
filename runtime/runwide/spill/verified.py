"""Reads of objects whose bytes are checked before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from runwide.errors import DigestMismatch, FrameCorrupt, IntegrityError, ObjectNotFound, StoreNotReadable
from runwide.log import Log
from runwide.spill.codec import verify
from runwide.spill.store import stop_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.spill.store import Store

T = TypeVar("T")

log = Log("spill")

ABSENT = (ObjectNotFound, StoreNotReadable)
"""What a read raises where an object is not there for this process: gone, or somebody's whose file is closed to others."""

SLACK = 64 << 20
"""Bytes by which an object may be larger than was promised, and is read, so that its digest says that it was changed."""


def fetch(
    store: Store,
    name: str,
    *,
    digest: str | None,
    start: int = 0,
    length: int | None = None,
    most: int | None = None,
) -> bytearray:
    """Read bytes and hold them against a digest; if they differ once, they are read again.

    Args:
        store: Where the object lies.
        name: Its name.
        digest: The SHA-256 that they must have, in hex; None for any.
        start: First byte.
        length: Number of bytes, up to the end when not given.
        most: How many bytes there may be at most.

    Raises:
        DigestMismatch: They differ twice.
    """

    def check(data: bytearray) -> bytearray:
        if digest is not None:
            verify(data, digest=digest, uri=store.child_uri(name))
        return data

    return checked_read(store, name, check, start=start, length=length, most=most)


def checked_read(
    store: Store,
    name: str,
    check: Callable[[bytearray], T],
    *,
    start: int = 0,
    length: int | None = None,
    most: int | None = None,
) -> T:
    """Read bytes and check them; what fails is read once more, with the whole object around it.

    A flipped bit on the way is rare, but a byte range comes without a checksum of the server's. The whole object has one,
    so the second read tells damage on the way from an object that was changed.

    Args:
        store: Where the object lies.
        name: The object.
        check: Raises `IntegrityError`, or returns what the bytes are.
        start: First byte.
        length: Number of bytes, up to the end when not given.
        most: How many bytes there may be at most; of a larger object none is read.

    Raises:
        DigestMismatch: The object itself was changed or damaged; or `FrameCorrupt`, as ``check`` says.
        IntegrityError: The bytes were damaged on the way, again and again.
    """
    data = store.read(name, start=start, length=length, most=most)
    try:
        return check(data)
    except (DigestMismatch, FrameCorrupt) as error:
        cause = str(error)
    del data  # also from the frames that the error had kept
    log.warning("object.reread", uri=store.child_uri(name), cause=cause)
    return check(part_of(store, name, start=start, length=length, most=most))


def part_of(store: Store, name: str, *, start: int, length: int | None, most: int | None = None) -> bytearray:
    """Read a range by reading the whole object, which a bucket sends with a checksum.

    Args:
        store: Where the object lies.
        name: Its name.
        start: First byte.
        length: Number of bytes, up to the end when not given.
        most: How many bytes the whole object may have.

    Raises:
        IntegrityError: It arrived damaged each time, so nothing can be said of the object.
        FrameCorrupt: The object ends before the range does.
    """
    data = store.read(name, most=most)
    stop = stop_of(len(data), start, length, store.child_uri(name))
    return data[start:stop] if start or stop < len(data) else data


def arrived_damaged(error: Exception) -> bool:
    """Whether an error says that bytes were damaged on the way, and so nothing of the object itself."""
    return type(error) is IntegrityError
