"""Run one shard of a job on the cores of this component."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import settings
from runwide.errors import (
    EnvironmentMismatch,
    ItemNotLoadable,
    ObjectNotFound,
    ResultNotPicklable,
    RunwideError,
)
from runwide.events.lines import share_written
from runwide.events.log import EventLog
from runwide.events.model import Run, TaskBatch, TaskEvent
from runwide.events.parts import Parts
from runwide.job import chained, code, environment, manifest, model, plan
from runwide.job.chunk_log import ChunkLog, Ended, located
from runwide.job.flow import call_after_first, closed
from runwide.job.incomplete import of_inputs
from runwide.job.limit import FIRST, Limit, SharedLimit
from runwide.job.reading import frames
from runwide.job.reducing import Tree
from runwide.job.reference import resolve
from runwide.job.task import FunctionLoader, ItemDamaged, OwnTask, Task, worker_start
from runwide.job.writing import Writer, finish_shard
from runwide.log import Log, bound
from runwide.options.record import DEFAULTS, SHARD, Options, RunOptions
from runwide.options.signatures import taking
from runwide.records import Failure, FailureKind, Outcome
from runwide.store import pack
from runwide.store.base import open_inside
from runwide.store.codec import encode
from runwide.store.metered import MeteredStore
from runwide.store.records import SLACK, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Unpack

    from runwide.job.early import Early
    from runwide.job.model import Job
    from runwide.job.named_jobs import Given
    from runwide.job.task import Packet
    from runwide.store.base import Store

log = Log("job")


@taking(Options, SHARD)
def shard(
    job: str,
    index: int,
    *,
    rerun_failed: bool = False,
    run_key: str | None = None,
    store: str | None = None,
    attempt: str | None = None,
    **options: Unpack[Options],
) -> str:
    """Run one shard of a job; if it was run before, run only the items without a stored result.

    A failed item is recorded and does not stop the others; `gather` reports it. An ``initializer`` is called after the
    job's own.

    Args:
        job: The reference that `scatter` returned, or another name of the job, see `gather`.
        index: Index of the shard, from 0.
        rerun_failed: Also run items again that failed in an earlier run.
        run_key: The key that vouches for the shard's results within one run of a pipeline, if the user has no signing key.
        store: The store of the job, if it is given by id or name, see `gather`.
        attempt: Name of this attempt at the job: with ``max_failures``, the shards of an attempt count their failures
            together. None for the first attempt; with ``rerun_failed``, None to count this shard alone.
        **options: As in `runwide.options.record.Options`.

    Returns:
        The shard's reference, for `gather`.

    Raises:
        ShardOutOfRange: The job has no such shard.
        EnvironmentMismatch: This process cannot load the job's function: another Python, or other packages.
        FormatTooNew: A newer runwide made the job.
        DigestMismatch: The job's objects were changed.
        StoreUnavailable: The store did not answer. Finished results are stored: run the shard again.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2, -3], store="memory://doc-shard", shards=2)
        >>> references = [shard(job, 0, workers=1), shard(job, 1, workers=1)]
        >>> runwide.gather(job, references)
        [1, 2, 3]
    """
    chosen = RunOptions.on(SHARD, options)
    about = manifest.read_job(resolve(job, store, runs=True), run_key=run_key)
    attempt = attempt or (None if rerun_failed else FIRST)
    return run(about, index, rerun_failed=rerun_failed, options=chosen, attempt=attempt)


def run(
    about: Job,
    index: int,
    *,
    given: Given | None = None,
    early: Early | None = None,
    function: Callable[[Any], Any] | None = None,
    rerun_failed: bool = False,
    options: RunOptions = DEFAULTS,
    limit: Limit | None = None,
    attempt: str | None = None,
) -> str:
    """Run one shard of a job whose manifest was read; see `shard`.

    Args:
        given: The job's function and items, if they are in memory.
        early: The job's tasks, if they were started before the job was written.
        function: A function to run instead of the job's.
        limit: Counts the failures, if this process runs several shards.
    """
    index = plan.whole_number("index", index)
    items = about.items_of(index)
    environment.check_python(about.environment, uri=about.uri)
    chained.check_source(about)
    with bound(job=about.id, shard=index), open_inside(about.uri) as plain:
        plain.share(about.shards)
        events = _log_of(plain, about, index, options)
        store = MeteredStore(plain, events.object)
        if limit is None and options.max_failures is not None:
            limit = _limit_of(store, options.max_failures, attempt, index)
        chunks = ChunkLog(store, about, index)
        chunks.resume()
        if rerun_failed:
            chunks.run_failed_again()
        finished = chunks.finished
        pending = [item for item in items if item not in finished]
        log.info(
            "shard.started", job=about.id, shard=index, items=len(items), finished=len(items) - len(pending)
        )
        if pending:
            if early is None and function is None:  # another process may have made the job's function
                environment.check_packages(about.packages, uri=about.uri)
            with events, _explain_removed(about, pending), _attach_results(store, about, chunks, given):
                if early is not None:
                    early.run(about, chunks, events, pending)
                else:
                    work = _Work(store, about, given, function)
                    listener = _Listener(events, options.on_event, pending)
                    with work.on_path(), chained.source_on_path(about):
                        _run(work, chunks, listener, options, limit)
        reference = finish_shard(store, about, chunks, index)
        if about.reduced:
            reduce = None if given is None else given.reduce
            Tree(store, about, reduce=reduce, options=options).add(chunks.manifest())
        return reference


def _log_of(store: Store, job: Job, index: int, options: RunOptions) -> EventLog:
    """Return the log of one run of a shard, which is written beside its results."""
    workers = options.workers if isinstance(options.workers, int) else None
    run = Run(
        id=os.urandom(6).hex(),
        started=time.time(),
        shard=index,
        items=len(job.items_of(index)),
        sampled=share_written(job.count),
        job=job.id,
        function=job.function_name,
        image=settings.read().image or "",
        options=options.about(),
    )
    folder = model.shard_folder(index)
    return EventLog(run, Parts(store, folder), partial(environment.host_facts, workers))


class _Listener:
    """Passes events to the shard's log and to the user's listener, with the items' indices in the whole job."""

    def __init__(self, events: EventLog, user: Callable[[TaskEvent], None] | None, items: list[int]) -> None:
        self.events = events
        self.user = user
        self.items = items
        if user is not None:
            from runwide.events.emit import Guarded  # most shards need none

            self.user = Guarded(user)

    def __call__(self, event: TaskEvent) -> None:
        """Handle the event of one attempt."""
        item = self.items[event.index]
        self.events.task(event, item)
        if self.user is not None:
            self.user(replace(event, index=item))

    def batch(self, batch: TaskBatch) -> None:
        """Handle the events of tasks that have all succeeded."""
        self.events.batch(batch, self.items[batch.index : batch.index + batch.tasks])
        if self.user is not None:
            for event in batch.events():
                self.user(replace(event, index=self.items[event.index]))


