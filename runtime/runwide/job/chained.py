"""A job whose items are the results of another one in the same store: they are read where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import FrameCorrupt, InputError
from runwide.job import code, incomplete, manifest
from runwide.job.flow import ahead
from runwide.job.in_order import stored
from runwide.job.layout import Layout
from runwide.job.model import Source
from runwide.job.reference import Reference, is_reference
from runwide.job.task import Part
from runwide.spill.store import open_inside, open_store, without_fields
from runwide.spill.verified import ABSENT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from os import PathLike

    from runwide.job.manifest import Job, Shard
    from runwide.job.task import Packet

_THREADS = 8  # manifests on the way at once
_FEW = 1 << 20  # items that may be walked in any case


@dataclass(frozen=True, slots=True)
class Chain:
    """The results of a job as the items of another one.

    Args:
        job: The job.
        source: The job, as the manifest of the other one names it.
    """

    job: Job
    source: Source

    def __len__(self) -> int:
        return self.job.count

    def layout(self, shards: int, seed: str) -> Layout:
        """Return which shard of the new job has which items: shards read as few chunks of the others as there can be.

        As many shards have the items of the source's. A multiple of that splits each of them. Other numbers are dealt anew.

        Args:
            shards: How many.
            seed: For what is dealt anew; empty for consecutive items.
        """
        theirs = self.job.layout
        if not seed or not theirs.seed:
            return Layout(len(self), shards)
        if shards == theirs.shards:
            return theirs
        base = theirs.shards // theirs.parts
        if shards % base == 0 and len(self) // base >= shards // base:
            return Layout(len(self), shards, theirs.seed, shards // base)
        return Layout(len(self), shards, seed)


def inputs(items: Iterable[Any] | Chain, store: str | PathLike[str]) -> Sequence[Any] | Chain:
    """Return the items of a call as what a job can be made of.

    Args:
        items: Items; or the reference of a job, or of its result, in the same store, whose results are the items.
        store: Where the new job goes.

    Raises:
        InputError: Items of the job that is referred to have failed, or it is in another store.
        JobIncomplete: It has not finished, or its results were removed.
    """
    if isinstance(items, Chain):
        return items
    if isinstance(items, str) and is_reference(items):
        return chain(items, store)
    return items if isinstance(items, Sequence) else list(items)


def chain_if(text: str, store: str | PathLike[str]) -> Chain | None:
    """Return the results that a text refers to as the items of another job; None if they have to be read as values.

    Args:
        text: What was given as the items.
        store: Where the new job goes.

    Raises:
        JobIncomplete: The job has not finished, or its results were removed.
    """
    try:
        return chain(text, store) if is_reference(text) else None
    except InputError:  # in another store; or some have failed, which their reader says
        return None


def chain(reference: str, store: str | PathLike[str]) -> Chain:
    """Return the results of a finished job as the items of another one; see `inputs`."""
    from runwide.job.gather import (
        shards_of,  # which reads values of jobs that are reduced, and so what this module reads
    )

    job, found = shards_of(reference)
    with open_store(without_fields(store)) as root:
        if job.uri.rpartition("/")[0] != root.uri:
            raise InputError(
                f"the job whose results are the items is in another store than {root.uri}",
                uri=job.uri,
                hint="give the store in which it is; or load its results and map over these",
            )
    if job.reduced:
        raise InputError(
            "the job has one value, by its reduce=, and no results to map over",
            uri=job.uri,
            hint="load that value, and give the items that it holds",
        )
    failed = sum(len(shard.failures) for shard, _ in found)
    if failed:
        raise InputError(
            f"{failed} of {job.count} items of the job have failed and have no results to map over",
            uri=job.uri,
            hint=f"run them again (runwide rerun {job.reference}); or load its results with on_error='return', and map "
            "over those that are none of them Failure",
        )
    removed = incomplete.of_results(job, [shard for shard, _ in found])
    if removed is not None:
        raise removed
    return Chain(job, Source(job.id, job.digest, tuple(digest for _, digest in found)))


def uri_of(job: Job) -> str:
    """URI of the folder of the job whose results are the items of another one."""
    return f"{job.uri.rpartition('/')[0]}/{_source(job).id}"


def read_source(job: Job) -> Job:
    """Read the manifest of the job whose results are the items of another one.

    Raises:
        DigestMismatch: It was changed.
        FrameCorrupt: It has other items or shards than the other one says.
    """
    source = _source(job)
    found = manifest.read_job(str(Reference(f"{uri_of(job)}/{manifest.JOB}", source.job)))
    if (found.count, found.shards) != (job.count, len(source.shards)):
        raise FrameCorrupt("the job has other items than the one whose results these are", uri=job.uri)
    return found


def check_count(job: Job) -> None:
    """Hold the number of a job's items against its source, before they are walked; packs bound the number of others.

    A source that was removed says nothing: the shard says so if it needs it.

    Raises:
        DigestMismatch: The source was changed.
        FrameCorrupt: It has another number of items.
    """
    if job.source is not None and job.count > _FEW:
        with suppress(*ABSENT):
            read_source(job)


def frames(job: Job, pending: Sequence[int], *, whole: bool = False) -> Generator[Packet, None, None]:
    """The items of a job as they lie in its source, in ascending order; as `runwide.job.items.frames`."""
    source = read_source(job)
    digests = _source(job).shards
    with open_inside(source.uri) as store:

        def read(index: int) -> Shard:
            return manifest.read_shard(store, source, index, digests[index])[0]

        shards = ahead(read, sorted(source.layout.positions(pending)), threads=_THREADS)
        with closing(stored(store, source, shards, only=pending, whole=whole)) as results:
            for one in results:
                yield one.item, one.digest, Part(one.frame)


@contextmanager
def on_path(job: Job) -> Iterator[None]:
    """Have workers that are started meanwhile import what only the code of a job's source has, if it has a source."""
    if job.source is None:
        yield
        return
    source = read_source(job)
    with open_inside(source.uri) as store, code.on_path(store, source, first=False):
        yield


def come(job: Job) -> None:
    """Have this process import what only the code of a job's source has, if it has a source."""
    if job.source is not None:
        source = read_source(job)
        with open_inside(source.uri) as store:
            code.come(store, source, first=False)


def _source(job: Job) -> Source:
    if job.source is None:
        raise InputError("the items of the job are no results of another one", uri=job.uri)
    return job.source
