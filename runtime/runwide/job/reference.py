"""References to objects that carry their digest, as they travel through a pipeline."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from runwide.errors import BadReference
from runwide.redaction import shortened

_MARK = "#sha256="
_HEX = re.compile(r"[0-9a-f]{64}")
_SHORT = re.compile(r"(\d+):([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Reference:
    """An object, and the SHA-256 that its bytes must have.

    Args:
        uri: URI of the object.
        digest: 64 hex characters.

    Example:
        >>> parse("/jobs/a-1/job.json#sha256=" + "0" * 64).folder
        '/jobs/a-1'
    """

    uri: str
    digest: str

    @property
    def folder(self) -> str:
        """URI of what the object lies in."""
        return self.uri.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The object's name in its folder."""
        return self.uri.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.uri}{_MARK}{self.digest}"


def parse(text: str) -> Reference:
    """Read a reference.

    Raises:
        BadReference: It is none.
    """
    text = str(text).strip()  # also of what is none: the message shows it
    uri, mark, digest = text.rpartition(_MARK)
    if not mark or not _HEX.fullmatch(digest) or "/" not in uri:
        raise BadReference(
            f"{shortened(text, 200)!r} is not a reference",
            hint=f"pass the whole line that the step before printed, with {_MARK} and 64 hex digits",
        )
    return Reference(uri, digest)


def short_reference(index: int, reference: str) -> str:
    """A shard's result in 50 characters: its index and the digest of its manifest.

    A pipeline hands all of them to one gather on one command line, which Linux cuts off at 128 KiB.

    Example:
        >>> short_reference(7, "/j/shards/0007/shard.json#sha256=" + "0" * 64)
        '7:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    raw = bytes.fromhex(parse(reference).digest)
    return f"{index}:{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def parse_shard(text: str) -> tuple[int, str]:
    """Index and digest of a shard's reference, short or full.

    Raises:
        BadReference: It is neither.

    Example:
        >>> parse_shard("7:" + "A" * 43) == (7, "0" * 64)
        True
    """
    short = _SHORT.fullmatch(str(text).strip())
    if short:
        try:
            return int(short[1]), base64.urlsafe_b64decode(short[2] + "=").hex()
        except binascii.Error:  # pragma: no cover - the pattern leaves nothing that fails
            pass
    reference = parse(text)
    found = re.search(r"/shards/(\d+)/shard(?:-\d{4,})?\.json$", reference.uri)
    if not found:
        raise BadReference(f"{reference.uri!r} is not a shard's manifest", hint="pass what the shard printed")
    return int(found[1]), reference.digest
