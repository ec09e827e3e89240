"""A store in a Google Cloud Storage bucket.

The client library provides credentials, endpoint and session. Each operation is one request of the documented JSON API
through that session: the library's own upload and download copy the bytes, make a second request above 8 MiB, and take
several times the CPU for small objects.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runwide.errors import BadReference, FrameCorrupt
from runwide.json_text import json_of
from runwide.store import google
from runwide.store.base import checked_prefix, is_name, too_short
from runwide.store.buffers import Buffer, gathered, size_of
from runwide.store.google import request
from runwide.store.google_auth import exceptions, module
from runwide.store.google_errors import GoogleErrors, said
from runwide.store.meaning import Broken, Damaged
from runwide.store.remote import Page, RemoteStore, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runwide.store.remote import Traffic, Wanted


_PIECE = 1 << 18  # bytes copied at once, which stay in the processor's cache
_RECEIVED = 1 << 20  # bytes read from the socket at once
_BUCKET = re.compile(r"[a-z0-9._-]+")
_CRC32C = re.compile(r"crc32c=([^,\s]+)")
_REJECTED = re.compile(r"(crc32c|md5).*match", re.IGNORECASE)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class GcsStore(GoogleErrors, RemoteStore):
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
                hint="use lower-case letters, digits, '-', '_' and '.'; the prefix follows after a slash",
            )
        super().__init__(f"gs://{self._bucket}", prefix)

    def traffic(self) -> Traffic:  # noqa: D102 - see RemoteStore
        return google.connection().traffic

    def upload(self, key: str, parts: Sequence[memoryview]) -> Upload:  # noqa: D102 - see RemoteStore
        return _Upload(self, self._bucket, key, parts)

    def get(self, key: str, wanted: Wanted) -> bytearray:  # noqa: D102 - see RemoteStore
        if wanted.length == 0:  # the header of a range cannot say so
            wanted.stop(_stat(self._bucket, key).size)
            return bytearray()
        return _download(self._bucket, key, wanted)

    def page(self, prefix: str, start: str, token: str | None) -> Page:  # noqa: D102 - see RemoteStore
        return listed(self._bucket, prefix, start=start, token=token)

    def folders(self, prefix: str = "") -> Iterator[str]:  # noqa: D102 - see Store
        wanted = self._prefix + checked_prefix(prefix, self.uri)
        for page in self.pages(lambda token: listed(self._bucket, wanted, token=token, folders=True)):
            names = (key.removeprefix(self._prefix).removesuffix("/") for key in page.folders)
            yield from filter(is_name, names)

    def remove(self, key: str) -> None:  # noqa: D102 - see RemoteStore
        request("DELETE", f"/storage/v1/b/{quote(self._bucket)}/o/{quote(key, safe='')}")


class _Upload(Upload):
    """The creation of an object, which compares checksums and not bytes.

    Only bytes of ours that arrived damaged, and were stored all the same, are replaced.
    """

    def __init__(self, store: GcsStore, bucket: str, key: str, parts: Sequence[memoryview]) -> None:
        super().__init__(store, key, parts)
        self._bucket = bucket
        self._crc32c = _crc32c(parts)
        self._md5: str | None = None
        self._damaged = 0  # generation of an object that we have stored with other bytes than we have sent

    def send(self) -> None:
        """Send the bytes once."""
        about = {"name": self._key, "crc32c": self._crc32c}
        stored = _upload(self._bucket, about, self._parts, self._damaged)
        if (stored.name, stored.size, stored.crc32c) != (self._key, self._size, self._crc32c):
            self._damaged = stored.generation
            raise Damaged("the answer describes other bytes than were sent")

    def is_there(self) -> bool:
        """Return whether the object in the store has these bytes."""
        return self._is_ours(_stat(self._bucket, self._key))

    def found(self) -> bool | None:
        """Return `is_there`; None if the object is the damaged one that we have stored, to be replaced."""
        found = _stat(self._bucket, self._key)
        same = self._is_ours(found)
        return same if same or found.generation != self._damaged else None

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
    """The service's description of an object."""

    name: str
    size: int
    generation: int
    crc32c: str
    md5: str


