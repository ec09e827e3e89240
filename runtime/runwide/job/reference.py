"""References: the URI of an object with its digest, as steps of a pipeline pass them on."""

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
"""Separates the URI from the digest."""
_HEX = re.compile(r"[0-9a-f]{64}")
_OF_JOB = re.compile(r"job\.json|result(-[0-9a-f]+)?\.json")
_SHORT = re.compile(r"(\d+):([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Reference:
    """An object and the SHA-256 of its bytes.

    Args:
        digest: 64 hex characters.

    Example:
        >>> parse("/jobs/a-1/job.json#sha256=" + "0" * 64).folder
        '/jobs/a-1'
    """

    uri: str
    digest: str

    @property
    def folder(self) -> str:
        """URI of the folder with the object."""
        return self.uri.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The object's name in its folder."""
        return self.uri.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.uri}{MARK}{self.digest}"


def parse(text: str) -> Reference:
    """Parse a reference; raise `BadReference` for another text."""
    text = str(text).strip()  # the message shows other types too
    uri, mark, digest = text.rpartition(MARK)
    if not mark or not _HEX.fullmatch(digest) or "/" not in uri:
        raise BadReference(
            f"{shortened(text, 200)!r} is not a reference",
            hint=f"pass the whole line that the step before printed, with {MARK} and 64 hex digits",
        )
    return Reference(uri, digest)


def is_reference(text: str) -> bool:
    """Return whether a text is the reference of a job or of its result.

    Example:
        >>> is_reference("/jobs/a-1/job.json#sha256=" + "0" * 64), is_reference("/jobs/a-1/job.json")
        (True, False)
    """
    uri, mark, digest = text.strip().rpartition(MARK)
    name = uri.rpartition("/")[2]
    return bool(mark and _HEX.fullmatch(digest) and _OF_JOB.fullmatch(name) and "/" in uri)


def resolve(text: str, store: str | PathLike[str] | None = None, *, runs: bool = False) -> str:
    """Return the reference of a job that is given as a reference, URI, id, start of an id, or name.

    Args:
        runs: Whether the caller will run the job's function.

    Raises:
        InputError: The text matches no job, or several.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-resolve", shards=1)
        >>> resolve(job.partition("/job.json")[0]) == job
        True
    """
    if MARK in str(text) and "/result" not in str(text):
        return str(text)
    from runwide.job import lookup  # a component, which has a reference, does not load it

    return lookup.reference_of(text, store, what=lookup.FUNCTION if runs else lookup.RESULTS)


def quoted(word: str) -> str:
    """Return a text as one word of a shell command.

    Example:
        >>> quoted("/runs/a-1/job.json#sha256=00"), quoted("/runs")
        ("'/runs/a-1/job.json#sha256=00'", '/runs')
    """
    return shlex.quote(word)


def short_reference(index: int, reference: str) -> str:
    """Shorten a shard's reference to 50 characters: its index and the digest of its manifest.

    A pipeline passes the references of all shards to one gather in one command line, which Linux limits to 128 KiB.

    Example:
        >>> short_reference(7, "/j/shards/0007/shard.json#sha256=" + "0" * 64)
        '7:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    raw = bytes.fromhex(parse(reference).digest)
    return f"{index}:{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def parse_shard(text: str) -> tuple[int, str]:
    """Return the index and the digest in a shard's reference, short or full.

    Example:
        >>> parse_shard("7:" + "A" * 43) == (7, "0" * 64)
        True
    """
    short = _SHORT.fullmatch(str(text).strip())
    if short:
        try:
            return int(short[1]), base64.urlsafe_b64decode(short[2] + "=").hex()
        except binascii.Error:  # pragma: no cover - the pattern allows only valid text
            pass
    reference = parse(text)
    found = re.search(r"/shards/(\d+)/shard(?:-\d{4,})?\.json$", reference.uri)
    if not found:
        raise BadReference(f"{reference.uri!r} is not a shard's manifest", hint="pass what the shard printed")
    return int(found[1]), reference.digest
