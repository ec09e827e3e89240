"""Listings of a Google Cloud Storage bucket, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runwide.parsing import json_of
from runwide.spill.answers import Damaged, mapped
from runwide.spill.google import attempt, request

if TYPE_CHECKING:
    from collections.abc import Iterator

_OBJECTS = "fields=items(name,size,timeCreated),nextPageToken"
_FOLDERS = (
    "fields=prefixes,nextPageToken&delimiter=/"  # what lies in a folder is told by the folder's name alone
)
_LISTED = frozenset({"items", "kind", "nextPageToken", "prefixes"})
_SECONDS = len("2026-11-24T23:13:08")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing.

    Args:
        objects: Name, size and time of writing of each object.
        folders: Names of the folders, with a slash at the end.
        next: What asks for the next page; None at the end.
    """

    objects: list[tuple[str, int, float]]
    folders: list[str]
    next: str | None


def pages(bucket: str, prefix: str, *, uri: str, folders: bool = False, start: str = "") -> Iterator[Page]:
    """List the objects of a bucket whose names start with a prefix, or the folders directly below it.

    Args:
        bucket: The bucket.
        prefix: Start of the names.
        uri: URI of the store, for errors.
        folders: Whether folders are asked for, in the place of objects.
        start: The first name that is wanted; those before it are not listed.

    Raises:
        StoreError: The service refuses, or does not answer.
    """
    token: str | None = None
    while True:
        path = _path(bucket, prefix, token, _FOLDERS if folders else _OBJECTS, start)
        with mapped(uri, writing=False):
            page: Page = attempt(lambda path=path: _page(path, prefix, start), uri=uri)  # type: ignore[misc]  # mypy cannot type a lambda's default
        yield page
        token = page.next
        if not token:
            return


def json_answer(response: Any) -> dict[str, Any]:
    """The object of JSON in a response.

    Raises:
        Damaged: It has none.
    """
    try:
        answer = json_of(response.content)
    except ValueError as error:
        raise Damaged(f"the answer is no JSON ({error})") from error
    if not isinstance(answer, dict):
        raise Damaged("the answer is no object of JSON")
    return answer


def _path(bucket: str, prefix: str, token: str | None, wanted: str, start: str) -> str:
    after = f"&pageToken={quote(token, safe='')}" if token else ""
    after += f"&startOffset={quote(start, safe='')}" if start else ""
    return f"/storage/v1/b/{quote(bucket)}/o?prefix={quote(prefix, safe='')}&{wanted}{after}"


def _page(path: str, prefix: str, start: str) -> Page:
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


def _time(text: Any) -> float:
    """A time of the service's as Unix time; 0 for one that is not told, or is none."""
    try:
        return datetime.fromisoformat(f"{str(text)[:_SECONDS]}+00:00").timestamp()
    except ValueError:
        return 0.0
