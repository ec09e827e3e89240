"""Listings of a Google Cloud Storage bucket, page by page."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from runwide.parsing import json_of
from runwide.spill.google import request
from runwide.spill.meaning import Damaged
from runwide.spill.remote import Page

_OBJECTS = "fields=items(name,size,timeCreated),nextPageToken"
_FOLDERS = "fields=prefixes,nextPageToken&delimiter=/"  # the names of folders, without the objects in them
_LISTED = frozenset({"items", "kind", "nextPageToken", "prefixes"})
_SECONDS = len("2026-11-24T23:13:08")


def listed(
    bucket: str, prefix: str, *, start: str = "", token: str | None = None, folders: bool = False
) -> Page:
    """Request one page of the objects of a bucket, or of the folders directly below a prefix.

    Args:
        bucket: The bucket.
        prefix: The beginning of the names.
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
    """Return the JSON object in a response.

    Raises:
        Damaged: The response has none.
    """
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
