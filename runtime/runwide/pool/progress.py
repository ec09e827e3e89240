"""How far a map is: a bar where somebody looks, a log line now and then where nobody does."""

from __future__ import annotations

import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from runwide.log import Log, is_watched
from runwide.writing import Tolerant

if TYPE_CHECKING:
    from collections.abc import Generator

    from runwide.records import Outcome

_log = Log("pool")

QUIET_SECONDS = 2.0
"""Nothing is shown of a map that is over by then."""

LOG_SECONDS = 60.0
"""Interval of log lines where there is no terminal."""


def shown(
    arriving: Generator[Outcome, None, None], total: int | None, *, wanted: bool | None
) -> Generator[Outcome, None, None]:
    """The same outcomes, with progress shown on standard error.

    Args:
        arriving: Outcomes as they come.
        total: How many there will be; None if that is not known.
        wanted: As for `display`.
    """
    shows = display(total, wanted=wanted)
    return arriving if shows is None else _counted(arriving, shows)


def display(total: int | None, *, wanted: bool | None) -> Bar | Lines | None:
    """Return a display of progress: called with the numbers of ended and of failed items, and closed at the end.

    Args:
        total: How many items there are; None if that is not known.
        wanted: True for a bar, False for silence, None for a bar on a terminal or in a notebook and log lines elsewhere.
    """
    if wanted is False:
        return None
    return Bar(total) if wanted or is_watched() else Lines(total)


def _counted(arriving: Generator[Outcome, None, None], shows: Bar | Lines) -> Generator[Outcome, None, None]:
    done = failed = 0
    with closing(arriving), closing(shows):
        for outcome in arriving:  # enumerate() would keep the last one
            done += 1
            failed += outcome.failure is not None
            shows(done, failed)
            yield outcome
            del outcome  # while it waits for the next, it keeps nobody's memory


class Bar:
    """A bar on standard error, once a map has taken a while; one that cannot be drawn is given up, and stops nobody.

    Args:
        total: How many items there are; None if that is not known.
    """

    seconds = 0.1
    """Interval at which it should be called while nothing happens."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._drawn: Any = None
        self._given_up = False
        self._began = time.monotonic()

    def __call__(self, done: int, failed: int) -> None:
        """Show how many have ended, and how many of them have failed."""
        if self._given_up or (self._drawn is None and time.monotonic() - self._began <= QUIET_SECONDS):
            return
        try:
            self._draw(done, failed)
        except Exception:
            self.close()
            self._given_up = True

    def _draw(self, done: int, failed: int) -> None:
        if self._drawn is None:
            self._drawn = bar(self._total, done)
            return
        self._drawn.update(done - self._drawn.n)
        if failed:
            self._drawn.set_postfix(failed=failed, refresh=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        with suppress(Exception):  # also where there is none
            self._drawn.close()
        self._drawn = None


class Lines:
    """A log line now and then."""

    seconds = 1.0
    """Interval at which it should be called while nothing happens."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, failed: int) -> None:
        """So many items have ended."""
        now = time.monotonic()
        if now - self._said > LOG_SECONDS:
            self._said = now
            seconds = round(now - self._began)
            _log.info("map.progressed", done=done, total=self._total, failed=failed, seconds=seconds)

    def close(self) -> None:
        """There is nothing to close."""


def bar(total: int | None, done: int = 0) -> Any:
    """A bar of tqdm, in a notebook with widgets one of those; on a standard error in whatever state."""
    import warnings

    from tqdm import TqdmWarning

    with warnings.catch_warnings():  # that a notebook has no widgets: it gets a bar of text
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, unit=" items", file=Tolerant(sys.stderr), dynamic_ncols=True)
