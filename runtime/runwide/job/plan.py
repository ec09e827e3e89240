"""Which items go together: pure decisions over counts, sizes and times."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError, NoItems, ShardOutOfRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PACK_BYTES = 64 << 20  # an items pack: few requests, yet a bounded amount in memory while it is written
PACK_ITEMS = 4096  # so that an index, which a shard reads whole, stays at 256 KiB
CHUNK_BYTES = 32 << 20  # a results pack
_FLUSH_SHARE = (
    0.02  # of the time so far: a killed shard loses about two percent, and a long one writes few chunks
)
_FLUSH_SECONDS = (5.0, 60.0)


def bounds(count: int, shards: int) -> list[int]:
    """Where each shard starts, and where the last one ends; sizes differ by one at most.

    Args:
        count: Number of items.
        shards: Number of shards wanted; never more than items come out.

    Raises:
        NoItems: There is nothing to divide.
        InputError: Fewer than one shard was asked for.

    Example:
        >>> bounds(10, 4)
        [0, 3, 6, 8, 10]
    """
    if count < 1:
        raise NoItems("there are no items to map over", hint="pass at least one")
    shards = whole("shards", shards)
    if shards < 1:
        raise InputError(
            f"shards={shards} is not 1 or more",
            hint="pass the number of components that should share the work",
        )
    size, larger = divmod(count, min(shards, count))
    starts = [0]
    for index in range(min(shards, count)):
        starts.append(starts[-1] + size + (index < larger))
    return starts


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


def items_of(starts: Sequence[int], index: int, *, uri: str | None = None) -> range:
    """The items of one shard.

    Raises:
        ShardOutOfRange: The job has no such shard.

    Example:
        >>> items_of([0, 3, 6], 1)
        range(3, 6)
    """
    shards = len(starts) - 1
    if not 0 <= index < shards:
        raise ShardOutOfRange(
            f"there is no shard {index}, the job has {shards}",
            uri=uri,
            hint=f"give an index from 0 to {shards - 1}",
        )
    return range(starts[index], starts[index + 1])


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


def flush_after(elapsed: float) -> float:
    """Seconds for which a finished result may wait in memory, ``elapsed`` seconds into the shard.

    Example:
        >>> flush_after(0), flush_after(1000), flush_after(86400)
        (5.0, 20.0, 60.0)
    """
    least, most = _FLUSH_SECONDS
    return min(most, max(least, _FLUSH_SHARE * elapsed))


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


def members(found: Iterable[Sequence[int]]) -> Iterator[int]:
    """The indices of half-open spans.

    Example:
        >>> list(members([[0, 3], [4, 5]]))
        [0, 1, 2, 4]
    """
    for start, stop in found:
        yield from range(start, stop)
