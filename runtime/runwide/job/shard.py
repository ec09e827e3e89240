"""Run one shard of a job on the cores of this component."""

from __future__ import annotations

from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runwide.errors import (
    EnvironmentMismatch,
    InputError,
    IntegrityError,
    ItemNotLoadable,
    ObjectNotFound,
    ResultNotPicklable,
    RunwideError,
)
from runwide.job import code, contexts, environment, event_log, manifest, plan
from runwide.job.chunks import ChunkLog, Ended, Writer, located
from runwide.job.ending import finish
from runwide.job.event_log import EventLog, MeteredStore
from runwide.job.flow import begun, closed
from runwide.job.incomplete import is_whole, of_inputs
from runwide.job.items import frames
from runwide.job.task import ItemDamaged, Loading, OwnTask, Task, both
from runwide.log import Log, bound
from runwide.records import Failure, FailureKind, Outcome, TaskBatch, TaskEvent
from runwide.spill import pack, signing
from runwide.spill.codec import encode
from runwide.spill.store import open_inside
from runwide.spill.verified import ABSENT, SLACK, arrived_damaged, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from runwide.job.early import Early
    from runwide.job.given import Given
    from runwide.job.manifest import Job
    from runwide.job.task import Packet
    from runwide.spill.store import Store

log = Log("job")


def shard(
    job: str,
    index: int,
    *,
    workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    rerun_failed: bool = False,
    on_event: Callable[[TaskEvent], None] | None = None,
    run_key: str | None = None,
) -> str:
    """Run one shard; run again, it computes only what is not stored yet.

    Items that fail for good are recorded and do not stop the others; `gather` reports them.

    Args:
        job: The reference that `scatter` returned.
        index: Which shard, from 0.
        workers: Number of worker processes; None for one per physical core.
        timeout: Seconds that one attempt at one item may take.
        retries: Further attempts after an exception.
        rerun_failed: Also run the items again that have failed for good before.
        on_event: Called with each `runwide.records.TaskEvent`, on another thread.
        run_key: What vouches for the shard's results within one run of a pipeline, where the user has no signing key.

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
    return run(
        manifest.read_job(job, run_key=run_key),
        index,
        rerun_failed=rerun_failed,
        on_event=on_event,
        workers=workers,
        timeout=timeout,
        retries=retries,
    )


def run(
    about: Job,
    index: int,
    *,
    given: Given | None = None,
    early: Early | None = None,
    function: Callable[[Any], Any] | None = None,
    rerun_failed: bool = False,
    on_event: Callable[[TaskEvent], None] | None = None,
    **options: Any,
) -> str:
    """As `shard`, for a job whose manifest was read.

    Args:
        about: The job.
        index: As for `shard`.
        given: The job's function and items, where they are in memory.
        early: The job's tasks, where they were started before it was written.
        function: A function to run instead of the job's.
        rerun_failed: As for `shard`.
        on_event: As for `shard`.
        **options: Others of `runwide.pool.mapping.Options`.
    """
    index = plan.whole("index", index)
    items = about.items_of(index)
    environment.check(about.environment, uri=about.uri)
    with bound(job=about.id, shard=index), open_inside(about.uri) as plain:
        plain.share(about.shards)
        workers = options.get("workers")
        events = event_log.of_shard(
            plain, about, index, workers=workers if isinstance(workers, int) else None
        )
        store = MeteredStore(plain, events.object)
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
                        _Listener(events, on_event, pending),
                    )
                    with work.on_path():
                        _run(work, chunks, listener, **options)
        return finish(store, about, chunks, index)


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
            return OwnTask(function, self.job.id, self.job.digest), None
        first = loading(self.store, self.job)
        return Task(first.function, self.job.id, self.job.digest), first

    def on_path(self) -> AbstractContextManager[None]:
        """Have workers find the modules of a function that comes from the store."""
        if self.given is not None:  # all of it is here
            return nullcontext()
        return code.on_path(self.store, self.job, first=self.function is None)

    def packets(self, pending: list[int], *, whole: bool) -> Generator[Packet, None, None]:
        """The items; from whole objects where a range of one has come damaged."""
        if self.given is None:
            return frames(self.store, self.job, pending, whole=whole)
        return self.given.frames(self.job, pending)


def _run(work: _Work, chunks: ChunkLog, listener: _Listener, **options: Any) -> None:
    from runwide.pool import outcomes

    (task, first), job, pending = work.task(), work.job, listener.items
    if first is not None:
        options["initializer"] = both(first, options.pop("initializer", None), options.pop("initargs", ()))
    with _mismatch_told(), Writer(chunks) as writer:
        for again in (False, True):
            damaged = []
            # Closed here and now, also when writing fails: before Python 3.13, the garbage collector may crash on the
            # views of a packet that an exception has kept alive in a cycle.
            with (
                closed(begun(work.packets(pending, whole=again), listener.events.begin)) as packets,
                closing(outcomes(task, packets, on_event=listener, indices=pending, **options)) as arriving,
            ):
                for outcome in arriving:
                    item = pending[outcome.index]
                    if not again and _is_damaged(outcome):
                        damaged.append(item)
                    else:
                        writer.put(end_of(outcome, item, job))
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


def rerun(
    job: str, *, only: str = "failed", function: Callable[[Any], Any] | None = None, **options: Any
) -> list[str]:
    """Run the failed items of a job again, here, and what its shards have not finished.

    Args:
        job: The reference that `scatter` returned.
        only: ``"failed"``; what succeeded is never run again.
        function: What to run in the place of the job's function, which was stored as it then was: that one, mended.
        **options: As for `shard`, for example fewer workers for items that need more memory.

    Returns:
        The shards' references, for `gather`.

    Example:
        >>> job = runwide.scatter(lambda x: 1 / x, [0, 2], store="memory://doc-rerun", shards=1)
        >>> [str(one) for one in runwide.gather(job, [runwide.shard(job, 0, workers=1)], on_error="return")]
        ['item 0: ZeroDivisionError: division by zero', '0.5']
        >>> runwide.gather(job, rerun(job, function=lambda x: 1 / x if x else 0, workers=1))
        [0, 0.5]
    """
    if only != "failed":
        raise InputError(f"only={only!r} is not 'failed'", hint="what succeeded is never run again")
    if function is not None:
        from runwide.pickled import function_bytes

        function_bytes(function)  # one that cannot be sent is an error now
    about = manifest.read_job(job)
    return [finished(about, index, function=function, **options) for index in range(about.shards)]


def finished(job: Job, index: int, **options: Any) -> str:
    """The reference of a shard all of whose items have succeeded, or have been run again now.

    Args:
        job: The job.
        index: The shard.
        **options: As for `run`.
    """
    with open_inside(job.uri) as store:
        names = {info.name for info in store.list(f"{manifest.shard_folder(index)}/")}
        numbers = manifest.manifests_in(names).get(index, [])
        try:
            found, reference = manifest.read_shard(store, job, index, numbers=numbers)
        except (IntegrityError, *ABSENT) as error:
            if arrived_damaged(error):
                raise
            found = None
        if found is not None and not found.failures and is_whole(found, names):
            if job.run_key is None:
                signing.believe("results", job.uri)
            return str(reference)
    return run(job, index, rerun_failed=True, **options)
