"""Maps that run here and keep their results in a store, so that they go on where they were killed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import outcomes
from runwide.api.functions import check_reduce, program_of
from runwide.job import chained, names, plan
from runwide.job._gather import gather
from runwide.job._scatter import prepare
from runwide.job.arrivals import Stream
from runwide.job.early import start_early
from runwide.job.finishing import finish_all
from runwide.job.limit import Limit
from runwide.job.named_jobs import Given, open_job
from runwide.naming import full_name_of
from runwide.options.record import MAP, Options, RunOptions
from runwide.pool.feeding import is_at_hand
from runwide.pool.mapping import no_items
from runwide.sigterm import Relay, handled, leaves_on_sigterm
from runwide.store import signing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from os import PathLike

    from typing_extensions import Self, Unpack

    from runwide.job.early import Early
    from runwide.job.named_jobs import Opened
    from runwide.records import Outcome


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place where a map runs: the cores of this container, with its results in a store.

    Args:
        store: The store for the job: ``gs://bucket/prefix`` or a folder.
        name: The job's name in the store; a later call with the same name resumes it. None for a new job each time.
        shards: Number of shards of a new job, for components that may resume it.
        reuse: As for `runwide.map`.

    Example:
        >>> place = Checkpoint("memory://doc-checkpoint", "squares")
        >>> place.map(lambda x: x * x, [1, 2, 3], workers=1)
        [1, 4, 9]
    """

    store: str | PathLike[str]
    name: str | None = None
    shards: int = 1
    reuse: str | None = None

    def map(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        on_error: str = "raise",
        reduce: Callable[[Any, Any], Any] | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """Map as `runwide.map` does, without items that have succeeded in an earlier call with the same name.

        This call's function runs on this call's items; only results are unpickled from the store.

        A job lists all its items, so results are stored after the last item has arrived. If items arrive slowly, their tasks
        start as they arrive, unless the store has a job of this name, which may have their results.
        """
        from runwide.outcomes import check_on_error
        from runwide.pickling.functions import function_pickle

        check_on_error(on_error)  # an invalid value raises now and not at the end
        check_reduce(reduce, on_error)
        chosen = RunOptions.on(MAP, options)
        names.check_name(self.name, self.reuse)
        if isinstance(items, Sequence) or is_at_hand(items) or self._is_known():
            given = self._given(function, items, chosen, reduce)
            return self._run(full_name_of(function), given, on_error, chosen)
        pickled = function_pickle(program_of(function, chosen.initializer, chosen.initargs, reduce))
        plan.shard_count(1, self.shards)  # raises now for an invalid number of shards
        job_id = prepare(pickled.data, store=self.store)
        with start_early(function, items, **options) as (inputs, tasks):
            given = Given(pickled, inputs, function, reduce=reduce)
            return self._run(full_name_of(function), given, on_error, chosen, job_id=job_id, early=tasks)

    def stream(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        ordered: bool,
        on_error: str = "raise",
        **options: Unpack[Options],
    ) -> StoredStream:
        """Map as `map` does, and yield results as they are stored.

        All items are read first. If the caller stops iterating, the tasks stop; stored results are kept, and with a ``name``
        a later call resumes the job.

        Args:
            ordered: Whether to yield results in the order of the items.
            on_error: ``"raise"`` a failed item's exception when its turn comes, or ``"return"`` a `runwide.Failure`.
            **options: As in `runwide.options.record.Options`.

        Example:
            >>> list(Checkpoint("memory://doc-streamed").stream(abs, [-1, -2], ordered=True, workers=1))
            [1, 2]
        """
        from runwide.outcomes import check_on_error

        check_on_error(on_error)
        chosen = RunOptions.on(MAP, options)
        given = self._given(function, items, chosen)
        opened = open_job(
            given, store=self.store, shards=self.shards, name=self.name, reuse=self.reuse,
            function_name=full_name_of(function),
        )  # fmt: skip
        if opened.fresh and (run_key := signing.new_run_key()):
            # so that this process can verify the results that it has stored itself
            opened = replace(opened, job=replace(opened.job, run_key=signing.of_run(run_key)))
        return StoredStream(opened, given, chosen, ordered=ordered, on_error=on_error)

    def _is_known(self) -> bool:
        """Return whether the name has a job; then all items must be there to know which of them have results."""
        return self.name is not None and self.reuse != names.NOTHING and names.is_known(self.store, self.name)

    def _given(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        options: RunOptions,
        reduce: Callable[[Any, Any], Any] | None = None,
    ) -> Given:
        from runwide.pickling.functions import function_pickle

        pickled = function_pickle(program_of(function, options.initializer, options.initargs, reduce))
        with leaves_on_sigterm():
            inputs = chained.inputs(items, self.store)
        if not len(inputs):
            raise no_items()
        return Given(pickled, inputs, function, reduce=reduce)

    def _run(
        self,
        name: str,
        given: Given,
        on_error: str,
        options: RunOptions,
        *,
        job_id: str | None = None,
        early: Early | None = None,
    ) -> Any:
        job = open_job(
            given, store=self.store, shards=self.shards, name=self.name, reuse=self.reuse, function_name=name,
            job_id=job_id,
        ).job  # fmt: skip
        shards = finish_all(job, options, given=given, early=early)
        return gather(job.reference, shards, on_error=on_error)


_SECONDS = (0.05, 1.0)  # first and longest pause between looks at the store


class _StoppableLimit(Limit):
    """A limit that also stops the tasks when the caller stops iterating."""

    def __init__(self, most: int | None) -> None:
        super().__init__(most)
        self._stopped = threading.Event()
        self._stop: Callable[[], None] | None = None

    def start(self, stop: Callable[[], None]) -> None:
        """See `Limit.start`."""
        self._stop = stop
        if self._stopped.is_set():
            stop()

    def stop_tasks(self) -> None:
        """Stop the running tasks and start no others; any thread may call this."""
        self._stopped.set()
        if self._stop is not None:
            self._stop()


class StoredStream:
    """An iterator over the results of a job that runs on this container's cores."""

    def __init__(
        self, opened: Opened, given: Given, options: RunOptions, *, ordered: bool, on_error: str
    ) -> None:
        self.job = opened.job.reference
        limit = _StoppableLimit(options.max_failures)
        self.stop = limit.stop_tasks
        running = _Running(opened, given, options, limit)
        self._start = partial(_values, opened, running, limit, ordered=ordered)
        self._values = self._start(on_error)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._values)

    def with_failures(self) -> None:
        """Yield a `runwide.Failure` for each failed item; call this before the first result is taken."""
        self._values = self._start("return")

    def close(self) -> None:
        """Stop the tasks; stored results are kept."""
        self._values.close()


