"""Spill a function and its items, so that other components can run them."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from runwide.archive import code_of
from runwide.calls import reduce_of
from runwide.errors import ItemNotPicklable, StoreError
from runwide.function_pickle import NOTHING, Needs
from runwide.item_definitions import Definitions
from runwide.job import chained, contexts, environment, manifest, plan
from runwide.job.chained import Chain
from runwide.job.flow import Behind
from runwide.job.layout import Layout
from runwide.job.reference import Reference
from runwide.log import Log
from runwide.naming import full_name_of
from runwide.spill import pack
from runwide.spill.buffers import sha256
from runwide.spill.codec import encode
from runwide.spill.file import spilled_to
from runwide.spill.store import open_store, without_fields
from runwide.unpicklable import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from os import PathLike

    from runwide.archive import Code
    from runwide.spill.codec import Encoded
    from runwide.spill.store import Store

log = Log("job")

_WRITERS = 4  # packs on the way at once; with their size this bounds the memory


def scatter(
    function: Callable[[Any], Any], items: Iterable[Any], *, store: str | PathLike[str], shards: int
) -> str:
    """Spill a map, to be run by `shard` in other processes and read back by `gather`.

    Args:
        function: Takes one item. Closures, lambdas and nested functions are fine.
        items: The input; each item travels on its own. Or the reference of a job, or of its result, in the same store: its
            results are the items, and are read where they lie.
        store: Where: ``gs://bucket/prefix`` or a directory that all components see.
        shards: Number of components that share the work; with fewer items, one each.

    Returns:
        The job's reference: where it lies and the digest to which everything is bound.

    Raises:
        NoItems: There are none.
        FunctionNotPicklable: The function, or something that it closes over, cannot be sent.
        ItemNotPicklable: An item cannot; ``error.item`` is its index.
        JobIncomplete: The job whose results are the items has not finished.
        StoreNotFound: The bucket does not exist.
        StoreNotWritable: This process may not write there.

    Example:
        >>> job = scatter(lambda x: x * x, [1, 2, 3], store="memory://doc-scatter", shards=2)
        >>> job.startswith("memory://doc-scatter/")
        True
    """
    from runwide.pickled import function_pickle

    made = function_pickle(function)
    return scatter_pickled(
        made.data, items, store=store, shards=shards, name=full_name_of(function), needs=made.needs,
        reduced=reduce_of(function) is not None,
    )  # fmt: skip


def prepared(function: bytes, *, store: str | PathLike[str]) -> str:
    """Write the function of a job whose items are still coming, which also shows that the store can be written.

    Returns:
        The job's id, for `scatter_pickled`.
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
    """As `scatter`, for a function that is pickled already.

    Args:
        function: cloudpickle's bytes of it.
        items: As for `scatter`.
        store: As for `scatter`.
        shards: As for `scatter`.
        name: The function's name, for people.
        job_id: The id of a job that was `prepared`.
        needs: What the function needs of the program's own code.
        whole: What else of that travels, see `runwide.archive.code_of`.
        base: Code that has arrived in this process.
        dealt: Whether items are dealt to the shards in rounds; else each shard has consecutive ones.
        reduced: Whether the function has a reduction (`runwide.calls.program_of`); each shard has consecutive items then.
    """
    inputs = items if isinstance(items, Chain) else chained.inputs(items, store)
    inputs = list(inputs) if isinstance(inputs, deque) else inputs  # whose items are found one by one
    divided = plan.shards_of(len(inputs), shards)
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
            packs: tuple[manifest.Pack, ...] = ()
            if not isinstance(inputs, Chain):
                packs = tuple(_spilled(inputs, layout, job_id, folder, behind, definitions=definitions))
            code = code_of(needs | Needs(frozenset(definitions.modules)), whole=whole, base=base)
            if code is not None:
                behind.submit(folder.create, manifest.CODE, code.archive)
        job = manifest.Job(
            uri=folder.uri,
            digest="",
            id=job_id,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            layout=layout,
            packs=packs,
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
        folder.create(manifest.JOB, data)
    size = sum(one.size for one in packs)
    log.info("job.scattered", job=job_id, items=job.count, shards=job.shards, bytes=size, uri=folder.uri)
    return str(Reference(f"{folder.uri}/{manifest.JOB}", sha256(data)))


def _layout(items: Sequence[Any] | Chain, shards: int, seed: str) -> Layout:
    return items.layout(shards, seed) if isinstance(items, Chain) else Layout(len(items), shards, seed)


def new_job_id() -> str:
    """A unique name that sorts by time after its first character.

    The first character is a hash's: names that all begin with the time would land on one of the bucket's servers.
    """
    rest = f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime())}-{os.urandom(8).hex()}"
    return f"{hashlib.sha256(rest.encode()).hexdigest()[0]}-{rest}"


def _spilled(
    items: Sequence[Any],
    layout: Layout,
    job_id: str,
    folder: Store,
    behind: Behind,
    *,
    definitions: Definitions,
) -> Iterator[manifest.Pack]:
    """Write the items in packs, none of which reaches from one shard into the next."""
    for about, packed in packs_of(items, layout, job_id, definitions):
        behind.submit(folder.create, about.name, packed.parts)
        yield about


def packs_of(
    items: Sequence[Any], layout: Layout, job_id: str, definitions: Definitions
) -> Iterator[tuple[manifest.Pack, pack.Packed]]:
    """Yield the items as packs of a job, shard by shard; equal items give equal packs."""
    number = 0
    for shard in range(layout.shards):
        start = 0
        for members in _filled(items, layout.items(shard), job_id, definitions):
            name = f"items/{number:04d}.pack"
            packed = pack.build(members, job=job_id, slot=name)
            head = packed.head
            yield (
                manifest.Pack(name, shard, start, len(members), packed.size, head.size, head.digest),
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
    """Return an item as a frame that is bound to its job and place; equal items give equal frames, in each process.

    Args:
        item: The item.
        index: Its place.
        job_id: Of its job.
        definitions: What the pickles of the job's items share; empty at first.

    Raises:
        ItemNotPicklable: It cannot be pickled.
    """
    try:
        return encode(item, context=contexts.item_context(job_id, index), definitions=definitions)
    except StoreError:  # of a file that is spilled by reference
        raise
    except Exception as error:
        raise ItemNotPicklable(
            refusal(f"a {type(item).__name__}", error, item),
            item=index,
            hint="pass plain data or arrays, and open files and connections inside the function",
        ) from error
