"""Yield the results of a map on components as the components store them: `Components.stream`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from runwide import outcomes
from runwide.errors import EngineError, PoolClosed, TooManyFailures
from runwide.job.arrivals import Stream
from runwide.job.event_forwarding import EventForwarder
from runwide.job.limit import too_many_stored
from runwide.job.manifest import read_job
from runwide.job.runner import looks
from runwide.log import Log
from runwide.records import Failure
from runwide.sigterm import leaves_on_sigterm
from runwide_components.runs import close_lost_shards, with_job
from runwide_components.watch import bar_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from runwide.events.model import TaskEvent
    from runwide.job.limit import Accepted
    from runwide.options.record import RunOptions
    from runwide.progress import Bar, Lines
    from runwide.records import Outcome
    from runwide_components.components import Components
    from runwide_components.engines.base import Run

_log = Log("components")
_LOOKS = (2.0, 30.0)  # seconds between looks at a bucket
_LOOKS_NEAR = (0.1, 2.0)  # at a folder or memory, where a look costs nothing
_SLICE = 2.0  # seconds between checks of whether the caller stopped the iteration


class Submitted(NamedTuple):
    """A job whose shards were started.

    Args:
        run: The run of the shards; None if no shard is left to run.
        run_key: The key that signs their results; None if the user's key does, or none.
        fresh: True if this call made the job, so that no earlier run stored anything.
        limit: The number of failed items that is accepted; None for any number.
    """

    job: str
    run: Run | None
    run_key: str | None
    fresh: bool
    limit: Accepted | None = None


class Streamed(Iterator[Any]):
    """An iterator over the results of a running job.

    Closing it, or deleting it before its end, cancels the run, unless the job has a name.

    Attributes:
        job: The job's reference.
    """

    def __init__(self, following: Following, on_error: str) -> None:
        self.job = following.submitted.job
        self._following = following
        self._on_error = on_error
        self._values = following.values(on_error)
        # the callback must not refer to this object, which would never be deleted then
        self._leave = weakref.finalize(self, following.leave)

    def __next__(self) -> Any:
        return next(self._values)

    def with_failures(self) -> None:
        """Yield a `runwide.Failure` instead of each failed result, also if the error of a failed run is raised.

        Call it before the first result is taken.
        """
        self._values = self._following.values(self._on_error, failures="return")

    def close(self) -> None:
        """Stop: cancel the run, unless the job has a name."""
        self._values.close()
        self._leave()

    def stop(self) -> None:
        """Stop, from any thread: the iteration raises `runwide.errors.PoolClosed`."""
        self._following.stop()


def stream(
    place: Components,
    function: Callable[[Any], Any],
    items: Iterable[Any],
    options: RunOptions,
    *,
    ordered: bool,
    on_error: str,
    name: str | None,
    reuse: str | None,
) -> Streamed:
    """Start a map, and return its results as they are stored; see `Components.stream`."""
    outcomes.check_on_error(on_error)
    submitted = place.submitted(function, items, options, name=name, reuse=reuse, on_error=on_error)
    following = Following(
        submitted,
        named=name is not None,
        ordered=ordered,
        progress=place.progress if options.progress is None else options.progress,
        on_event=options.on_event,
    )
    return Streamed(following, on_error)


class Following:
    """A run that is followed, with the results that its shards stored.

    Args:
        named: True if the job has a name, and so continues without this client.
    """

    def __init__(
        self,
        submitted: Submitted,
        *,
        named: bool,
        ordered: bool,
        progress: bool | None = None,
        on_event: Callable[[TaskEvent], object] | None = None,
    ) -> None:
        self.submitted = submitted
        self._named = named
        self._has_left = False
        self._stream: Stream | None = None
        self._shows: Bar | Lines | None = None
        self._progress = progress
        self._heard: EventForwarder | None = None
        self._looks = 0
        self._stopped = False
        try:
            job = read_job(submitted.job, run_key=submitted.run_key)
            on_log = None if on_event is None else self._note
            self._stream = Stream(job, ordered=ordered, again=not submitted.fresh, on_log=on_log)
            if on_event is not None:
                self._heard = EventForwarder(self._stream.store, job, on_event)
        except BaseException:
            self.leave()
            raise

    def values(self, on_error: str, *, failures: str | None = None) -> Generator[Any, None, None]:
        """Yield results.

        Args:
            failures: ``"raise"`` or ``"return"`` for failed items, if it differs from ``on_error``.
        """
        assert self._stream is not None  # noqa: S101 - it was opened
        try:
            with leaves_on_sigterm():
                arriving = self._limited(self._arriving(self._stream, on_error))
                yield from outcomes.values(arriving, failures or on_error)
        finally:
            self.leave()

    def _limited(self, arriving: Iterator[Outcome]) -> Iterator[Outcome]:
        """Yield outcomes; cancel the run, also of a job with a name, once more items failed than are accepted."""
        limit, failures = self.submitted.limit, list[Failure]()
        try:
            for outcome in arriving:
                failure = outcome.failure
                yield outcome
                del outcome
                if failure is not None and limit is not None:
                    failures.append(failure)
                    if len(failures) > limit.most:
                        raise outcomes.too_many(failures)
        except TooManyFailures:
            self.cancel_run()
            raise

    def _arriving(self, stream: Stream, on_error: str) -> Iterator[Outcome]:
        run, job = self.submitted.run, self.submitted.job
        try:
            yield from self._while_it_runs(stream, run)
            if run is not None:
                run.wait()  # raises the error of a failed run
        except EngineError as error:
            if self._stopped:
                raise PoolClosed("the iteration was stopped") from error
            limit = self.submitted.limit
            if limit is not None and (stopped := too_many_stored(job, limit)) is not None:
                raise stopped from None  # the components stopped by themselves
            with_hint = with_job(error, job)
            if on_error == "raise" or run is None:
                raise with_hint from error
            close_lost_shards(job, run, with_hint, self.submitted.run_key)
            yield from self._look(stream, over=True)
        stream.arrivals.check()
        if self._heard is not None:
            self._heard.finish(time.time())

    def _while_it_runs(self, stream: Stream, run: Run | None) -> Iterator[Outcome]:
        near = not stream.store.uri.startswith("gs://")
        for pause in looks(*(_LOOKS_NEAR if near else _LOOKS)):
            over = run is None or run.state().ended
            due = time.monotonic() + pause
            yield from self._look(stream, over=over)
            if run is None or over:
                return
            self._wait(run, due)
            if self._stopped:
                raise PoolClosed("the iteration was stopped")

    def _wait(self, run: Run, due: float) -> None:
        """Wait for the end of a run, or the next look."""
        while not self._stopped and (left := due - time.monotonic()) > 0:
            try:
                run.wait(min(left, _SLICE))
            except TimeoutError:
                continue
            except EngineError:  # raised later, after stored results
                if not run.state().ended:
                    raise
            return

    def _look(self, stream: Stream, *, over: bool) -> Iterator[Outcome]:
        earlier = not self._looks and not self.submitted.fresh
        for outcome in stream.look(over=over):
            if self._heard is not None and not earlier:
                self._heard.add_end(outcome.index, outcome.failure)
            yield outcome
            del outcome
        self._looks += 1
        if self._heard is not None:
            if earlier:
                self._heard.skip(stream.arrivals.ended())
            self._heard.forward()
        self._show(stream)

    def _note(self, name: str) -> None:
        if self._heard is not None:
            self._heard.add_part(name)

    def _show(self, stream: Stream) -> None:
        about, arrivals = stream.job, stream.arrivals
        if self._looks == 1:
            self._shows = bar_of(about, lambda: (arrivals.done, arrivals.failed), wanted=self._progress)
        if self._shows is not None:
            self._shows.say(shards=f"{about.shards - len(arrivals.unfinished)}/{about.shards}")

    def leave(self) -> None:
        """Free all resources; cancel a run that has not ended, unless its job has a name."""
        if self._has_left:
            return
        self._has_left = True
        run = self.submitted.run
        try:
            if run is not None and not self._named:
                self.cancel_run()
        finally:
            if run is not None:
                run.leave()
            if self._shows is not None:
                self._shows.close()
            if self._stream is not None:
                self._stream.__exit__(None, None, None)

    def stop(self) -> None:
        """Stop, from any thread: cancel the run, unless its job has a name, and end the iteration."""
        self._stopped = True
        if not self._named:
            self.cancel_run()

    def cancel_run(self) -> None:
        """Cancel the run, if it has not ended; from any thread."""
        run = self.submitted.run
        try:
            if run is not None and not run.state().ended:
                run.cancel()
        except EngineError as error:
            _log.warning("run.not_cancelled", job=self.submitted.job, cause=error.message)
