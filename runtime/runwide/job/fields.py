"""Read the fields of a job's records, each checked for its type and bounds.

A field that is missing, of another type or out of its bounds raises KeyError, TypeError or ValueError.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from runwide.job.layout import Layout
from runwide.job.model import Root, Source
from runwide.job.plan import PACK_ITEMS
from runwide.naming import kind_of
from runwide.records import Failure, FailureKind
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.job.model import Pack


_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 62
_MOST_ITEMS = 1 << 40
_MOST_SHARDS = 1 << 17  # of a job without packs; otherwise the number of packs is the limit
_LONGEST_SEED = 200  # characters
_NODE = re.compile(r"reduce/\d{2}/\d{6}(-\d{4})?\.pack")
_NAME = re.compile(r"[0-9a-z][0-9a-z-]{0,199}")


def text(value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise TypeError(f"{kind_of(value)} is not a text")
    return value


def record(value: Any) -> dict[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"{kind_of(value)} is not a JSON object")
    return value


def number(value: Any) -> int:
    """Return a count or a position.

    Example:
        >>> number(3)
        3
    """
    if type(value) is not int:
        raise TypeError(f"{kind_of(value)} is not a whole number")
    if not 0 <= value <= _MOST:
        raise ValueError("a number is negative or too large")
    return value


def digest(value: Any) -> str:
    """Return a SHA-256, in hex."""
    if not _DIGEST.fullmatch(text(value)):
        raise ValueError(f"{value[:100]!r} is not a SHA-256")
    return str(value)


def texts(value: Any, *needed: str) -> dict[str, str]:
    """Return a JSON object whose values are texts.

    Args:
        needed: Names that it must have.

    Example:
        >>> texts({"python": "3.11.4"}, "python")
        {'python': '3.11.4'}
    """
    found = {name: text(one) for name, one in record(value).items()}
    missing = [name for name in needed if name not in found]
    if missing:
        raise KeyError(missing[0])
    return found


def layout(about: dict[str, Any]) -> Layout:
    """Return the layout of a job.

    Example:
        >>> layout({"count": 6, "shards": 2, "seed": "", "parts": 1}).shards
        2
    """
    found = Layout(
        number(about.pop("count")), number(about.pop("shards")), text(about.pop("seed")), number(about.pop("parts"))
    )  # fmt: skip
    if about:
        raise ValueError("the layout has unknown fields")
    if not 1 <= found.shards <= found.count <= _MOST_ITEMS or len(found.seed) > _LONGEST_SEED:
        raise ValueError("the layout has an impossible number of shards")
    if found.parts < 1 or found.shards % found.parts or not found.size(found.shards - 1):
        raise ValueError("the layout has shards without items")
    return found


def packs(found: Sequence[Pack], layout: Layout) -> tuple[Pack, ...]:
    """Return packs of items, after checking that they have each item of a layout exactly once.

    So a layout cannot have more shards than there are packs.
    """
    if layout.shards > len(found):
        raise ValueError("the packs do not have all items")
    shard, place = 0, 0
    for pack in found:
        if (pack.shard, pack.start) != (shard, place) or not 1 <= pack.count <= PACK_ITEMS:
            raise ValueError("the packs are not in order")
        place += pack.count
        if place >= layout.size(shard):
            if place > layout.size(shard):
                raise ValueError("a pack has more items than its shard")
            shard, place = shard + 1, 0
    if shard != layout.shards:
        raise ValueError("the packs do not have all items")
    return tuple(found)


def source(about: dict[str, Any] | None, layout: Layout) -> Source | None:
    """Return the job whose results are the items, if there is one."""
    if about is None:
        return None
    found = Source(text(about["id"]), digest(about["job"]), tuple(map(digest, about["shards"])))
    if not _NAME.fullmatch(found.id) or len(about) != len(fields(Source)):
        raise ValueError("the source is not a job")
    if not found.shards or layout.shards > _MOST_SHARDS:
        raise ValueError("the source has an impossible number of shards")
    return found


def truth(value: Any) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{kind_of(value)} is neither true nor false")
    return value


def root(about: dict[str, Any] | None) -> Root | None:
    """Return the object with the value of a job with ``reduce=``, if it has one."""
    if about is None:
        return None
    if not _NODE.fullmatch(text(about["name"])):
        raise ValueError("the name is not that of a value in a tree")
    return Root(about["name"], digest(about["digest"]))


def span(value: Any, count: int) -> tuple[int, int]:
    """Return a half-open span of positions, after checking that it is within bounds.

    Example:
        >>> span([3, 5], 9)
        (3, 5)
    """
    start, stop = map(number, value)
    if not start <= stop <= count:
        raise ValueError(f"the shard has no positions {start} to {stop}")
    return start, stop


# Characters in a manifest; the limits keep the manifest of a shard readable if all of its items have failed.
_TRACEBACK = 8000
_MESSAGE = 2000
_TYPE = 200


def failure_to_json(failure: Failure) -> dict[str, Any]:
    """Return a failure as JSON; long texts are redacted before they are cut, since a cut might hide a secret's form."""
    trace = failure.traceback
    return {
        "attempts": failure.attempts,
        "index": failure.index,
        "kind": failure.kind.value,
        "message": _within(failure.message, _MESSAGE),
        "traceback": trace if len(trace) <= _TRACEBACK else shortened(trace, _TRACEBACK, tail=True),
        "type": _within(failure.type, _TYPE),
    }


def _within(text: str, most: int) -> str:
    return text if len(text) <= most else shortened(text, most)


def failure_from_json(about: dict[str, Any]) -> Failure:
    """Return the failure that `failure_to_json` was given."""
    return Failure(
        index=number(about["index"]),
        kind=FailureKind(text(about["kind"])[:100]),  # an invalid kind is shown in the error
        type=text(about["type"]),
        message=text(about["message"]),
        traceback=text(about["traceback"]),
        attempts=number(about["attempts"]),
    )
