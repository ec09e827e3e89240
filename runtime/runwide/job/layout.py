"""The place of each item among the shards of a job, in constant time and both ways."""

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

_ROUNDS = 64  # that are drawn at once
_DRAWN = struct.Struct(f"<{_ROUNDS}I")
_FACTORS = 64  # different orders, apart from where they begin


@dataclass(frozen=True, slots=True)
class Layout:
    """Which shard each item is dealt to.

    Each round of consecutive items, one for each shard, is dealt in an order drawn from the seed. So inputs that are sorted
    by size, or periodic, are even, and results arrive roughly in the order of the input. Without a seed, each shard has
    consecutive items.

    Args:
        count: Number of items.
        shards: Number of shards; at most one for each item.
        seed: The text from which the orders are drawn; empty for consecutive items.
        parts: Into how many shards each shard of another layout with this seed is split, item by item: the layout of a job
            whose items are the results of a job with fewer shards.

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
        """How many shards items are dealt to, before these are split."""
        return self.shards // self.parts

    def size(self, shard: int) -> int:
        """Return how many items a shard has; two shards differ by one at most."""
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
        """Return the place of an item among those of its shard."""
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
        """Return the items of a shard, ascending; they are computed as they are looked at.

        Args:
            shard: The shard.
            uri: URI of the job, for the error.

        Raises:
            ShardOutOfRange: The job has no such shard.
        """
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
        """Return the places of items in their shards, sorted, by shard.

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
    """The items of one shard, ascending.

    Args:
        layout: The layout of the job.
        shard: The shard.
    """

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
        """Yield the items from one place to another, which a slice has in a list."""
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
        """Return the place of an item.

        Raises:
            ValueError: It is not one of these.
        """
        if item in self:
            found = self._layout.position_of(item)
            if found in range(*slice(start, stop).indices(self._size)):
                return found
        raise ValueError(f"{item} is no item of shard {self._shard}")


def _order(seed: str, number: int, base: int) -> tuple[int, int]:
    """The order of a round: what a place is multiplied by, and what is added, for its shard."""
    factors = _factors(base)
    block, place = divmod(number, _ROUNDS)
    shift, which = divmod(_drawn(seed, block)[place], len(factors))
    return factors[which][0], shift


def _place(seed: str, number: int, shard: int, base: int) -> int:
    """The place of the item of a round that a shard has."""
    factors = _factors(base)
    block, place = divmod(number, _ROUNDS)
    shift, which = divmod(_drawn(seed, block)[place], len(factors))
    return (shard - shift) * factors[which][1] % base


@lru_cache(maxsize=256)
def _drawn(seed: str, block: int) -> tuple[int, ...]:
    """Numbers for consecutive rounds: a hash for each round would cost more than all the rest."""
    return _DRAWN.unpack(hashlib.shake_128(f"runwide deal {seed}/{block}".encode()).digest(_DRAWN.size))


@lru_cache(maxsize=16)
def _factors(base: int) -> tuple[tuple[int, int], ...]:
    """Factors by which the places of a round are reordered, each with the one that undoes it."""
    found = (one for one in range(1, base, max(1, base // _FACTORS)) if math.gcd(one, base) == 1)
    return tuple((one, pow(one, -1, base)) for one in found) or ((1, 1),)
