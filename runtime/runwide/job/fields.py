"""Fields of a job's records, each of its type and in its bounds: who can write to the store may have put anything there."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from runwide.job.layout import Layout
from runwide.job.model import Root, Source
from runwide.job.plan import PACK_ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.job.model import Pack

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 62
_GAP = 100
_MOST_ITEMS = 1 << 40
_MOST_SHARDS = 1 << 17  # of a job without packs, which bound the number of others
_LONGEST_SEED = 200  # characters
_NODE = re.compile(r"reduce/\d{2}/\d{6}(-\d{4})?\.pack")
_NAME = re.compile(r"[0-9a-z][0-9a-z-]{0,199}")


def text(value: Any) -> str:
    """A text.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} is not a text")
    return value


def record(value: Any) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} is not an object of JSON")
    return value


def number(value: Any) -> int:
    """A whole number that counts something, or is a place.

    Raises:
        TypeError: It is none.
        ValueError: It counts nothing.

    Example:
        >>> number(3)
        3
    """
    if type(value) is not int:
        raise TypeError(f"a {type(value).__name__} is not a whole number")
    if not 0 <= value <= _MOST:
        raise ValueError("a number counts nothing that there is")
    return value


def digest(value: Any) -> str:
    """A SHA-256, in hex.

    Raises:
        TypeError: It is no text.
        ValueError: It is another one.
    """
    if not _DIGEST.fullmatch(text(value)):
        raise ValueError(f"{value[:100]!r} is not a SHA-256")
    return str(value)


def texts(value: Any, *needed: str) -> dict[str, str]:
    """Texts by name.

    Args:
        value: What the record says.
        needed: Names that must be among them.

    Raises:
        TypeError: They are none.
        KeyError: One of the names is missing.

    Example:
        >>> texts({"python": "3.11.4"}, "python")
        {'python': '3.11.4'}
    """
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} has no names")
    found = {name: text(one) for name, one in value.items()}
    missing = [name for name in needed if name not in found]
    if missing:
        raise KeyError(missing[0])
    return found


def layout(about: dict[str, Any]) -> Layout:
    """The layout of a job.

    Args:
        about: What the record says.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
        ValueError: There is no such layout.

    Example:
        >>> layout({"count": 6, "shards": 2, "seed": "", "parts": 1}).shards
        2
    """
    found = Layout(
        number(about.pop("count")), number(about.pop("shards")), text(about.pop("seed")), number(about.pop("parts"))
    )  # fmt: skip
    if about:
        raise ValueError("the layout says more than there is")
    if not 1 <= found.shards <= found.count <= _MOST_ITEMS or len(found.seed) > _LONGEST_SEED:
        raise ValueError("the layout has no such number of shards")
    if found.parts < 1 or found.shards % found.parts or not found.size(found.shards - 1):
        raise ValueError("the layout has shards without items")
    return found


def packs(found: Sequence[Pack], layout: Layout) -> tuple[Pack, ...]:
    """Packs of items, once they have each item of a layout exactly once; so it has no more shards than there are packs.

    Raises:
        ValueError: They do not.
    """
    if layout.shards > len(found):
        raise ValueError("the packs do not have all items")
    shard, place = 0, 0
    for pack in found:
        if (pack.shard, pack.start) != (shard, place) or not 1 <= pack.count <= PACK_ITEMS:
            raise ValueError("the packs are in no order")
        place += pack.count
        if place >= layout.size(shard):
            if place > layout.size(shard):
                raise ValueError("a pack has more items than its shard")
            shard, place = shard + 1, 0
    if shard != layout.shards:
        raise ValueError("the packs do not have all items")
    return tuple(found)


def source(about: dict[str, Any] | None, layout: Layout) -> Source | None:
    """The job whose results are the items, if there is one.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
        ValueError: There is no such job.
    """
    if about is None:
        return None
    found = Source(text(about["id"]), digest(about["job"]), tuple(map(digest, about["shards"])))
    if not _NAME.fullmatch(found.id) or len(about) != len(fields(Source)):
        raise ValueError("there is no job of such a name")
    if not found.shards or layout.shards > _MOST_SHARDS:
        raise ValueError("no job has such a number of shards")
    return found


def truth(value: Any) -> bool:
    """A yes or no.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"a {type(value).__name__} is neither true nor false")
    return value


def root(about: dict[str, Any] | None) -> Root | None:
    """Where the value of a job that is reduced lies, if it is.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
        ValueError: No value has such a name.
    """
    if about is None:
        return None
    if not _NODE.fullmatch(text(about["name"])):
        raise ValueError("no value of a tree has such a name")
    return Root(about["name"], digest(about["digest"]))


def near(numbers: Iterable[int]) -> list[int]:
    """Numbers of records that are written one after another: what lies far behind the others was planted to be the last.

    Example:
        >>> near([0, 2, 1, 999_999])
        [0, 1, 2]
    """
    found: list[int] = []
    for one in sorted(numbers):
        if one > (found[-1] if found else 0) + _GAP:
            break
        found.append(one)
    return found


def span(value: Any, count: int) -> tuple[int, int]:
    """A half-open span of places: walked only if it lies among those that there are.

    Args:
        value: What the record says.
        count: How many places there are.

    Raises:
        ValueError: It lies elsewhere.

    Example:
        >>> span([3, 5], 9)
        (3, 5)
    """
    start, stop = map(number, value)
    if not start <= stop <= count:
        raise ValueError(f"the shard has no places {start} to {stop}")
    return start, stop
