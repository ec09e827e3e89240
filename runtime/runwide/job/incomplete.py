"""Errors of jobs with parts that are not in the store, and how to complete them."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from runwide.errors import JobIncomplete, StoreError
from runwide.job import manifest, plan
from runwide.job.reference import quoted
from runwide.store.base import open_inside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from runwide.job.model import Job, Shard

_SHOWN = 10  # numbers or names in one message
_WALKED = 10_000  # items of a job without packs that are iterated for one message
_AGAIN = "call the map, or run the pipeline, again; give another name=, if it has one"


def of_shards(job: Job, missing: Sequence[int], what: str) -> JobIncomplete:
    """Return the error of shards without results.

    Args:
        what: What the message says about them, such as ``have not finished``.
    """
    items = _items(job, missing)
    return JobIncomplete(
        f"{len(missing)} of {job.shards} shards {what}: {_listed(map(str, missing))} (items {_spans(items)})",
        uri=job.uri,
        hint=_remedy(job, missing, items, _names(job)),
    )


def of_results(
    job: Job, shards: Iterable[Shard], names: Collection[str] | None = None
) -> JobIncomplete | None:
    """Return the error of results that were removed after their shards had finished; None if all are there."""
    names = _names(job) if names is None else names
    if names is None:
        return None
    found = {
        shard.index: [chunk for chunk in shard.chunks if chunk.positions and chunk.name not in names]
        for shard in shards
    }
    missing = [index for index, chunks in found.items() if chunks]
    if not missing:
        return None
    count = sum(chunk.count for chunks in found.values() for chunk in chunks)
    items = _first(job, (job.ended_in(index, chunk) for index in missing for chunk in found[index]))
    return JobIncomplete(
        f"the results of {count} of {job.count} items were removed from the store: items {_spans(items)} "
        f"(shards: {_listed(map(str, missing))})",
        uri=job.uri,
        hint=_remedy(job, missing, items, names),
    )


def of_inputs(job: Job, pending: Sequence[int]) -> JobIncomplete | None:
    """Return the error of a shard whose function or items were removed from the store; None if all are there."""
    removed = _removed(job, pending, _names(job))
    if not removed and job.source is not None:
        return JobIncomplete(
            f"results of the job {job.source.id!r} were removed from the store, so items {_spans(pending)}, which are these "
            "results, cannot be run",
            uri=job.uri,
            hint=_AGAIN,
        )
    if not removed:
        return None
    return JobIncomplete(
        f"{_listed(removed)} of the job was removed from the store, so items {_spans(pending)} cannot be run",
        uri=job.uri,
        hint=_AGAIN,
    )


def has_result(job: Job) -> bool:
    """Return whether a job has a result in the store, which means that all its shards had finished."""
    return any(map(manifest.is_result, _names(job) or ()))


def is_whole(shard: Shard, names: Collection[str]) -> bool:
    """Return whether a listing has all chunks that a shard's manifest names."""
    return all(chunk.name in names for chunk in shard.chunks if chunk.positions)


def _remedy(job: Job, shards: Sequence[int], items: Sequence[int], names: Collection[str] | None) -> str:
    """Return how to run shards again: from the store, if it has their function and their items."""
    removed = _removed(job, items, names)
    if removed:
        return f"they cannot be run from the store, since {_listed(removed)} was removed as well: {_AGAIN}"
    reference = quoted(job.reference)
    others = f", and so for {_listed(map(str, shards[1:]))}" if shards[1:] else ""
    return (
        f"run them (runwide shard {reference} {shards[0]}{others}), gather again (runwide gather {reference}) and load what "
        "that returns; or make the same call with its name= again; finished chunks are kept"
    )


def _removed(job: Job, items: Sequence[int], names: Collection[str] | None) -> list[str]:
    """Return the missing objects without which items cannot be run."""
    if names is None:
        return []
    wanted = job.layout.positions(items)
    code = [] if job.code is None else [manifest.CODE]
    needed = [
        manifest.FUNCTION,
        *code,
        *(one.name for one in job.packs if one.holds(wanted.get(one.shard, ()))),
    ]
    return [name for name in needed if name not in names]


def _items(job: Job, shards: Sequence[int]) -> list[int]:
    return _first(job, (job.items_of(index) for index in shards))


def _first(job: Job, found: Iterable[Iterable[int]]) -> list[int]:
    """Return the items of shards or chunks; only the first ones if there are no packs, which limit their number."""
    items = chain.from_iterable(found)
    return list(items if job.source is None else islice(items, _WALKED))


def _names(job: Job) -> set[str] | None:
    """Return the names of a job's objects; None if they cannot be listed."""
    try:
        with open_inside(job.uri) as store:
            return {info.name for info in store.list()}
    except StoreError:  # the permission to read does not include listing
        return None


def _spans(items: Sequence[int]) -> str:
    return _listed(
        str(start) if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in plan.spans(items)
    )


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    return ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
