"""Store a function and its items, so that other components can run them."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from runwide.api.functions import reduce_of
from runwide.code.archive import code_of
from runwide.errors import ItemNotPicklable, StoreError
from runwide.job import chained, environment, manifest, model, plan
from runwide.job.chained import Chain
from runwide.job.flow import Behind
from runwide.job.layout import Layout
from runwide.job.reference import Reference
from runwide.log import Log
from runwide.naming import full_name_of, kind_of
from runwide.pickling.functions import NOTHING, Needs
from runwide.pickling.items import Definitions
from runwide.pickling.unpicklable import refusal
from runwide.store import pack
from runwide.store.base import open_store, without_fields
from runwide.store.buffers import sha256
from runwide.store.codec import encode
from runwide.store.file import spilled_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from os import PathLike

    from runwide.code.archive import Code
    from runwide.store.codec import Encoded

log = Log("job")

_WRITERS = 4  # packs that are written at once; with their size this limits the memory


def scatter(
    function: Callable[[Any], Any], items: Iterable[Any], *, store: str | PathLike[str], shards: int
) -> str:
    """Store a map as a job, to be run by `shard` in other processes and read back by `gather`.

    Args:
        function: Takes one item. Closures, lambdas and nested functions are fine.
        items: The input; each item is pickled on its own. Or the reference of a job, or of its result, in the same store:
            then its results are the items, and are not copied.
        store: The store: ``gs://bucket/prefix`` or a directory that all components can read.
        shards: Number of components that share the work; if there are fewer items, one for each item.

    Returns:
        The job's reference: its URI and the digest to which its other objects are bound.

    Raises:
        NoItems: There are no items.
        FunctionNotPicklable: The function, or something that it closes over, cannot be pickled.
        ItemNotPicklable: An item cannot be pickled; ``error.item`` is its index.
        JobIncomplete: The job whose results are the items has not finished.
        StoreNotFound: The bucket does not exist.
        StoreNotWritable: This process may not write there.

    Example:
        >>> job = scatter(lambda x: x * x, [1, 2, 3], store="memory://doc-scatter", shards=2)
        >>> job.startswith("memory://doc-scatter/")
        True
    """
    from runwide.pickling.functions import function_pickle

    made = function_pickle(function)
    return scatter_pickled(
        made.data, items, store=store, shards=shards, name=full_name_of(function), needs=made.needs,
        reduced=reduce_of(function) is not None,
    )  # fmt: skip


def prepare(function: bytes, *, store: str | PathLike[str]) -> str:
    """Write the function of a job whose items still arrive, and return the job's id, for `scatter_pickled`.

    So a store that cannot be written to raises now.
    """
    job_id = new_job_id()
    with open_store(without_fields(store)) as root, root.sub(job_id) as folder:
        folder.create(manifest.FUNCTION, function)
    return job_id


def scatter_pickled(
    function: bytes,
    items: Iterable[Any] | Chain,
    *,
    store: str | PathLike[str],
    shards: int,
    name: str = "?",
    job_id: str | None = None,
    needs: Needs = NOTHING,
    whole: Sequence[str] = (),
    base: Code | None = None,
    dealt: bool = True,
    reduced: bool = False,
) -> str:
    """Store a map as `scatter` does, with a function that is already pickled.

    Args:
        function: The pickle, written by cloudpickle.
        name: The function's name, for people.
        job_id: The id that `prepare` returned.
        whole: Further modules of the program that go with the job, see `runwide.code.archive.code_of`.
        base: The program's own code in this process, if it came with another job.
        dealt: Whether items are dealt to the shards in rounds; otherwise each shard has consecutive items.
        reduced: Whether the function has a reduction (`program_of`); then each shard has consecutive items.
    """
    inputs = items if isinstance(items, Chain) else chained.inputs(items, store)
    inputs = list(inputs) if isinstance(inputs, deque) else inputs  # indexing a deque is slow
    divided = plan.shard_count(len(inputs), shards)
    if divided < shards:
        log.info("shards.reduced", wanted=shards, shards=divided, items=len(inputs))
    fresh = job_id is None
    job_id = job_id or new_job_id()
    layout = _layout(inputs, divided, job_id if dealt and not reduced and divided > 1 else "")
    with open_store(without_fields(store)) as root, root.sub(job_id) as folder:
        with Behind(threads=_WRITERS) as behind, spilled_to(folder):
            if fresh:
                behind.submit(folder.create, manifest.FUNCTION, function)
            definitions = Definitions(needs.by_name)
            packs: list[model.Pack] = []
            if not isinstance(inputs, Chain):
                for about, packed in packs_of(inputs, layout, job_id, definitions):
                    behind.submit(folder.create, about.name, packed.parts)
                    packs.append(about)
            code = code_of(needs | Needs(frozenset(definitions.modules)), whole=whole, base=base)
            if code is not None:
                behind.submit(folder.create, manifest.CODE, code.archive)
        job = model.Job(
            uri=folder.uri,
            digest="",
            id=job_id,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            layout=layout,
            packs=tuple(packs),
            source=inputs.source if isinstance(inputs, Chain) else None,
            reduced=reduced,
            function=sha256(function),
            function_size=len(function),
            function_name=name,
            environment=environment.current(),
            packages=environment.packages(function),
            **({} if code is None else code.fields()),
        )
        data = manifest.job_bytes(job)
        folder.create(model.JOB, data)
    size = sum(one.size for one in packs)
    log.info("job.scattered", job=job_id, items=job.count, shards=job.shards, bytes=size, uri=folder.uri)
    return str(Reference(f"{folder.uri}/{model.JOB}", sha256(data)))


def _layout(items: Sequence[Any] | Chain, shards: int, seed: str) -> Layout:
    return items.layout(shards, seed) if isinstance(items, Chain) else Layout(len(items), shards, seed)


def new_job_id() -> str:
    """Return a new job id, which sorts by time after its first character.

    The first character comes from a hash: ids that begin with the time would all be on one of the bucket's servers.
    """
    rest = f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime())}-{os.urandom(8).hex()}"
    return f"{hashlib.sha256(rest.encode()).hexdigest()[0]}-{rest}"


def packs_of(
    items: Sequence[Any], layout: Layout, job_id: str, definitions: Definitions
) -> Iterator[tuple[model.Pack, pack.Packed]]:
    """Yield the items as packs of a job, each with items of one shard; equal items give equal packs."""
    number = 0
    for shard in range(layout.shards):
        start = 0
        for members in _filled(items, layout.items(shard), job_id, definitions):
            name = f"items/{number:04d}.pack"
            packed = pack.build(members, job=job_id, slot=name)
            head = packed.head
            yield (
                model.Pack(name, shard, start, len(members), packed.size, head.size, head.digest),
                packed,
            )
            number, start = number + 1, start + len(members)


def _filled(
    items: Sequence[Any], wanted: Iterable[int], job_id: str, definitions: Definitions
) -> Iterator[list[pack.Member]]:
    members: list[pack.Member] = []
    size = 0
    for index in wanted:
        value = encoded(items[index], index, job_id, definitions)
        members.append(pack.Member(index, value))
        size += value.size
        if plan.pack_is_full(size, len(members)):
            yield members
            members, size = [], 0
    if members:
        yield members


def encoded(item: Any, index: int, job_id: str, definitions: Definitions) -> Encoded:
    """Return the frame of an item, bound to its job and index; equal items give equal frames in every process.

    Args:
        definitions: Definitions that the pickles of the job's items share; empty at first.
    """
    try:
        return encode(item, context=model.item_context(job_id, index), definitions=definitions)
    except StoreError:  # a `File` could not be stored
        raise
    except Exception as error:
        raise ItemNotPicklable(
            refusal(kind_of(item), error, item),
            item=index,
            hint="pass plain data or arrays, and open files and connections inside the function",
        ) from error
