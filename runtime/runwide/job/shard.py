"""Run one shard of a job on the cores of this component."""

from __future__ import annotations

from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    EnvironmentMismatch,
    ItemNotLoadable,
    ObjectNotFound,
    ResultNotPicklable,
    RunwideError,
)
from runwide.job import chained, code, contexts, environment, event_log, manifest, plan
from runwide.job.chunks import ChunkLog, Ended, Writer, located
from runwide.job.ending import finish
from runwide.job.event_log import EventLog, MeteredStore
from runwide.job.flow import begun, closed
from runwide.job.incomplete import of_inputs
from runwide.job.items import frames
from runwide.job.limit import FIRST, Limit, SharedLimit
from runwide.job.reducing import Tree
from runwide.job.reference import whole
from runwide.job.task import ItemDamaged, Loading, OwnTask, Task, both
from runwide.log import Log, bound
from runwide.options import DEFAULTS, SHARD, Options, RunOptions
from runwide.records import Failure, FailureKind, Outcome, TaskBatch, TaskEvent
from runwide.signatures import taking
from runwide.spill import pack
from runwide.spill.codec import encode
from runwide.spill.store import open_inside
from runwide.spill.verified import SLACK, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Unpack

    from runwide.job.early import Early
    from runwide.job.given import Given
    from runwide.job.manifest import Job
    from runwide.job.task import Packet
    from runwide.spill.store import Store

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
    """Run one shard; run again, it computes only what is not stored yet.

    Items that fail for good are recorded and do not stop the others; `gather` reports them. An ``initializer`` is called
    after the job's own.

    Args:
        job: The reference that `scatter` returned, or another name of the job, see `gather`.
        index: Which shard, from 0.
        rerun_failed: Also run the items again that have failed for good before.
        run_key: What vouches for the shard's results within one run of a pipeline, where the user has no signing key.
        store: Where an id or a name is looked for, see `gather`.
        attempt: Name of the attempt at the job of which this is a part: with ``max_failures``, its shards count their
            failures together. None for the first one; with ``rerun_failed``, for none but this shard.
        **options: As in `runwide.options.Options`.

    Returns:
        The shard's reference, for `gather`.

    Raises:
        ShardOutOfRange: The job has no such shard.
        EnvironmentMismatch: This process cannot load the job's function: another Python, or other packages.
        FormatTooNew: A newer runwide made the job.
        DigestMismatch: The job's objects were changed.
        StoreUnavailable: The store did not answer; what was finished is stored, run the shard again.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2, -3], store="memory://doc-shard", shards=2)
        >>> references = [shard(job, 0, workers=1), shard(job, 1, workers=1)]
        >>> runwide.gather(job, references)
        [1, 2, 3]
    """
    chosen = RunOptions.on(SHARD, options)
    about = manifest.read_job(whole(job, store, runs=True), run_key=run_key)
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
    """As `shard`, for a job whose manifest was read.

    Args:
        about: The job.
        index: As for `shard`.
        given: The job's function and items, where they are in memory.
        early: The job's tasks, where they were started before it was written.
        function: A function to run instead of the job's.
        rerun_failed: As for `shard`.
        options: How items are run.
        limit: Counts the failures, where several shards are run by this process.
        attempt: As for `shard`.
    """
    index = plan.whole("index", index)
    items = about.items_of(index)
    environment.check(about.environment, uri=about.uri)
    chained.check_count(about)
    with bound(job=about.id, shard=index), open_inside(about.uri) as plain:
        plain.share(about.shards)
        workers = options.workers
        events = event_log.of_shard(
            plain, about, index, workers=workers if isinstance(workers, int) else None
        )
        store = MeteredStore(plain, events.object)
        if limit is None and options.max_failures is not None:
            limit = _limit_of(store, options.max_failures, attempt, index)
        chunks = ChunkLog(store, about, index)
        chunks.resume()
        if rerun_failed:
            chunks.run_failed_again()
        finished = chunks.finished  # made anew by each look
        pending = [item for item in items if item not in finished]
        log.info(
            "shard.started", job=about.id, shard=index, items=len(items), finished=len(items) - len(pending)
        )
        if pending:
            if (
                early is None and function is None
            ):  # the job's own function, which another process may have made
                environment.check_packages(about.packages, uri=about.uri)
            with events, _removed_told(about, pending), _stored_told(store, about, chunks, given):
                if early is not None:
                    early.run(about, chunks, events, pending)
                else:
                    work, listener = (
                        _Work(store, about, given, function),
                        _Listener(events, options.on_event, pending),
                    )
                    with work.on_path(), chained.on_path(about):
                        _run(work, chunks, listener, options, limit)
        reference = finish(store, about, chunks, index)
        if about.reduced:
            reduce = None if given is None else given.reduce
            Tree(store, about, reduce=reduce, options=options).add(chunks.manifest())
        return reference


