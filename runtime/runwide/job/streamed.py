"""A map that runs here and keeps its results in a store, as a stream: they come as they are stored."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from runwide import ended
from runwide.job.limit import Limit
from runwide.job.rerun import finished_all
from runwide.job.stream import Stream
from runwide.sigterm import Relay, handled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from typing_extensions import Self

    from runwide.job.begin import Found
    from runwide.job.given import Given
    from runwide.options import RunOptions
    from runwide.records import Outcome

_SECONDS = (0.05, 1.0)  # between looks at the store, more each time


class _Leaving(Limit):
    """Counts failures as any limit does, and stops the tasks when whoever iterates leaves."""

    def __init__(self, most: int | None) -> None:
        super().__init__(most)
        self._left = threading.Event()
        self._stop: Callable[[], None] | None = None

    def start(self, stop: Callable[[], None]) -> None:
        """See `Limit.start`."""
        self._stop = stop
        if self._left.is_set():
            stop()

    def leave(self) -> None:
        """Stop the tasks that run, and begin no others; from any thread."""
        self._left.set()
        if self._stop is not None:
            self._stop()


class StoredStream:
    """An iterator over the results of a job that runs on this container's cores.

    Args:
        found: The job.
        given: Its function and items.
        options: How they are run.
        ordered: Whether results come in the order of the items.
        on_error: ``"raise"`` or ``"return"``.
    """

    def __init__(
        self, found: Found, given: Given, options: RunOptions, *, ordered: bool, on_error: str
    ) -> None:
        self.job = found.job.reference
        limit = _Leaving(options.max_failures)
        self.stop = limit.leave
        running = _Running(found, given, options, limit)
        self._begin = partial(_values, found, running, limit, ordered=ordered)
        self._values = self._begin(on_error)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._values)

    def with_failures(self) -> None:
        """Have a `runwide.Failure` stand in the place of each failed result; to be called before the first is taken."""
        self._values = self._begin("return")

    def close(self) -> None:
        """Stop what runs; nobody iterates any more. What is stored is kept."""
        self._values.close()


class _Running:
    """The shards of a job, run one after another on a thread of their own."""

    def __init__(self, found: Found, given: Given, options: RunOptions, limit: Limit) -> None:
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self.relay = Relay()
        run = self.relay.context().run
        self._thread = threading.Thread(
            target=run,
            args=(self._run, found, given, options, limit),
            name="runwide-stored-stream",
            daemon=True,
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, if it has begun."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self, found: Found, given: Given, options: RunOptions, limit: Limit) -> None:
        try:
            finished_all(found.job, options, given=given, limit=limit)
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()


def _values(
    found: Found, running: _Running, limit: _Leaving, on_error: str, *, ordered: bool
) -> Generator[Any, None, None]:
    try:
        with Stream(found.job, ordered=ordered, again=not found.fresh) as stream, handled(running.relay):
            running.start()
            yield from ended.values(_outcomes(stream, running), on_error)
    finally:
        limit.leave()
        running.join()


def _outcomes(stream: Stream, running: _Running) -> Iterator[Outcome]:
    for over in _looks(running):
        yield from stream.look(over=over)
    if running.error is not None:
        raise running.error
    stream.arrivals.check()


def _looks(running: _Running) -> Iterator[bool]:
    """Yield when it is time to look, and whether it is the last time."""
    pause, most = _SECONDS
    while not running.ended.wait(pause):
        yield False
        pause = min(most, pause * 1.5)
    yield True
