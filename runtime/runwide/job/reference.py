"""References to objects that carry their digest, as they travel through a pipeline."""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.errors import BadReference
from runwide.redaction import shortened

if TYPE_CHECKING:
    from os import PathLike

MARK = "#sha256="
"""Stands between a URI and its digest."""
_HEX = re.compile(r"[0-9a-f]{64}")
_OF_JOB = re.compile(r"job\.json|result(-[0-9a-f]+)?\.json")
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
        return f"{self.uri}{MARK}{self.digest}"


def parse(text: str) -> Reference:
    """Read a reference.

    Raises:
        BadReference: It is none.
    """
    text = str(text).strip()  # also of what is none: the message shows it
    uri, mark, digest = text.rpartition(MARK)
    if not mark or not _HEX.fullmatch(digest) or "/" not in uri:
        raise BadReference(
            f"{shortened(text, 200)!r} is not a reference",
            hint=f"pass the whole line that the step before printed, with {MARK} and 64 hex digits",
        )
    return Reference(uri, digest)


def is_reference(text: str) -> bool:
    """Tell whether a text refers to a job or to its result, with a digest.

    Example:
        >>> is_reference("/jobs/a-1/job.json#sha256=" + "0" * 64), is_reference("/jobs/a-1/job.json")
        (True, False)
    """
    uri, mark, digest = text.strip().rpartition(MARK)
    name = uri.rpartition("/")[2]
    return bool(mark and _HEX.fullmatch(digest) and _OF_JOB.fullmatch(name) and "/" in uri)


def whole(text: str, store: str | PathLike[str] | None = None, *, runs: bool = False) -> str:
    """Return a reference as it is; of another text, that of the job which it means.

    Args:
        text: As for `runwide.job.found.found`.
        store: As for `runwide.job.found.found`.
        runs: Whether its function is going to be run.

    Raises:
        InputError: No job is meant, or more than one.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-whole", shards=1)
        >>> whole(job.partition("/job.json")[0]) == job
        True
    """
    if MARK in str(text) and "/result" not in str(text):
        return str(text)
    from runwide.job import found  # which a component has no use for

    return found.reference_of(text, store, what=found.FUNCTION if runs else found.RESULTS)


def quoted(word: str) -> str:
    """Return a text as one word of a command, so that it can be copied into a shell.

    Example:
        >>> quoted("/runs/a-1/job.json#sha256=00"), quoted("/runs")
        ("'/runs/a-1/job.json#sha256=00'", '/runs')
    """
    return shlex.quote(word)


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
