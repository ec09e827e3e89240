"""Reduce the results of a job to one value: each shard folds its results, then values are folded in pairs in the store."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide.errors import (
    FrameCorrupt,
    IntegrityError,
    ObjectExists,
    ReductionFailed,
    ResultNotLoadable,
    RunwideError,
    TaskError,
)
from runwide.job import chained, code, environment, model
from runwide.job.flow import closed
from runwide.job.folding import Fold, Frame, OwnFold, context_of, fold
from runwide.job.in_order import stored
from runwide.job.reading import read_chunk, read_unnamed
from runwide.job.task import Part
from runwide.log import Log
from runwide.redaction import shortened
from runwide.store import pack, signing
from runwide.store.base import open_inside
from runwide.store.codec import decode_verified, rebound
from runwide.store.records import ABSENT, arrived_damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runwide.job.model import Job, Root, Shard
    from runwide.options.record import RunOptions
    from runwide.store.base import Store

log = Log("job")

_NUMBER = re.compile(r"(?:-(\d{4}))?\.pack")


class Node(NamedTuple):
    """A verified value of the tree in the store.

    Args:
        digest: SHA-256 of the object's head, in hex.
    """

    name: str
    digest: str
    frame: Frame


class Tree:
    """The values of a job with ``reduce=``: one for each shard, and one for each two neighbours on the level below.

    A shard folds its results, writes the value, and looks for the value of its neighbour. If that is there, the shard folds
    both and writes the value on the next level, and so on, up to the root. Each shard looks after it has written, so the
    later one of two always finds both. A value is created once and depends only on the values below it, so copies of a shard
    write the same bytes.

    Args:
        reduce: The job's reduction, if it is in memory.
    """

    def __init__(
        self,
        store: Store,
        job: Job,
        *,
        reduce: Callable[[Any, Any], Any] | None = None,
        options: RunOptions | None = None,
    ) -> None:
        self._store = store
        self._job = job
        self._reduce = reduce
        self._options = options
        self._task: Fold | OwnFold | None = None
        self._ending = ExitStack()
        self._workers: dict[str, Any] = {}

    def add(self, shard: Shard) -> None:
        """Fold the results of a shard, and then values of the tree as far as possible; with failures there is no value."""
        if shard.failures:
            return
        with ExitStack() as self._ending:
            self._add(shard)

    def _add(self, shard: Shard) -> None:
        level, index = 0, shard.index
        if self.node(level, index) is None:
            self._write(level, index, self._of_shard(shard))
        while self._width(level) > 1:
            if self.node(level + 1, index // 2) is None:
                both = [self.node(level, one) for one in self._below(level, index // 2)]
                if None in both:  # the neighbour will find both when it has written its own
                    return
                if self._job.run_key is None:
                    signing.believe("results", self._job.uri)
                self._write(level + 1, index // 2, self._fold([node.frame for node in both if node]))
            level, index = level + 1, index // 2

    def root(self) -> Node | None:
        """Return the value of all shards; None if it was not written yet."""
        return self.node(levels(self._job), 0)

    def node(self, level: int, index: int) -> Node | None:
        """Return a value of the tree; None if it is absent or damaged."""
        for number, size in sorted(self._listed(level, index).items()):
            name = _name(level, index, number)
            try:
                return read_node(self._store, self._job, name, size=size, place=(level, index))
            except (IntegrityError, *ABSENT) as error:
                if arrived_damaged(error):
                    raise
                log.warning("node.ignored", uri=self._store.child_uri(name), cause=str(error))
        return None

    def _listed(self, level: int, index: int) -> dict[int, int]:
        """Return the sizes of a value's objects by their numbers."""
        prefix = _stem(level, index)
        found: dict[int, int] = {}
        for info in self._store.list(prefix):
            match = _NUMBER.fullmatch(info.name.removeprefix(prefix))
            if match:
                found[int(match[1] or 0)] = info.size
        return found

    def _width(self, level: int) -> int:
        return -(-self._job.shards >> level)

    def _below(self, level: int, parent: int) -> range:
        return range(2 * parent, min(2 * parent + 2, self._width(level)))

    def _write(self, level: int, index: int, value: Frame) -> None:
        context = model.node_context(self._job.digest, level, index)
        moved = rebound(value.data.view(), context=value.context, new=context)
        number = 0
        while True:
            name = _name(level, index, number)
            packed = pack.build(
                [pack.Member(index, moved)], job=self._job.digest, slot=name, run_key=self._job.run_key
            )
            try:
                self._store.create(name, packed.parts)
            except ObjectExists:
                if self.node(level, index) is not None:  # another process wrote the value first
                    return
                number += 1
            else:
                log.info("node.written", job=self._job.id, level=level, index=index, bytes=packed.size)
                return

    def _of_shard(self, shard: Shard) -> Frame:
        digest = self._job.digest
        with closed(stored(self._store, self._job, [shard])) as results:
            return self._fold(
                Frame(model.result_context(digest, one.item), one.digest, Part(one.frame)) for one in results
            )

    def _fold(self, frames: Any) -> Frame:
        if self._task is None:
            self._task = self._prepare()
        return fold(frames, self._task, **self._workers)

    def _prepare(self) -> Fold | OwnFold:
        """Return the task that folds, and make its code importable in the workers until the shard is done."""
        context = context_of(self._job.digest)
        options = {} if self._options is None else self._options.given()
        self._workers = {name: options[name] for name in _OF_WORKERS if name in options}
        if self._reduce is not None:
            return OwnFold(self._reduce, context)
        from runwide.job._shard import function_loader
        from runwide.job.task import worker_start

        self._ending.enter_context(code.on_path(self._store, self._job))
        self._ending.enter_context(chained.source_on_path(self._job))
        self._ending.callback(setattr, self, "_task", None)
        loader = function_loader(self._store, self._job)
        self._workers["initializer"] = worker_start(
            loader, self._workers.pop("initializer", None), self._workers.pop("initargs", ())
        )
        return Fold(loader.function, context)