class _Listener:
    """Who hears of the attempts, told by their indices in the whole job."""

    def __init__(self, events: EventLog, user: Callable[[TaskEvent], None] | None, items: list[int]) -> None:
        self.events = events
        self.user = user
        self.items = items
        if user is not None:
            from runwide.pool.reporting import Guarded  # most shards need none

            self.user = Guarded(user)

    def __call__(self, event: TaskEvent) -> None:
        """One attempt."""
        item = self.items[event.index]
        self.events.task(event, item)
        if self.user is not None:
            self.user(replace(event, index=item))

    def batch(self, batch: TaskBatch) -> None:
        """Tasks that have all ended with a value."""
        self.events.batch(batch, self.items[batch.index : batch.index + batch.tasks])
        if self.user is not None:
            for event in batch.events():
                self.user(replace(event, index=self.items[event.index]))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be run: as it lies in the store, or as this process was given it."""

    store: Store
    job: Job
    given: Given | None
    function: Callable[[Any], Any] | None

    def task(self) -> tuple[Task | OwnTask, Loading | None]:
        """The function, between two frames; and what loads it, where this process does not know whether it can be."""
        function = self.function or (None if self.given is None else self.given.call)
        if function is not None:
            return OwnTask(function, self.job.id, self.job.digest, _source(self.job)), None
        first = loading(self.store, self.job)
        return Task(first.function, self.job.id, self.job.digest, _source(self.job)), first

    def on_path(self) -> AbstractContextManager[None]:
        """Have workers find the modules of a function that comes from the store."""
        if self.given is not None:  # all of it is here
            return nullcontext()
        return code.on_path(self.store, self.job, first=self.function is None)

    def packets(self, pending: list[int], *, whole: bool) -> Generator[Packet, None, None]:
        """The items; from whole objects where a range of one has come damaged."""
        if self.given is None or self.job.source is not None:
            return frames(self.store, self.job, pending, whole=whole)
        return self.given.frames(self.job, pending)


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

    (task, first), job, pending = work.task(), work.job, listener.items
    # one that goes on with a batch of damaged items must not count the others again
    options = options.but(max_failures=None)
    if first is not None:
        options = options.but(initializer=both(first, options.initializer, options.initargs), initargs=())
    limit = limit or Limit(None)
    with _mismatch_told(), limit.checked(), Writer(chunks, stored=limit.stored) as writer:
        for again in (False, True):
            damaged = []
            # Closed here and now, also when writing fails: before Python 3.13, the garbage collector may crash on the
            # views of a packet that an exception has kept alive in a cycle.
            told = options.but(on_event=listener).given()
            with (
                closed(begun(work.packets(pending, whole=again), listener.events.begin)) as packets,
                closing(outcomes(task, packets, indices=pending, **told)) as arriving,
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
            # A byte range comes without a checksum: damage on the way shows in the worker, and is gone when read anew.
            log.warning("items.reread", job=job.id, items=len(damaged))
            pending = sorted(damaged)
            listener = _Listener(listener.events, listener.user, pending)


@contextmanager
def _mismatch_told() -> Iterator[None]:
    """Raise what workers found wrong with the environment, not that their start has failed."""
    try:
        yield
    except RunwideError as error:  # WorkerDied, which takes long to load
        if isinstance(error.__cause__, EnvironmentMismatch):
            raise error.__cause__ from error.__cause__.__cause__
        raise


@contextmanager
def _removed_told(job: Job, pending: list[int]) -> Iterator[None]:
    """Raise what was removed of a job, and how to go on, instead of which object is not there."""
    try:
        yield
    except ObjectNotFound as error:
        raise of_inputs(job, pending) or error from error


@contextmanager
def _stored_told(store: Store, job: Job, chunks: ChunkLog, given: Given | None) -> Iterator[None]:
    """Have an error that ends a map of this process carry what is stored."""
    try:
        yield
    except RunwideError as error:
        if given is not None:  # elsewhere results are not unpickled where they are made
            from runwide.job.gather import keep_stored

            keep_stored(error, store, job, chunks.manifest())
        raise


def _is_damaged(outcome: Outcome) -> bool:
    return outcome.failure is not None and isinstance(outcome.failure.exception, ItemDamaged)


def loading(store: Store, job: Job) -> Loading:
    """What loads the job's function, whose bytes have been verified."""
    return Loading(
        bytes(fetch(store, manifest.FUNCTION, digest=job.function, most=job.function_size + SLACK)),
        name=job.function_name,
        uri=store.child_uri(manifest.FUNCTION),
        job_uri=job.uri,
        made_by=job.environment,
    )


def end_of(outcome: Outcome, item: int, job: Job) -> Ended:
    """The end of an item whose value is a frame, or that has failed, as it is stored."""
    if outcome.failure is None:
        return Ended(pack.Member(item, outcome.value))
    failure = located(_classified(outcome.failure), item)
    context = contexts.result_context(job.digest, item)
    try:
        value = encode(failure.exception, context=context)
    except Exception:  # its text is in the record
        value = encode(None, context=context)
    return Ended(pack.Member(item, value, failed=True), failure)


def _classified(failure: Failure) -> Failure:
    """A failure whose kind is that of the user's item or result, not that of our frame around it."""
    if isinstance(failure.exception, (ItemNotLoadable, ResultNotPicklable)):
        return failure.but(kind=FailureKind.PICKLING)
    return failure
