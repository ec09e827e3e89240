"""Jobs whose items are the results of another job in the same store; the results are not copied."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.errors import FrameCorrupt, InputError
from runwide.job import code, incomplete, manifest, model
from runwide.job.flow import ahead
from runwide.job.in_order import stored
from runwide.job.layout import Layout
from runwide.job.model import Source
from runwide.job.reference import Reference, is_reference
from runwide.job.task import Part
from runwide.store.base import open_inside, open_store, without_fields
from runwide.store.records import ABSENT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from os import PathLike

    from runwide.job.model import Job, Shard
    from runwide.job.task import Packet

_THREADS = 8  # manifests that are read at once
_FEW = 1 << 20  # items that may be iterated without a check of their number


@dataclass(frozen=True, slots=True)
class Chain:
    """The results of a job as the items of a new job.

    Args:
        source: The record of it in the manifest of the new job.
    """

    job: Job
    source: Source

    def __len__(self) -> int:
        return self.job.count

    def layout(self, shards: int, seed: str) -> Layout:
        """Return a layout of the new job in which each shard reads as few chunks of results as possible.

        With the same number of shards, each has the items of one shard of the source. With a multiple of it, each shard of
        the source is split. With other numbers, the items are dealt by a new seed.

        Args:
            seed: The new seed; empty for consecutive items.
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
    """Return the items of a call in a form from which a job can be made.

    Args:
        items: Items; or the reference of a job, or of its result, in the same store, whose results are the items.

    Raises:
        InputError: Items of the referenced job have failed, or it is in another store.
        JobIncomplete: It has not finished, or its results were removed.
    """
    if isinstance(items, Chain):
        return items
    if isinstance(items, str) and is_reference(items):
        return chain(items, store)
    return items if isinstance(items, Sequence) else list(items)


def chain_if(text: str, store: str | PathLike[str]) -> Chain | None:
    """Return the results that a text refers to as the items of a new job; None if they must be read as values."""
    try:
        return chain(text, store) if is_reference(text) else None
    except InputError:  # it is in another store; or items have failed, and reading the results reports it
        return None


def chain(reference: str, store: str | PathLike[str]) -> Chain:
    """Return the results of a finished job as the items of a new job; see `inputs`."""
    from runwide.job._gather import shards_of  # it imports this module

    job, found = shards_of(reference)
    with open_store(without_fields(store)) as root:
        if job.uri.rpartition("/")[0] != root.uri:
            raise InputError(
                f"the job whose results are the items is in another store than {root.uri}",
                uri=job.uri,
                hint="give the store of that job; or load its results and map over them",
            )
    if job.reduced:
        raise InputError(
            "the job has reduce=, so it has one value and no results to map over",
            uri=job.uri,
            hint="load that value, and give the items in it",
        )
    failed = sum(len(shard.failures) for shard, _ in found)
    if failed:
        raise InputError(
            f"{failed} of {job.count} items of the job have failed and have no results to map over",
            uri=job.uri,
            hint=f"run them again (runwide rerun {job.reference}); or load its results with on_error='return', and map "
            "over the results that are not a Failure",
        )
    removed = incomplete.of_results(job, [shard for shard, _ in found])
    if removed is not None:
        raise removed
    return Chain(job, Source(job.id, job.digest, tuple(digest for _, digest in found)))


def _read_source(job: Job, source: Source) -> Job:
    """Read the manifest of the job whose results are a job's items."""
    uri = f"{job.uri.rpartition('/')[0]}/{source.id}/{model.JOB}"
    found = manifest.read_job(str(Reference(uri, source.job)))
    if (found.count, found.shards) != (job.count, len(source.shards)):
        raise FrameCorrupt("the job has another number of items than its source job", uri=job.uri)
    return found


def check_source(job: Job) -> None:
    """Compare the number of a job's items with its source, before they are iterated; in other jobs, packs limit the number.

    A removed source is ignored here; a shard that needs it raises the error.
    """
    if job.source is not None and job.count > _FEW:
        with suppress(*ABSENT):
            _read_source(job, job.source)


def source_frames(
    job: Job, about: Source, pending: Sequence[int], *, whole: bool = False
) -> Generator[Packet, None, None]:
    """Yield the frames of a job's items from its source, in ascending order; see `runwide.job.reading.frames`."""
    source = _read_source(job, about)
    with open_inside(source.uri) as store:

        def read(index: int) -> Shard:
            return manifest.read_shard(store, source, index, about.shards[index])[0]

        shards = ahead(read, sorted(source.layout.positions(pending)), threads=_THREADS)
        with closing(stored(store, source, shards, only=pending, whole=whole)) as results:
            for one in results:
                yield one.item, one.digest, Part(one.frame)


@contextmanager
def source_on_path(job: Job) -> Iterator[None]:
    """Make the code of a job's source, if it has one, importable in workers that start during the block.

    Modules of the same name in the job's own code come first.
    """
    if job.source is None:
        yield
        return
    source = _read_source(job, job.source)
    with open_inside(source.uri) as store, code.on_path(store, source, first=False):
        yield


def use_source(job: Job) -> None:
    """Make the code of a job's source, if it has one, importable in this process; other code comes first."""
    if job.source is not None:
        source = _read_source(job, job.source)
        with open_inside(source.uri) as store:
            code.use(store, source, first=False)
