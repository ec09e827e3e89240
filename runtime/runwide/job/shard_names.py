"""Names of a shard's objects in its job's folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runwide.job.plan import near

if TYPE_CHECKING:
    from collections.abc import Iterable

_MANIFEST = re.compile(r"shards/(\d{4,9})/shard(?:-(\d{4,9}))?\.json")


def shard_folder(index: int) -> str:
    """Return the name of a shard's folder in the job.

    Example:
        >>> shard_folder(7)
        'shards/0007'
    """
    return f"shards/{index:04d}"


def shard_name(index: int, number: int = 0) -> str:
    """Return the name of a shard's manifest in the job; later ones have a number, since no manifest is replaced.

    Example:
        >>> shard_name(7), shard_name(7, 2)
        ('shards/0007/shard.json', 'shards/0007/shard-0002.json')
    """
    return f"{shard_folder(index)}/shard{f'-{number:04d}' if number else ''}.json"


def manifests_in(names: Iterable[str]) -> dict[int, list[int]]:
    """Return the numbers of each shard's manifests in a listing, the last one first.

    Example:
        >>> manifests_in(["shards/0007/shard.json", "shards/0007/shard-0002.json", "job.json"])
        {7: [2, 0]}
    """
    found: dict[int, list[int]] = {}
    for name in names:
        match = _MANIFEST.fullmatch(name)
        if match and name == shard_name(int(match[1]), int(match[2] or 0)):
            found.setdefault(int(match[1]), []).append(int(match[2] or 0))
    return {index: near(numbers)[::-1] for index, numbers in found.items()}
