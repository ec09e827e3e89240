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
        wanted: True for a bar, False for silence, None for a bar on a terminal or in a notebook and log lines elsewhere.
    """
    if wanted is False:
        return arriving
    if wanted or is_watched():
        return _with_bar(arriving, total)
    return _with_log(arriving, total)


def _with_bar(arriving: Generator[Outcome, None, None], total: int | None) -> Generator[Outcome, None, None]:
    drawn: Bar | None = None
    done = failed = 0
    began = time.monotonic()
    try:
        for outcome in arriving:
            done += 1
            failed += outcome.failure is not None
            if drawn is not None:
                drawn.update(done, failed)
            elif time.monotonic() - began > QUIET_SECONDS:
                drawn = Bar(total, done)
            yield outcome
            del outcome  # while it waits for the next, it keeps nobody's memory
    finally:
        arriving.close()
        if drawn is not None:
            drawn.close()


class Bar:
    """A bar on standard error; one that cannot be drawn is given up, and stops nobody.

    Args:
        total: How many there will be; None if that is not known.
        done: How many there are.
    """

    def __init__(self, total: int | None, done: int) -> None:
        self._drawn: Any = None
        with suppress(Exception):
            self._drawn = bar(total, done)

    def update(self, done: int, failed: int) -> None:
        """Show how many have ended, and how many of them have failed."""
        if self._drawn is None:
            return
        try:
            self._drawn.update(done - self._drawn.n)
            if failed:
                self._drawn.set_postfix(failed=failed, refresh=False)
        except Exception:
            self.close()
            self._drawn = None

    def close(self) -> None:
        """Leave it as it is."""
        with suppress(Exception):  # also where there is none
            self._drawn.close()


def bar(total: int | None, done: int = 0) -> Any:
    """A bar of tqdm, in a notebook with widgets one of those; on a standard error in whatever state."""
    import warnings

    from tqdm import TqdmWarning

    with warnings.catch_warnings():  # that a notebook has no widgets: it gets a bar of text
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, unit=" items", file=Tolerant(sys.stderr), dynamic_ncols=True)


def _with_log(arriving: Generator[Outcome, None, None], total: int | None) -> Generator[Outcome, None, None]:
    done = failed = 0
    began = said = time.monotonic()
    with closing(arriving):
        for outcome in arriving:  # enumerate() would keep the last one
            done += 1
            failed += outcome.failure is not None
            now = time.monotonic()
            if now - said > LOG_SECONDS:
                said = now
                _log.info("map.progressed", done=done, total=total, failed=failed, seconds=round(now - began))
            yield outcome
            del outcome  # likewise
