"""Show the progress of a map: as a bar on a terminal and in a notebook, as log lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from runwide.log import Log, follow_cells, is_watched
from runwide.streams import Tolerant

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from runwide.records import Outcome

_log = Log("progress")

QUIET_SECONDS = 1.0
"""A map that ends within this time shows no bar."""

LOG_SECONDS = 10.0
"""The time of the first log line."""

LOG_FACTOR = 1.5
"""The time of each line is that of the line before times this factor: nine lines in five minutes, twenty in six hours."""

_BAR_SECONDS = 0.2
_COLUMNS = 80  # of a bar, if the terminal does not report its width
_CLOCK_SECONDS = 1.0
_CLOCK_IDLE_SECONDS = 5.0  # so that many small maps one after another share a thread


def with_progress(
    arriving: Generator[Outcome, None, None], total: int | None, *, wanted: bool | None
) -> Generator[Outcome, None, None]:
    """Yield the same outcomes, and show progress on standard error."""
    return arriving if wanted is False else _counted(arriving, total, wanted=wanted)


def display(
    total: int | None,
    count: Callable[[], tuple[int, int]],
    *,
    wanted: bool | None,
    known: int = 0,
    quiet: float | None = None,
    event: str = "map.progressed",
    **more: Any,
) -> Bar | Lines | None:
    """Show progress until the returned display is closed.

    Args:
        count: Returns how many items have ended, and how many of these have failed; called from another thread.
        wanted: True for a bar, False for nothing, None for a bar on a terminal or in a notebook and log lines elsewhere.
        known: How many items had ended before the start; the pace does not count them.
        quiet: Seconds before the bar is shown; None for `QUIET_SECONDS`.
        event: The event name of log lines.
        **more: Further fields of log lines.
    """
    if wanted is False:
        return None
    if wanted or is_watched():
        return Bar(total, count, known, QUIET_SECONDS if quiet is None else quiet)
    return Lines(total, count, known, event=event, **more)


def _counted(
    arriving: Generator[Outcome, None, None], total: int | None, *, wanted: bool | None
) -> Generator[Outcome, None, None]:
    counts = [0, 0]
    shows = display(total, lambda: (counts[0], counts[1]), wanted=wanted)
    assert shows is not None  # noqa: S101 - progress is wanted
    with closing(arriving), closing(shows):
        for outcome in arriving:  # enumerate() would keep the last one
            counts[0] += 1
            counts[1] += outcome.failure is not None
            yield outcome
            del outcome  # free its memory while waiting for the next one


class Clock:
    """A thread that calls `tick` of displays; it starts with the first display, and again if Ctrl-C has ended it.

    Args:
        seconds: The time between ticks.
        idle_seconds: How long the thread stays without displays.
    """

    def __init__(self, seconds: float, idle_seconds: float) -> None:
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._shown: weakref.WeakSet[Bar | Lines] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, display: Bar | Lines) -> None:
        """Call `tick` of a display from now on."""
        with self._lock:
            self._shown.add(display)
            if self._thread is None or not self._thread.is_alive():
                self._over = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._over,), name="runwide-progress", daemon=True
                )
                self._thread.start()

    def remove(self, display: Bar | Lines) -> None:
        """Stop calling `tick` of a display; a call that has begun may still be running."""
        with self._lock:
            self._shown.discard(display)

    def rest(self) -> None:
        """End the thread and wait for its end, if there are no displays."""
        with self._lock:
            if self._shown:
                return
            thread, self._thread = self._thread, None
            self._over.set()
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def _run(self, over: threading.Event) -> None:
        follow_cells()
        idle = 0.0
        while not over.wait(self._seconds):
            idle = 0.0 if self._tick() else idle + self._seconds
            with self._lock:
                if idle > self._idle_seconds and not self._shown:
                    self._thread = None
                    return

    def _tick(self) -> int:
        with self._lock:
            shown = list(self._shown)
        for display in shown:  # without the lock: `count` may be the user's code, and take long
            display.tick()
        return len(shown)


class Bar:
    """A bar of tqdm on standard error; if it cannot be drawn, the map goes on without it.

    A thread of its own draws the bar, since the caller may wait in the user's code. The arguments are those of `display`.
    """

    def __init__(
        self, total: int | None, count: Callable[[], tuple[int, int]], known: int, quiet: float
    ) -> None:
        self._total = total
        self._count = count
        self._known = known
        self._began = time.time()
        self._due = self._began + quiet
        self._drawn: Any = None
        self._more: dict[str, Any] = {}
        self._clock = Clock(_BAR_SECONDS, 0.0)
        self._clock.add(self)

    def say(self, **more: Any) -> None:
        """Show more values beside the numbers."""
        self._more = more

    def tick(self) -> None:
        """Draw the bar if it is due."""
        now = time.time()
        if now >= self._due:
            self._due = now + (0.0 if is_watched() else LOG_SECONDS)
            self._draw()

    def close(self) -> None:
        """Show the last numbers, and leave the bar on the screen."""
        self._clock.remove(self)
        self._clock.rest()
        if self._drawn is not None or time.time() >= self._due:
            self._draw()
        with suppress(Exception):  # also if the bar was never drawn
            self._drawn.close()

    def _draw(self) -> None:
        try:
            if self._drawn is None:
                self._drawn = bar(self._total, self._known, self._began)
            done, failed = self._count()
            more = {**self._more, **({"failed": failed} if failed else {})}
            if more:
                self._drawn.set_postfix(more, refresh=False)
            self._drawn.n = done
            self._drawn.refresh()
        except Exception:
            self._clock.remove(self)


class Lines:
    """Log lines in growing intervals; the arguments are those of `display`."""

    def __init__(
        self,
        total: int | None,
        count: Callable[[], tuple[int, int]],
        known: int,
        *,
        event: str,
        **more: Any,
    ) -> None:
        self._total = total
        self._count = count
        self._known = known
        self._event = event
        self._more = more
        self._began = time.monotonic()
        self._next = LOG_SECONDS
        _clock.add(self)

    def say(self, **more: Any) -> None:
        """Write more fields from now on."""
        self._more.update(more)

    def close(self) -> None:
        """Write no more lines."""
        self._next = float("inf")
        _clock.remove(self)

    def tick(self) -> None:
        """Write a line if one is due."""
        seconds = time.monotonic() - self._began
        if seconds >= self._next:
            self._next = seconds * LOG_FACTOR
            done, failed = self._count()
            numbers = {"done": done, "total": self._total, "failed": failed, "seconds": round(seconds)}
            if self._total is not None and done > self._known:
                numbers["seconds_left"] = round(seconds / (done - self._known) * (self._total - done))
            _log.info(self._event, **self._more, **numbers)


def bar(total: int | None, known: int, began: float) -> Any:
    """Return a bar of tqdm: a widget in a notebook that has widgets, else text on standard error."""
    import warnings

    from tqdm import TqdmWarning

    with warnings.catch_warnings():  # without ipywidgets, a notebook gets a bar of text
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm  # looks for a notebook without importing IPython

    # smoothing=0: the average of the whole map, since results of a pool come in bursts
    stream = Tolerant(sys.stderr)
    narrow = _has_no_columns(stream)
    drawn = tqdm(
        total=total,
        initial=known,
        unit=" items",
        file=stream,
        dynamic_ncols=not narrow,
        ncols=_COLUMNS if narrow else None,
        smoothing=0,
        delay=1e-9,  # do not draw before `start_t` is set
    )
    drawn.start_t = began
    return drawn


def _has_no_columns(stream: Any) -> bool:
    """Return whether a terminal reports a width of 0, as some containers and serial lines do; tqdm would draw nothing."""
    with suppress(AttributeError, OSError, ValueError):  # the stream is not a terminal
        return os.get_terminal_size(stream.fileno()).columns == 0
    return False


_clock = Clock(_CLOCK_SECONDS, _CLOCK_IDLE_SECONDS)


def rest() -> None:
    """End the thread that writes log lines, if there are no maps."""
    _clock.rest()


def _renew() -> None:
    """Make a new clock in a fork: it has no thread, and a thread of the parent may have held the lock."""
    global _clock  # noqa: PLW0603 - a fact about this process
    _clock = Clock(_CLOCK_SECONDS, _CLOCK_IDLE_SECONDS)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew)
