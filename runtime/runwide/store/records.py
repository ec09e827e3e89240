"""Reads whose bytes are verified, and the records of JSON that are read that way.

A record is trusted if a digest that came through the pipeline names it, or if it carries an HMAC of the signing key. The
record begins with the HMAC, which is checked before anything is parsed: ``{"mac":"<64 hex digits>",`` and the rest of the
object. Kind, owner and place are part of the signed bytes, so that no record can replace another. Without a key, a record
that no digest names has ``vouched=False`` (`Record.vouched`), and its reader must not use it for anything that can do
harm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from runwide import json_text
from runwide.errors import (
    DigestMismatch,
    FormatTooNew,
    FrameCorrupt,
    IntegrityError,
    ObjectNotFound,
    StoreNotReadable,
)
from runwide.log import Log
from runwide.store import signing
from runwide.store.base import stop_of
from runwide.store.buffers import sha256
from runwide.store.codec import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from runwide.store.base import Store


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
    """Read bytes and compare them with a SHA-256, if one is given; if they differ, read them once more."""

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
        check: Raises `IntegrityError`, or returns the result for the bytes.
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
        most: The largest valid size of the whole object.

    Raises:
        IntegrityError: The bytes were damaged in transit at each attempt, so the object itself may be right.
    """
    data = store.read(name, most=most)
    stop = stop_of(len(data), start, length, store.child_uri(name))
    return data[start:stop] if start or stop < len(data) else data


def arrived_damaged(error: Exception) -> bool:
    """Return whether an error means damage in transit, so that the object itself may be right."""
    return type(error) is IntegrityError


FORMAT = 1
_MIB = 1 << 20

MOST = {
    "job": 256 * _MIB,  # a line for each pack of items
    "shard": 1024 * _MIB,  # each failed item has a traceback of up to 8,000 characters; see `read`
    "result": 64 * _MIB,  # a digest for each shard
    "name": 64 << 10,
    "run": 256 << 10,
    "attempt": 4 * _MIB,  # the arguments of a pipeline's run, and its outputs
}
"""The largest size of each kind of record, in bytes."""
_BEGIN = b'{"mac":"'
_HEX = re.compile(rb"[0-9a-f]{64}")
_FIRST = len(_BEGIN) + 64 + len(b'",')


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was read from the place where it belongs.

    Args:
        digest: SHA-256 of its bytes, in hex.
        vouched: Whether a digest or the key's signature confirms it, and not the store alone.
    """

    about: dict[str, Any]
    owner: str
    digest: str
    vouched: bool


def written(
    kind: str, about: dict[str, Any], *, owner: str, place: str, run_key: bytes | None = None
) -> bytes:
    """Return the bytes of a record.

    Args:
        kind: One of `MOST`.
        place: Its own name in the folder of its owner.

    Raises:
        ValueError: It is larger or nested deeper than a reader accepts.

    Example:
        >>> data = written("run", {"engine": "vertex"}, owner="0" * 64, place="runs/000.json")
        >>> taken(data, "run", owner="0" * 64, place="runs/000.json", uri="/x").about
        {'engine': 'vertex'}
    """
    body = json_text.dumps({**about, "format": FORMAT, "kind": kind, "owner": owner, "place": place})
    mac = signing.sign(sha256(body), kind, run_key=run_key)
    data = b"".join((_BEGIN, mac.hex().encode(), b'",', body[1:]))
    if len(data) > MOST[kind]:
        raise ValueError(f"a {kind} of {len(data)} bytes is too large to be read again")
    json_text.loads(data)
    return data


def read(
    store: Store,
    name: str,
    kind: str,
    *,
    owner: str | None,
    digest: str | None = None,
    run_key: bytes | None = None,
    place: str | None = None,
    most: int | None = None,
) -> Record:
    """Read a record and verify it.

    Args:
        kind: One of `MOST`.
        owner: The owner that it must have; None if ``digest`` is enough.
        digest: The SHA-256 from a trusted source, in hex. Without it, the record must be signed with the key, if there is a
            key.
        place: The place that it must have, if that is not ``name``.
        most: Its largest size in bytes, if that is less than in `MOST`.

    Raises:
        DigestMismatch: It has another digest, or is not signed with the key.
        FrameCorrupt: It is not a record of this kind, or has another owner or place.
        FormatTooNew: A newer runwide wrote it, as a digest or a signature confirms.
    """
    uri = store.child_uri(name)

    def check(data: bytearray) -> Record:
        return taken(
            data,
            kind,
            owner=owner,
            place=place or name,
            uri=uri,
            promised=digest is not None,
            run_key=run_key,
        )

    most = min(most or MOST[kind], MOST[kind])
    if digest is not None:  # bytes with another digest are read again, and never parsed
        return check(fetch(store, name, digest=digest, most=most))
    return checked_read(store, name, check, most=most)


def taken(
    data: bytes | bytearray,
    kind: str,
    *,
    owner: str | None,
    place: str,
    uri: str,
    promised: bool = False,
    run_key: bytes | None = None,
) -> Record:
    """Verify a record as `read` does, from bytes that were read, and compared with a digest if ``promised``."""
    if len(data) > MOST[kind]:
        raise FrameCorrupt(f"the {kind} has {len(data)} bytes, at most {MOST[kind]} are expected", uri=uri)
    try:
        mac, body = _parted(data)
        signed = not promised and signing.check(mac, sha256(body), kind, uri=uri, run_key=run_key)
        about: dict[str, Any] = json_text.loads(data)
        about.pop("mac", None)
        found = {name: about.pop(name) for name in ("format", "kind", "owner", "place")}
    except IntegrityError:
        raise
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise FrameCorrupt(f"this is not the manifest of a {kind} ({error})", uri=uri) from error
    _check_format(found["format"], kind, uri, vouched=promised or signed)
    if found["kind"] != kind:
        raise FrameCorrupt(f"this is the manifest of a {str(found['kind'])[:100]}, not of a {kind}", uri=uri)
    for what, wanted in (("owner", owner), ("place", place)):
        if wanted is not None and found[what] != wanted:
            raise FrameCorrupt(
                f"this is another {kind} than {wanted}: its {what} is {str(found[what])[:100]}", uri=uri
            )
    return Record(about, str(found["owner"]), sha256(data), promised or signed)


def _parted(data: bytes | bytearray) -> tuple[bytes, bytes]:
    """Return the signature at the beginning of a record, or zeros if there is none, and the bytes that it signs."""
    mac = data[len(_BEGIN) : _FIRST - 2]
    if not data.startswith(_BEGIN) or data[_FIRST - 2 : _FIRST] != b'",' or not _HEX.fullmatch(mac):
        return signing.UNSIGNED, bytes(data)
    return bytes.fromhex(mac.decode()), b"{" + bytes(data[_FIRST:])


def _check_format(found: Any, kind: str, uri: str, *, vouched: bool) -> None:
    if isinstance(found, int) and found <= FORMAT:
        return
    message = f"the {kind} has format {str(found)[:20]}, this runwide reads up to {FORMAT}"
    if not vouched:  # any program could have written that, and must not stop the reader
        raise FrameCorrupt(message, uri=uri)
    raise FormatTooNew(
        message,
        uri=uri,
        hint="upgrade runwide here, in the image of the component, to the version that made the job",
    )
