"""Compute the shard and position of each item of a job, and the reverse, in constant time."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, overload

from runwide.errors import ShardOutOfRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ROUNDS = 64  # rounds whose orders are drawn with one hash
_DRAWN = struct.Struct(f"<{_ROUNDS}I")
_FACTORS = 64  # different orders, not counting the offset


@dataclass(frozen=True, slots=True)
class Layout:
    """The division of items into shards.

    Items are dealt in rounds: one item to each shard, in an order drawn from the seed. So the shards are even for inputs
    that are sorted by size or periodic, and results arrive roughly in the order of the input. Without a seed, each shard has
    consecutive items.

    Args:
        count: Number of items.
        shards: Number of shards; at most one for each item.
        seed: The text from which the orders are drawn; empty for consecutive items.
        parts: Number of shards into which each shard of another layout with this seed is split, item by item. It is for a
            job whose items are the results of a job with fewer shards.

    Example:
        >>> layout = Layout(10, 4)
        >>> [list(layout.items(shard)) for shard in range(4)]
        [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
        >>> layout = Layout(10, 4, "seed")
        >>> [list(layout.items(shard)) for shard in range(4)]
        [[2, 4, 9], [1, 7], [0, 6], [3, 5, 8]]
    """

    count: int
    shards: int
    seed: str = ""
    parts: int = 1

    @property
    def _base(self) -> int:
        """Number of shards before they are split."""
        return self.shards // self.parts

    def size(self, shard: int) -> int:
        """Return the number of items of a shard; two shards differ by at most one."""
        if not self.seed:
            size, larger = divmod(self.count, self.shards)
            return size + (shard < larger)
        base = self._base
        size, rest = divmod(self.count, base)
        if rest and _place(self.seed, size, shard % base, base) < rest:
            size += 1
        return -((shard // base - size) // self.parts)

    def shard_of(self, item: int) -> int:
        """Return the shard of an item."""
        if not self.seed:
            size, larger = divmod(self.count, self.shards)
            if item < larger * (size + 1):
                return item // (size + 1)
            return larger + (item - larger * (size + 1)) // size
        base = self._base
        number, place = divmod(item, base)
        factor, shift = _order(self.seed, number, base)
        return (factor * place + shift) % base + base * (number % self.parts)

    def position_of(self, item: int) -> int:
        """Return the position of an item in its shard."""
        if not self.seed:
            return item - self._start(self.shard_of(item))
        return item // self._base // self.parts

    def item(self, shard: int, position: int) -> int:
        """Return the item at a position of a shard."""
        if not self.seed:
            return self._start(shard) + position
        base = self._base
        number = position * self.parts + shard // base
        return number * base + _place(self.seed, number, shard % base, base)

    def items(self, shard: int, *, uri: str | None = None) -> Sequence[int]:
        """Return the items of a shard, ascending; each is computed on access."""
        if not 0 <= shard < self.shards:
            raise ShardOutOfRange(
                f"there is no shard {shard}, the job has {self.shards}",
                uri=uri,
                hint=f"give an index from 0 to {self.shards - 1}",
            )
        if not self.seed:
            start = self._start(shard)
            return range(start, start + self.size(shard))
        return Dealt(self, shard)

    def positions(self, items: Iterable[int]) -> dict[int, list[int]]:
        """Return the positions of items in their shards, by shard and sorted.

        Example:
            >>> Layout(10, 4).positions([9, 1, 8])
            {3: [0, 1], 0: [1]}
        """
        found: dict[int, list[int]] = {}
        for item in items:
            found.setdefault(self.shard_of(item), []).append(self.position_of(item))
        for places in found.values():
            places.sort()
        return found

    def _start(self, shard: int) -> int:
        size, larger = divmod(self.count, self.shards)
        return shard * size + min(shard, larger)


class Dealt(Sequence[int]):
    """The items of one shard, ascending."""

    def __init__(self, layout: Layout, shard: int) -> None:
        self._layout = layout
        self._shard = shard
        self._size = layout.size(shard)

    def __repr__(self) -> str:
        return f"<{self._size} items of shard {self._shard}>"

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> list[int]: ...

    def __getitem__(self, place: int | slice) -> int | list[int]:
        if isinstance(place, slice):
            start, stop, step = place.indices(self._size)
            if step == 1:
                return list(self.between(start, stop))
            return [self._layout.item(self._shard, one) for one in range(start, stop, step)]
        if not -self._size <= place < self._size:
            raise IndexError(f"there is no item {place} of {self._size}")
        return self._layout.item(self._shard, place % self._size)

    def __iter__(self) -> Iterator[int]:
        return self.between(0, self._size)

    def between(self, start: int, stop: int) -> Iterator[int]:
        """Yield the items between two positions; a slice would make a list."""
        layout = self._layout
        base, parts, seed = layout.shards // layout.parts, layout.parts, layout.seed
        part, shard = divmod(self._shard, base)
        factors = _factors(base)
        several = len(factors)
        for first in range(part + start * parts, part + stop * parts, parts):
            block, place = divmod(first, _ROUNDS)
            shift, which = divmod(_drawn(seed, block)[place], several)
            yield first * base + (shard - shift) * factors[which][1] % base

    def __contains__(self, item: object) -> bool:
        return (
            isinstance(item, int)
            and 0 <= item < self._layout.count
            and self._layout.shard_of(item) == self._shard
        )

    def index(self, item: int, start: int = 0, stop: int | None = None) -> int:
        """Return the position of an item."""
        if item in self:
            found = self._layout.position_of(item)
            if found in range(*slice(start, stop).indices(self._size)):
                return found
        raise ValueError(f"item {item} is not in shard {self._shard}")


def _order(seed: str, number: int, base: int) -> tuple[int, int]:
    """Return the order of a round: the factor and the offset that give the shard of a place in it."""
    factors = _factors(base)
    block, place = divmod(number, _ROUNDS)
    shift, which = divmod(_drawn(seed, block)[place], len(factors))
    return factors[which][0], shift


def _place(seed: str, number: int, shard: int, base: int) -> int:
    """Return the place in a round of the item that a shard gets."""
    factors = _factors(base)
    block, place = divmod(number, _ROUNDS)
    shift, which = divmod(_drawn(seed, block)[place], len(factors))
    return (shard - shift) * factors[which][1] % base


@lru_cache(maxsize=256)
def _drawn(seed: str, block: int) -> tuple[int, ...]:
    """Return random numbers for consecutive rounds, from one hash, since a hash for each round would be too slow."""
    return _DRAWN.unpack(hashlib.shake_128(f"runwide deal {seed}/{block}".encode()).digest(_DRAWN.size))


@lru_cache(maxsize=16)
def _factors(base: int) -> tuple[tuple[int, int], ...]:
    """Return factors that reorder the places of a round, each with its inverse."""
    found = (one for one in range(1, base, max(1, base // _FACTORS)) if math.gcd(one, base) == 1)
    return tuple((one, pow(one, -1, base)) for one in found) or ((1, 1),)
