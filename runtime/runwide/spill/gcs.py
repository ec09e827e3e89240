"""A store in a Google Cloud Storage bucket.

The client library brings credentials, endpoint and session. Each operation is one request of the documented JSON API
through that session: the library's own upload and download copy the bytes, make a second request above 8 MiB, and take
several times the CPU for small objects.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runwide.errors import BadReference, FrameCorrupt, ObjectExists
from runwide.spill.answers import Broken, Damaged, mapped
from runwide.spill.buffers import Buffer, gathered, size_of, views
from runwide.spill.google import attempt, request, share
from runwide.spill.library import exceptions, module
from runwide.spill.listing import json_answer, pages
from runwide.spill.refusals import KEPT, refusal_of, said
from runwide.spill.store import ObjectInfo, Store, checked, checked_prefix, is_name, stop_of, too_short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PIECE = 1 << 18  # what is being copied stays in the processor's cache
_RECEIVED = 1 << 20  # bytes that the socket is asked for at once
_BUCKET = re.compile(r"[a-z0-9._-]+")
_EXISTS = 412  # a condition of the request does not hold
_CRC32C = re.compile(r"crc32c=([^,\s]+)")
_REJECTED = re.compile(r"(crc32c|md5).*match", re.IGNORECASE)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class GcsStore(Store):
    """A bucket, or a prefix of one.

    Credentials are Google's application default credentials, or none for an emulator (``STORAGE_EMULATOR_HOST``).
    Clients are made on first use, one for each process: one that crossed a fork can return another object's bytes.

    Args:
        path: ``bucket`` or ``bucket/prefix``.
    """

    def __init__(self, path: str) -> None:
        self._bucket, _, prefix = path.rstrip("/").partition("/")
        if not self._bucket:
            raise BadReference(
                "the bucket's name is missing", uri=f"gs://{path}", hint="give gs://bucket/prefix"
            )
        if not _BUCKET.fullmatch(self._bucket):
            raise BadReference(
                f"{self._bucket!r} cannot be the name of a bucket",
                uri=f"gs://{path}",
                hint="it has small letters, digits, '-', '_' and '.'; behind it follows a slash and the prefix",
            )
        super().__init__(f"gs://{self._bucket}/{prefix}".rstrip("/"))
        self._prefix = f"{checked(prefix, self.uri)}/" if prefix else ""

    def create(self, name: str, data: Buffer | Sequence[Buffer]) -> None:  # noqa: D102 - see Store
        uri, creation = self.child_uri(name), _Creation(self._bucket, self._key(name), views(data))
        with mapped(uri, writing=True):
            try:
                created = attempt(creation, uri=uri)
            except (exceptions().PreconditionFailed, exceptions().Forbidden) as error:
                # A bucket with a retention policy may say in its own way that there is something already.
                if refusal_of(error) is not (None if error.code == _EXISTS else KEPT):
                    raise
                created = attempt(creation.is_there, uri=uri)
            if not created:
                raise ObjectExists("other bytes are there already", uri=uri)

    def read(  # noqa: D102 - see Store
        self, name: str, *, start: int = 0, length: int | None = None, most: int | None = None
    ) -> bytearray:
        key, uri = self._key(name), self.child_uri(name)
        wanted = _Wanted(uri, start, length, most)
        with mapped(uri, writing=False):
            if length == 0:
                wanted.stop(attempt(lambda: _stat(self._bucket, key), uri=uri).size)
                return bytearray()
            return attempt(lambda: _download(self._bucket, key, wanted), uri=uri)

    def list(self, prefix: str = "", *, start: str = "") -> Iterator[ObjectInfo]:  # noqa: D102 - see Store
        wanted = self._prefix + checked_prefix(prefix, self.uri)
        for key, size, written in self._keys(wanted, start and self._prefix + start):
            name = key.removeprefix(self._prefix)
            if is_name(name):
                yield ObjectInfo(name, size, written)

    def folders(self, prefix: str = "") -> Iterator[str]:  # noqa: D102 - see Store
        wanted = self._prefix + checked_prefix(prefix, self.uri)
        for page in pages(self._bucket, wanted, uri=self.uri, folders=True):
            names = (key.removeprefix(self._prefix).removesuffix("/") for key in page.folders)
            yield from filter(is_name, names)

    def _keys(self, wanted: str, start: str = "") -> Iterator[tuple[str, int, float]]:
        for page in pages(self._bucket, wanted, uri=self.uri, start=start):
            yield from page.objects

    def delete(self, name: str) -> None:  # noqa: D102 - see Store
        self._delete(self._key(name))

    def _delete(self, key: str) -> None:
        uri = f"gs://{self._bucket}/{key}"
        with mapped(uri, writing=True):
            attempt(lambda: _delete(self._bucket, key), uri=uri)

    def sweep(self, folder: str) -> None:  # noqa: D102 - see Store
        for key, _, _ in [*self._keys(f"{self._key(folder)}/")]:
            if not is_name(key.removeprefix(self._prefix)):
                self._delete(key)

    def share(self, parts: int) -> None:  # noqa: D102 - see Store
        with mapped(self.uri, writing=False):
            share(parts)

    def _key(self, name: str) -> str:
        return self._prefix + checked(name, self.uri)


class _Creation:
    """Creates an object, in as many attempts as it takes; returns False where other bytes are there.

    A second attempt looks first: a server may refuse an upload before it has read it and then reset the connection, and
    whoever is still writing sees the reset and never the refusal. Nor is what was stored sent again. Bytes of ours that
    arrived damaged, and were stored all the same, are the only ones that are replaced.
    """

    def __init__(self, bucket: str, key: str, parts: Sequence[memoryview]) -> None:
        self._bucket = bucket
        self._key = key
        self._parts = parts
        self._size = size_of(parts)
        self._crc32c = _crc32c(parts)
        self._md5: str | None = None
        self._tried = False
        self._damaged = 0  # generation of what we have stored, and what is not what we have sent

    def __call__(self) -> bool:
        """Make one attempt."""
        if self._tried:
            # who may write may not read everywhere
            with suppress(exceptions().NotFound, exceptions().Forbidden):
                found = _stat(self._bucket, self._key)
                same = self._is_ours(found)
                if same or found.generation != self._damaged:
                    return same
        self._tried = True
        about = {"name": self._key, "crc32c": self._crc32c}
        stored = _upload(self._bucket, about, self._parts, self._damaged)
        if (stored.name, stored.size, stored.crc32c) != (self._key, self._size, self._crc32c):
            self._damaged = stored.generation
            raise Damaged("the answer tells of other bytes than were sent")
        return True

    def is_there(self) -> bool:
        """Whether what is there is ours, of an earlier attempt whose answer was lost."""
        return self._is_ours(_stat(self._bucket, self._key))

    def _is_ours(self, found: _About) -> bool:
        # A forged object fails its SHA-256 when it is read.
        same = [found.size == self._size, found.crc32c == self._crc32c]
        if found.md5:
            self._md5 = self._md5 or _md5(self._parts)
            same.append(found.md5 == self._md5)
        if any(same[1:]) and not all(same):
            raise Damaged("the object's size and checksums contradict each other")
        return all(same)


@dataclass(frozen=True, slots=True)
class _About:
    """What the service says of an object."""

    name: str
    size: int
    generation: int
    crc32c: str
    md5: str


_PLAIN = "it was put there by something else than runwide: store it as it is, without a content encoding"
_FIELDS = "name,size,generation,crc32c,md5Hash"


def _upload(bucket: str, about: dict[str, str], parts: Sequence[memoryview], generation: int) -> _About:
    boundary = os.urandom(16).hex().encode()
    head = b"".join([
        b"--", boundary, b"\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n", json.dumps(about).encode(),
        b"\r\n--", boundary, b"\r\ncontent-type: application/octet-stream\r\n\r\n",
    ])  # fmt: skip
    body = _Body([memoryview(head), *parts, memoryview(b"\r\n--" + boundary + b"--\r\n")])
    path = f"/upload/storage/v1/b/{quote(bucket)}/o?uploadType=multipart&ifGenerationMatch={generation}&fields={_FIELDS}"
    headers = {"content-type": f"multipart/related; boundary={boundary.decode()}"}
    try:
        return _object(json_answer(request("POST", path, data=body, headers=headers)))
    except exceptions().BadRequest as error:
        if _REJECTED.search(said(error)):
            raise Damaged("the server says that the bytes do not match their checksum") from error
        raise


class _Body:
    """Parts of a request's body, sent as they lie in memory."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._size = size_of(parts)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Buffer]:
        return gathered(self._parts, _PIECE)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The part of an object that is read, and how large it may be."""

    uri: str
    start: int
    length: int | None
    most: int | None

    @property
    def range(self) -> str | None:
        """The header that asks for it; None for a whole object."""
        if not self.start and self.length is None:
            return None
        return f"bytes={self.start}-{'' if self.length is None else self.start + self.length - 1}"

    def stop(self, size: int) -> int:
        """Where it ends in an object of that size."""
        return stop_of(size, self.start, self.length, self.uri, most=self.most)


def _download(bucket: str, key: str, wanted: _Wanted) -> bytearray:
    headers = {"accept-encoding": "identity"}
    if wanted.range:
        headers["range"] = wanted.range
    path = f"/download/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}?alt=media"
    try:
        response = request("GET", path, headers=headers, stream=True)
    except exceptions().RequestRangeNotSatisfiable as error:
        raise too_short(wanted.uri, wanted.start, wanted.start + (wanted.length or 1)) from error
    with response:
        encoding = response.headers.get("x-goog-stored-content-encoding", "identity")
        if encoding != "identity":  # the service decompresses it on the way, and cannot say how long it is
            raise FrameCorrupt(
                f"the object is stored with the content encoding {encoding!r}", uri=wanted.uri, hint=_PLAIN
            )
        size = int(response.headers.get("content-length", -1))
        if wanted.range:
            _check_range(response, wanted, size)
        elif size >= 0:
            wanted.stop(size)
        # A range has no checksum of the server's: who asks for one holds it against a digest.
        return _body(response, size, None if wanted.range else response.headers.get("x-goog-hash", ""))


def _check_range(response: Any, wanted: _Wanted, size: int) -> None:
    """Tell an object that ends too early from an answer that does."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != 206 or not found:  # noqa: PLR2004 - partial content
        raise Damaged(f"status {response.status_code} instead of a byte range")
    start, stop = wanted.start, wanted.stop(int(found[3]))
    if (int(found[1]), int(found[2]) + 1, size) != (start, stop, stop - start):
        raise Damaged(f"{size} bytes from {found[1]} instead of {stop - start} from {start}")