@dataclass(frozen=True, slots=True)
class _Work:
    """The function and the items to run, from the store or from memory."""

    store: Store
    job: Job
    given: Given | None
    function: Callable[[Any], Any] | None

    def task(self) -> tuple[Task | OwnTask, FunctionLoader | None]:
        """Return the task; and what loads its function in a worker, if the function comes from the store."""
        function = self.function or (None if self.given is None else self.given.call)
        if function is not None:
            return OwnTask(function, self.job.id, self.job.digest, _source(self.job)), None
        loader = function_loader(self.store, self.job)
        return Task(loader.function, self.job.id, self.job.digest, _source(self.job)), loader

    def on_path(self) -> AbstractContextManager[None]:
        """Make the modules of a function from the store importable in workers."""
        if self.given is not None:  # this process has all modules
            return nullcontext()
        return code.on_path(self.store, self.job, first=self.function is None)

    def packets(self, pending: list[int], *, whole: bool) -> Generator[Packet, None, None]:
        """Yield the items.

        Args:
            whole: Whether to read whole objects, because a range of one arrived damaged.
        """
        if self.given is None:
            return frames(self.store, self.job, pending, whole=whole)
        return self.given.frames(self.job, pending, whole=whole)


def _source(job: Job) -> str | None:
    return None if job.source is None else job.source.job


