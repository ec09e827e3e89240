"""Records of a job, a shard and a result, with the names and contexts of their objects."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from runwide.job.layout import Dealt
from runwide.job.plan import near
from runwide.job.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runwide.job.layout import Layout
    from runwide.records import Failure


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


def item_context(job_id: str, item: int) -> str:
    """Return the context of an item's frame: by the job's id, as its digest is not known yet when items are written."""
    return f"{job_id}/item/{item}"


def result_context(job_digest: str, item: int) -> str:
    """Return the context of a result's frame."""
    return f"{job_digest}/result/{item}"


def node_context(job_digest: str, level: int, index: int) -> str:
    """Return the context of a value in the tree of a job with ``reduce=``."""
    return f"{job_digest}/reduce/{level}/{index}"


JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Pack:
    """An object with consecutive items of a shard.

    Args:
        start: Position of its first item in the shard.
        size: Its size in bytes.
        head: Size of its head in bytes.
        digest: SHA-256 of its head, in hex.
    """

    name: str
    shard: int
    start: int
    count: int
    size: int
    head: int
    digest: str

    @property
    def stop(self) -> int:
        """Position of the item after its last one."""
        return self.start + self.count

    def holds(self, places: Sequence[int]) -> bool:
        """Return whether the pack has an item at one of these positions in its shard, which are sorted."""
        found = bisect_left(places, self.start)
        return found < len(places) and places[found] < self.stop


@dataclass(frozen=True, slots=True)
class Source:
    """A job whose results are the items of another job in the same store.

    Args:
        id: Its id, which is its name in the store.
        job: Digest of its ``job.json``.
        shards: Digests of its shards' manifests, by index.
    """

    id: str
    job: str
    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as in ``job.json``.

    Args:
        uri: URI of the job's folder.
        digest: SHA-256 of ``job.json``, to which all other objects are bound.
        id: Its id, which is its name in the store.
        created: When it was made, ISO 8601 in UTC.
        packs: The packs of items, by shard; none if the items are the results of another job.
        function: Digest of the pickled function.
        function_size: Its size in bytes.
        environment: Versions of Python and packages in the process that made the job.
        packages: Versions of the installed distributions that the function needs, see `runwide.code.distributions`.
        code: Digest of the archive of the program's own code; None if the function needs none.
        code_size: Its size in bytes.
        code_files: JSON with the digest of each file in it.
        source: The job whose results are the items; None if they are in packs.
        reduced: Whether the function has a reduction, so that the result is one value.
        run_key: The key that vouches for the job's other objects in this run, if the user has no signing key.
    """

    uri: str
    digest: str
    id: str
    created: str
    layout: Layout
    packs: tuple[Pack, ...]
    function: str
    function_size: int
    function_name: str
    environment: Mapping[str, str]
    packages: Mapping[str, str]
    code: str | None = None
    code_size: int = 0
    code_files: str = "{}"
    source: Source | None = None
    reduced: bool = False
    run_key: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def count(self) -> int:
        """Number of items."""
        return self.layout.count

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self.layout.shards

    @property
    def reference(self) -> str:
        """The job's reference."""
        return str(Reference(f"{self.uri}/{JOB}", self.digest))

    def items_of(self, index: int) -> Sequence[int]:
        """Return the items of one shard, ascending."""
        return self.layout.items(index, uri=self.uri)

    def shard_of(self, item: int) -> int:
        """Return the shard of an item."""
        return self.layout.shard_of(item)

    def ended_in(self, shard: int, chunk: Chunk) -> Iterator[int]:
        """Return the items of a shard whose ends are in a chunk."""
        items = self.items_of(shard)
        # without `between`, a slice of dealt items would be a list
        parts = (
            items.between(*span) if isinstance(items, Dealt) else items[slice(*span)]
            for span in chunk.positions
        )
        return chain.from_iterable(parts)

    def item_context(self, item: int) -> str:
        """Return the context of an item's frame: of this job, or of the job whose result it is."""
        if self.source is None:
            return item_context(self.id, item)
        return result_context(self.source.job, item)


@dataclass(frozen=True, slots=True)
class Chunk:
    """An object with results of a shard.

    Args:
        name: Its name in the job.
        size: Its size in bytes.
        digest: SHA-256 of its head, in hex.
        positions: The positions in the shard of the items whose ends are in it, as half-open spans.
    """

    name: str
    size: int
    digest: str
    positions: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """Number of these items."""
        return sum(stop - start for start, stop in self.positions)


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard, as in ``shard.json``; equal chunks give equal bytes in every process."""

    index: int
    chunks: tuple[Chunk, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Root:
    """The object with the value of a job with ``reduce=``.

    Args:
        name: Its name in the job.
        digest: SHA-256 of its head, in hex.
    """

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job, as in ``result.json``.

    Args:
        job: Digest of ``job.json``.
        shards: Digests of the shards' manifests, by index.
        root: The value of all results, if the job has a reduction and no item failed.
    """

    job: str
    shards: tuple[str, ...]
    failed: int
    root: Root | None = None
