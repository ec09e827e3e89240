"""Which items go together: pure decisions over counts, sizes and times."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, NoItems

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PACK_BYTES = 64 << 20  # an items pack: few requests, yet a bounded amount in memory while it is written
PACK_ITEMS = 4096  # so that an index, which a shard reads whole, stays at 256 KiB
CHUNK_BYTES = 32 << 20  # a results pack
_FLUSH_SECONDS = (4.0, 0.5)  # in a bucket and in a folder; with the time that writing takes, 5 s and 1 s


def shards_of(count: int, shards: int) -> int:
    """How many shards so many items are divided into.

    Args:
        count: Number of items.
        shards: Number of shards wanted; never more than there are items.

    Raises:
        NoItems: There is nothing to divide.
        InputError: Fewer than one shard was asked for.

    Example:
        >>> shards_of(10, 4), shards_of(2, 4)
        (4, 2)
    """
    if count < 1:
        raise NoItems("there are no items to map over", hint="pass at least one")
    shards = whole("shards", shards)
    if shards < 1:
        raise InputError(
            f"shards={shards} is not 1 or more",
            hint="pass the number of components that should share the work",
        )
    return min(shards, count)


def whole(name: str, value: Any) -> int:
    """A number that was given as one.

    Raises:
        InputError: It is none.

    Example:
        >>> whole("shards", 3)
        3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"{name}={value!r} is not a whole number", hint=f"give {name} as an int")
    return operator.index(value)


def pack_is_full(size: int, count: int) -> bool:
    """Whether an items pack should be written before another value goes in."""
    return size >= PACK_BYTES or count >= PACK_ITEMS


def chunk_of(sizes: Sequence[int]) -> int:
    """How many of the waiting results go into one chunk: the last one fills it.

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
    """Seconds for which a finished result may wait in memory until it is written.

    A bucket has each result within 5 s, and a folder, where writing costs next to nothing, within 1 s.

    Args:
        uri: URI of the store.

    Example:
        >>> flush_after("gs://bucket/runs"), flush_after("/data/runs")
        (4.0, 0.5)
    """
    bucket, folder = _FLUSH_SECONDS
    return bucket if "://" in uri else folder


def spans(items: Iterable[int]) -> list[list[int]]:
    """Sorted indices as half-open spans.

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
    """Tell whether half-open spans, in any order, have each of so many places exactly once; none of them is walked.

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


def members(found: Iterable[Sequence[int]]) -> Iterator[int]:
    """The indices of half-open spans.

    Example:
        >>> list(members([[0, 3], [4, 5]]))
        [0, 1, 2, 4]
    """
    for start, stop in found:
        yield from range(start, stop)
