"""Decide which items are grouped together, from counts, sizes and times alone."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, NoItems

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACK_BYTES = 64 << 20  # of a pack of items: few requests, and bounded memory while it is written
PACK_ITEMS = 4096  # keeps an index, which a shard reads whole, at 256 KiB
CHUNK_BYTES = 32 << 20  # of a chunk of results
_FLUSH_SECONDS = (4.0, 0.5)  # in a bucket and in a folder; with the time to write, 5 s and 1 s
_GAP = 100


def shard_count(count: int, shards: int) -> int:
    """Return into how many shards to divide items: the wanted number, and never more than there are items.

    Raises:
        NoItems: There are no items.
        InputError: The wanted number is less than 1, or not a whole number.

    Example:
        >>> shard_count(10, 4), shard_count(2, 4)
        (4, 2)
    """
    if count < 1:
        raise NoItems("there are no items to map over", hint="pass at least one")
    shards = whole_number("shards", shards)
    if shards < 1:
        raise InputError(
            f"invalid shards={shards}: expected 1 or more",
            hint="pass the number of components that should share the work",
        )
    return min(shards, count)


def near(numbers: Iterable[int]) -> list[int]:
    """Return the numbers of records without those that leave a large gap.

    Records are numbered one after another, so a number far behind the others was forged, to count as the last one.

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


def whole_number(name: str, value: Any) -> int:
    """Return an argument as an int; reject other types and bools.

    Example:
        >>> whole_number("shards", 3)
        3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"invalid {name}={value!r}: expected a whole number", hint=f"give {name} as an int")
    return operator.index(value)


def pack_is_full(size: int, count: int) -> bool:
    """Return whether a pack of items should be written before another item is added."""
    return size >= PACK_BYTES or count >= PACK_ITEMS


def chunk_of(sizes: Sequence[int]) -> int:
    """Return how many of the waiting results to put into one chunk: the last one fills it.

    Args:
        sizes: Their sizes in bytes, in order.

    Example:
        >>> chunk_of([1 << 20] * 100), chunk_of([1, 2]), chunk_of([1 << 30, 1])
        (32, 2, 1)
    """
    total = 0
    for count, size in enumerate(sizes, start=1):
        total += size
        if total >= CHUNK_BYTES:
            return count
    return len(sizes)


def flush_after(uri: str) -> float:
    """Return how many seconds a finished result may wait in memory before it is written.

    So it is in a bucket within 5 s, and in a folder, where a write costs almost nothing, within 1 s.

    Example:
        >>> flush_after("gs://bucket/runs"), flush_after("/data/runs")
        (4.0, 0.5)
    """
    bucket, folder = _FLUSH_SECONDS
    return bucket if "://" in uri else folder


def spans(items: Iterable[int]) -> list[list[int]]:
    """Return indices as sorted half-open spans.

    Example:
        >>> spans([4, 0, 1, 2])
        [[0, 3], [4, 5]]
    """
    found: list[list[int]] = []
    for item in sorted(items):
        if found and found[-1][1] == item:
            found[-1][1] = item + 1
        else:
            found.append([item, item + 1])
    return found


def covers(found: Iterable[Sequence[int]], count: int) -> bool:
    """Return whether half-open spans, in any order, have each of ``count`` positions exactly once.

    The positions are not iterated, so this takes no longer for large spans.

    Example:
        >>> covers([[3, 5], [0, 3]], 5), covers([[0, 3], [2, 4]], 5), covers([[0, 2], [3, 6]], 5)
        (True, False, False)
    """
    place = 0
    for start, stop in sorted(map(tuple, found)):
        if start != place:
            return False
        place = stop
    return place == count
