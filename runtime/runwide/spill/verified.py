"""Reads of objects whose bytes are verified before they are used."""

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
"""The errors of a read if this process has no such object: it does not exist, or its owner lets no other user read it."""

SLACK = 64 << 20
"""Bytes by which an object may exceed its promised size and still be read, so that its digest shows the change."""


def fetch(
    store: Store,
    name: str,
    *,
    digest: str | None,
    start: int = 0,
    length: int | None = None,
    most: int | None = None,
) -> bytearray:
    """Read bytes and compare them with a digest; if they differ, read them once more.

    Args:
        store: The object's store.
        name: Its name.
        digest: The SHA-256 that they must have, in hex; None for any.
        start: First byte.
        length: Number of bytes, up to the end when not given.
        most: The largest valid number of bytes.

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
    """Read bytes and check them; if the check fails, read the whole object and check the bytes again.

    A flipped bit in transit is rare, but the server sends no checksum with a byte range. It sends one with a whole object,
    so the second read distinguishes damage in transit from an object that was changed.

    Args:
        store: The object's store.
        name: Its name.
        check: Raises `IntegrityError`, or returns the result for the bytes.
        start: First byte.
        length: Number of bytes, up to the end when not given.
        most: The largest valid number of bytes; a larger object is not read.

    Raises:
        DigestMismatch: The object itself was changed or damaged; or `FrameCorrupt`, as ``check`` says.
        IntegrityError: The bytes were damaged in transit at each attempt.
    """
    data = store.read(name, start=start, length=length, most=most)
    try:
        return check(data)
    except (DigestMismatch, FrameCorrupt) as error:
        cause = str(error)
    del data  # also from the stack frames that the error had kept
    log.warning("object.reread", uri=store.child_uri(name), cause=cause)
    return check(part_of(store, name, start=start, length=length, most=most))


def part_of(store: Store, name: str, *, start: int, length: int | None, most: int | None = None) -> bytearray:
    """Read a range by reading the whole object, with which a bucket sends a checksum.

    Args:
        store: The object's store.
        name: Its name.
        start: First byte.
        length: Number of bytes, up to the end when not given.
        most: The largest valid size of the whole object.

    Raises:
        IntegrityError: The bytes were damaged in transit at each attempt, so the object itself may be right.
        FrameCorrupt: The object ends before the range does.
    """
    data = store.read(name, most=most)
    stop = stop_of(len(data), start, length, store.child_uri(name))
    return data[start:stop] if start or stop < len(data) else data


def arrived_damaged(error: Exception) -> bool:
    """Return whether an error means damage in transit, so that the object itself may be right."""
    return type(error) is IntegrityError