class _Running:
    """A thread that runs the shards of a job, one after another."""

    def __init__(self, opened: Opened, given: Given, options: RunOptions, limit: Limit) -> None:
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self.relay = Relay()
        run = self.relay.context().run
        self._thread = threading.Thread(
            target=run,
            args=(self._run, opened, given, options, limit),
            name="runwide-stored-stream",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread to end, if it was started."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self, opened: Opened, given: Given, options: RunOptions, limit: Limit) -> None:
        try:
            finish_all(opened.job, options, given=given, limit=limit)
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()


def _values(
    opened: Opened, running: _Running, limit: _StoppableLimit, on_error: str, *, ordered: bool
) -> Generator[Any, None, None]:
    try:
        with Stream(opened.job, ordered=ordered, again=not opened.fresh) as stream, handled(running.relay):
            running.start()
            yield from outcomes.values(_outcomes(stream, running), on_error)
    finally:
        limit.stop_tasks()
        running.join()


def _outcomes(stream: Stream, running: _Running) -> Iterator[Outcome]:
    for over in _looks(running):
        yield from stream.look(over=over)
    if running.error is not None:
        raise running.error
    stream.arrivals.check()


def _looks(running: _Running) -> Iterator[bool]:
    """Yield when it is time to look at the store: True for the last look."""
    pause, most = _SECONDS
    while not running.ended.wait(pause):
        yield False
        pause = min(most, pause * 1.5)
    yield True