def _limit_of(store: Store, most: int, attempt: str | None, index: int) -> Limit:
    if attempt is None:
        return Limit(most)
    return SharedLimit(most, store=store, attempt=attempt, shard=index)


def _run(
    work: _Work, chunks: ChunkLog, listener: _Listener, options: RunOptions, limit: Limit | None
) -> None:
    from runwide.pool import outcomes

    (task, loader), job, pending = work.task(), work.job, listener.items
    options = options.but(max_failures=None)  # `limit` counts, also over the second round with damaged items
    if loader is not None:
        start = worker_start(loader, options.initializer, options.initargs)
        options = options.but(initializer=start, initargs=())
    limit = limit or Limit(None)
    with _raise_mismatch(), limit.checked(), Writer(chunks, stored=limit.stored) as writer:
        for again in (False, True):
            damaged = []
            given = options.but(on_event=listener).given()
            # Closed at once, also when writing fails: before Python 3.13, the garbage collector may crash on the
            # views of a packet that an exception keeps alive in a cycle.
            with (
                closed(
                    call_after_first(work.packets(pending, whole=again), listener.events.begin)
                ) as packets,
                closing(outcomes(task, packets, indices=pending, **given)) as arriving,
            ):
                limit.start(arriving.stop)
                for outcome in arriving:
                    item = pending[outcome.index]
                    if not again and _is_damaged(outcome):
                        damaged.append(item)
                        continue
                    end = end_of(outcome, item, job)
                    writer.put(end)
                    if end.failure is not None:
                        limit.count(end.failure)
            if not damaged:
                return
            # A byte range has no checksum, so the worker detects damage on the way; whole objects are checked when read.
            log.warning("items.reread", job=job.id, items=len(damaged))
            pending = sorted(damaged)
            listener = _Listener(listener.events, listener.user, pending)


@contextmanager
def _raise_mismatch() -> Iterator[None]:
    """Raise the `EnvironmentMismatch` of a worker's start instead of the error that the start has failed."""
    try:
        yield
    except RunwideError as error:  # it is WorkerDied, whose import is slow
        if isinstance(error.__cause__, EnvironmentMismatch):
            raise error.__cause__ from error.__cause__.__cause__
        raise


@contextmanager
def _explain_removed(job: Job, pending: list[int]) -> Iterator[None]:
    """Raise an error that names the removed parts of a job and the remedy, instead of a missing object's error."""
    try:
        yield
    except ObjectNotFound as error:
        raise of_inputs(job, pending) or error from error


@contextmanager
def _attach_results(store: Store, job: Job, chunks: ChunkLog, given: Given | None) -> Iterator[None]:
    """Attach the stored results to an error that ends a map of this process."""
    try:
        yield
    except RunwideError as error:
        if given is not None:  # a component does not unpickle results
            from runwide.job._gather import keep_stored

            keep_stored(error, store, job, chunks.manifest())
        raise


def _is_damaged(outcome: Outcome) -> bool:
    return outcome.failure is not None and isinstance(outcome.failure.exception, ItemDamaged)


def function_loader(store: Store, job: Job) -> FunctionLoader:
    """Read and verify the job's function, and return what loads it in a worker."""
    return FunctionLoader(
        bytes(fetch(store, manifest.FUNCTION, digest=job.function, most=job.function_size + SLACK)),
        name=job.function_name,
        uri=store.child_uri(manifest.FUNCTION),
        job_uri=job.uri,
        made_by=job.environment,
    )


def end_of(outcome: Outcome, item: int, job: Job) -> Ended:
    """Return the end of an item for its shard's log; the outcome's value is a frame."""
    if outcome.failure is None:
        return Ended(pack.Member(item, outcome.value))
    failure = located(_classified(outcome.failure), item)
    context = model.result_context(job.digest, item)
    try:
        value = encode(failure.exception, context=context)
    except Exception:  # the record has its text
        value = encode(None, context=context)
    return Ended(pack.Member(item, value, failed=True), failure)


def _classified(failure: Failure) -> Failure:
    """Return a failure with the kind ``pickling`` if our frame around the item or the result raised it."""
    if isinstance(failure.exception, (ItemNotLoadable, ResultNotPicklable)):
        return failure.but(kind=FailureKind.PICKLING)
    return failure
