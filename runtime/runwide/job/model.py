"""What a job, a shard and a result are, as their manifests describe them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runwide.job import plan
from runwide.job.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runwide.records import Failure

JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Pack:
    """Where consecutive items lie.

    Args:
        name: Name of the pack in the job.
        start: Index of its first item.
        count: Number of its items.
        size: Its size in bytes.
        head: Size of its head in bytes.
        digest: SHA-256 of its head, in hex.
    """

    name: str
    start: int
    count: int
    size: int
    head: int
    digest: str

    @property
    def items(self) -> range:
        """The items in it."""
        return range(self.start, self.start + self.count)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as ``job.json`` describes it.

    Args:
        uri: URI of the job's folder.
        digest: SHA-256 of ``job.json``, to which everything else is bound.
        id: Its name in the store.
        created: When, ISO 8601 in UTC.
        count: Number of items.
        starts: Where each shard starts, and where the last one ends.
        packs: Where the items lie, in order.
        function: Digest of the pickled function.
        function_size: Its size in bytes.
        function_name: Its name, for people.
        environment: What made the job.
        packages: Versions of the installed distributions that the function needs, as `runwide.distributions` names them.
        code: Digest of the archive of the program's own code; None where nothing of it is needed.
        code_size: Its size in bytes.
        code_files: JSON: a digest of each file in it.
        run_key: What vouches for the job's other objects in this run, where the user has no key.
    """

    uri: str
    digest: str
    id: str
    created: str
    count: int
    starts: tuple[int, ...]
    packs: tuple[Pack, ...]
    function: str
    function_size: int
    function_name: str
    environment: Mapping[str, str]
    packages: Mapping[str, str]
    code: str | None = None
    code_size: int = 0
    code_files: str = "{}"
    run_key: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.starts) - 1

    @property
    def reference(self) -> str:
        """The job's reference."""
        return str(Reference(f"{self.uri}/{JOB}", self.digest))

    def items_of(self, index: int) -> range:
        """The items of one shard."""
        return plan.items_of(self.starts, index, uri=self.uri)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A results pack of a shard.

    Args:
        name: Its name in the job.
        size: Its size in bytes.
        digest: SHA-256 of its head, in hex.
        items: The items whose ends are in it, as half-open spans.
    """

    name: str
    size: int
    digest: str
    items: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard, as ``shard.json`` describes it; equal chunks give equal bytes, whoever writes it.

    Args:
        index: Its index.
        chunks: Its results.
        failures: The items that failed for good.
    """

    index: int
    chunks: tuple[Chunk, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job, as ``result.json`` describes it.

    Args:
        job: Digest of ``job.json``.
        shards: Digests of the shards' manifests, by index.
        failed: Number of failed items.
    """

    job: str
    shards: tuple[str, ...]
    failed: int