def _body(response: Any, size: int, hashes: str | None) -> bytearray:
    """The answer's body, held against the server's CRC32C, so that damage on the way is repaired by asking again."""
    if size < 0:
        raise Damaged("the answer does not say how long it is")
    content = bytearray(size)
    _fill(response.raw, memoryview(content))
    wanted = _CRC32C.search(hashes or "")
    if wanted and wanted[1] != _crc32c([memoryview(content)]):
        raise Damaged("the bytes do not match the server's CRC32C")
    return content


def _fill(raw: Any, view: memoryview) -> None:
    """Have the socket write where the bytes are to stay; urllib3's own reading would copy them twice on their way."""
    # Where urllib3 no longer has the response of http.client, its own is slower and as good.
    source = getattr(raw, "_original_response", None) or raw
    done = 0
    while done < view.nbytes:
        count = source.readinto(view[done : done + _RECEIVED])
        if not count:
            raise Broken(f"the answer ended after {done} of {view.nbytes} bytes")
        done += count
    raw.release_conn()  # read to its end: the connection may be used again


def _stat(bucket: str, key: str) -> _About:
    path = f"/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}?fields={_FIELDS}"
    found = _object(json_answer(request("GET", path)))
    if found.name != key:
        raise Damaged("the answer describes another object than was asked for")
    return found


def _object(answer: dict[str, Any]) -> _About:
    try:
        return _About(
            str(answer["name"]),
            int(answer["size"]),
            int(answer.get("generation", 0)),
            str(answer["crc32c"]),
            str(answer.get("md5Hash", "")),  # composite objects have none
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"the answer does not describe an object ({error!r})") from error


def _md5(parts: Sequence[memoryview]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return base64.b64encode(digest.digest()).decode()


def _delete(bucket: str, key: str) -> None:
    with suppress(exceptions().NotFound):
        request("DELETE", f"/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}")


def _crc32c(parts: Sequence[memoryview]) -> str:
    checksum = module("google_crc32c").Checksum()
    for piece in gathered(parts, _PIECE):
        checksum.update(bytes(piece))  # the library takes nothing but bytes
    return base64.b64encode(bytes(checksum.digest())).decode()
