"""A stream of results of a map that runs in this container and stores them."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import ended
from runwide.job._rerun import finish_all
from runwide.job.limit import Limit
from runwide.job.stream import Stream
from runwide.sigterm import Relay, handled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from typing_extensions import Self

    from runwide.job.begin import Opened
    from runwide.job.given import Given
    from runwide.options import RunOptions
    from runwide.records import Outcome

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
    """An iterator over the results of a job that runs on this container's cores.

    Args:
        opened: The job.
        given: Its function and items.
        options: How items are run.
        ordered: Whether to yield results in the order of the items.
        on_error: ``"raise"`` or ``"return"``.
    """

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
            yield from ended.values(_outcomes(stream, running), on_error)
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