_OF_WORKERS = ("workers", "initializer", "initargs", "max_memory")


def _stem(level: int, index: int) -> str:
    return f"reduce/{level:02d}/{index:06d}"


def _name(level: int, index: int, number: int) -> str:
    return f"{_stem(level, index)}{f'-{number:04d}' if number else ''}.pack"


def read_node(
    store: Store,
    job: Job,
    name: str,
    digest: str | None = None,
    *,
    size: int | None = None,
    place: tuple[int, int],
) -> Node:
    """Read a value of a job's tree.

    Args:
        digest: Its digest in the job's result; without one a signature is required, if a key is set.
        place: Its level, and its index on the level.

    Raises:
        IntegrityError: It is damaged, belongs to another job or place, or is not signed.
    """
    if digest is None:
        data, head = read_unnamed(store, job, name, size=size)
    else:
        data, head = read_chunk(store, job, name, digest)
    if len(head.entries) != 1:
        raise FrameCorrupt(f"it has {len(head.entries)} values, expected 1", uri=store.child_uri(name))
    entry, context = head.entries[0], model.node_context(job.digest, *place)
    return Node(name, head.digest, Frame(context, entry.digest, Part(data, entry.offset, entry.stop)))


def one_of(job: Job, shards: Sequence[Shard], promised: Root | None = None) -> Node | None:
    """Return the value of all shards of a job; if a shard was killed before it folded its results, fold them here.

    Args:
        promised: The object with the value, if the job's result names it.

    Returns:
        The value; None if the job has no reduction, or items have failed.
    """
    if not job.reduced or any(shard.failures for shard in shards):
        return None
    with open_inside(job.uri) as store:
        if promised is not None:
            return read_node(store, job, promised.name, promised.digest, place=(levels(job), 0))
        tree = Tree(store, job)
        found = tree.root()
        if found is None:
            with _reduction_failed(job):
                for shard in shards:
                    tree.add(shard)
            found = tree.root()
        if found is None:
            raise FrameCorrupt("the value of all results was written, and cannot be found", uri=job.uri)
        if job.run_key is None:
            signing.believe("results", job.uri)
        return found


@contextmanager
def _reduction_failed(job: Job) -> Iterator[None]:
    """Raise an exception of the reduction as `ReductionFailed`, since the groups that it folds are not items of the job."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RunwideError) and not isinstance(error, TaskError):
            raise
        message = getattr(error, "message", "") or str(error)  # str() of ours would name the group as an item
        raise ReductionFailed(
            f"the function of reduce= failed: {type(error).__name__}: {shortened(message, 500)}",
            uri=job.uri,
            hint='the results are stored: correct it, and make the same call with its name= and reuse="results"',
        ) from error


def one_value(job: Job, node: Node, *, stream: bool = False) -> Any:
    """Unpickle a value of a job's tree.

    Raises:
        ResultNotLoadable: It cannot be unpickled in this process.
    """
    environment.warn(job.environment, uri=job.uri)
    with open_inside(job.uri) as store:
        uri, frame = store.child_uri(node.name), node.frame
        late = code.Late(store, job)
        try:
            value = late.loaded(lambda: decode_verified(frame.data.view(), context=frame.context, uri=uri))
        except Exception as error:
            raise ResultNotLoadable(
                f"the value of reduce= cannot be unpickled here: {type(error).__name__}: {error}",
                uri=uri,
                hint=late.hint(error) or "install here what the function's image has, or return plain data",
            ) from error
    return iter([value]) if stream else value


def levels(job: Job) -> int:
    """Return the level of the root in a job's tree.

    Example:
        >>> from types import SimpleNamespace
        >>> [levels(SimpleNamespace(shards=shards)) for shards in (1, 2, 3, 4, 5)]
        [0, 1, 2, 2, 3]
    """
    return (job.shards - 1).bit_length()