_PLAIN = "another program than runwide put it there: store it without a content encoding"
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
    """The parts of a request's body, sent from where they are in memory."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._size = size_of(parts)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Buffer]:
        return gathered(self._parts, _PIECE)


def _range(wanted: Wanted) -> str:
    """Return the header that asks for a part of an object; empty for a whole object."""
    if not wanted.start and wanted.length is None:
        return ""
    return f"bytes={wanted.start}-{'' if wanted.length is None else wanted.start + wanted.length - 1}"


def _download(bucket: str, key: str, wanted: Wanted) -> bytearray:
    headers, part = {"accept-encoding": "identity"}, _range(wanted)
    if part:
        headers["range"] = part
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
        if part:
            _check_range(response, wanted, size)
        elif size >= 0:
            wanted.stop(size)
        # The server sends no checksum with a range; the caller compares it with a digest.
        return _body(response, size, None if part else response.headers.get("x-goog-hash", ""))


def _check_range(response: Any, wanted: Wanted, size: int) -> None:
    """Distinguish an object that ends too early from an answer that does."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != 206 or not found:  # noqa: PLR2004 - partial content
        raise Damaged(f"status {response.status_code} instead of a byte range")
    start, stop = wanted.start, wanted.stop(int(found[3]))
    if (int(found[1]), int(found[2]) + 1, size) != (start, stop, stop - start):
        raise Damaged(f"{size} bytes from {found[1]} instead of {stop - start} from {start}")


def _body(response: Any, size: int, hashes: str | None) -> bytearray:
    """Read the answer's body and compare it with the server's CRC32C, so that damaged bytes are requested again."""
    if size < 0:
        raise Damaged("the answer does not say how long it is")
    content = bytearray(size)
    _fill(response.raw, memoryview(content))
    wanted = _CRC32C.search(hashes or "")
    if wanted and wanted[1] != _crc32c([memoryview(content)]):
        raise Damaged("the bytes do not match the server's CRC32C")
    return content


def _fill(raw: Any, view: memoryview) -> None:
    """Read from the socket into the memory that is returned; urllib3's own reading would copy the bytes twice."""
    # A urllib3 without the response of http.client reads correctly itself, only more slowly.
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


def _crc32c(parts: Sequence[memoryview]) -> str:
    checksum = module("google_crc32c").Checksum()
    for piece in gathered(parts, _PIECE):
        checksum.update(bytes(piece))  # the library takes only bytes
    return base64.b64encode(bytes(checksum.digest())).decode()


_OBJECTS = "fields=items(name,size,timeCreated),nextPageToken"
_FOLDERS = "fields=prefixes,nextPageToken&delimiter=/"  # the names of folders, without the objects in them
_LISTED = frozenset({"items", "kind", "nextPageToken", "prefixes"})
_SECONDS = len("2026-11-24T23:13:08")


def listed(
    bucket: str, prefix: str, *, start: str = "", token: str | None = None, folders: bool = False
) -> Page:
    """Request one page of the objects of a bucket, or of the folders directly below a prefix.

    Args:
        start: The first name; names before it are not listed.
        token: `Page.next` of the page before.
        folders: Whether to list folders instead of objects.

    Raises:
        Damaged: The answer lists other objects, or is not a listing.
    """
    path = _path(bucket, prefix, token, _FOLDERS if folders else _OBJECTS, start)
    answer = json_answer(request("GET", path))
    try:
        found = Page(
            [
                (str(item["name"]), int(item["size"]), _time(item.get("timeCreated")))
                for item in answer.get("items", ())
            ],
            [str(one) for one in answer.get("prefixes", ())],
            answer.get("nextPageToken"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"the answer does not list objects ({error!r})") from error
    names = [*(name for name, _, _ in found.objects), *found.folders]
    if not answer.keys() <= _LISTED or not all(name.startswith(prefix) and name >= start for name in names):
        raise Damaged("the answer lists other objects than were asked for")
    return found


def json_answer(response: Any) -> dict[str, Any]:
    """Return the JSON object in a response; raise `Damaged` if it has none."""
    try:
        answer = json_of(response.content)
    except ValueError as error:
        raise Damaged(f"the answer is not JSON ({error})") from error
    if not isinstance(answer, dict):
        raise Damaged("the answer is not a JSON object")
    return answer


def _path(bucket: str, prefix: str, token: str | None, wanted: str, start: str) -> str:
    after = f"&pageToken={quote(token, safe='')}" if token else ""
    after += f"&startOffset={quote(start, safe='')}" if start else ""
    return f"/storage/v1/b/{quote(bucket)}/o?prefix={quote(prefix, safe='')}&{wanted}{after}"


def _time(text: Any) -> float:
    """Return a time of the service as Unix time; 0 if it is missing or invalid."""
    try:
        return datetime.fromisoformat(f"{str(text)[:_SECONDS]}+00:00").timestamp()
    except ValueError:
        return 0.0
