"""Show the progress of a job's components, and ask at Ctrl-C whether to cancel them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from runwide.job.event_forwarding import EventForwarder
from runwide.job.progress import Progress
from runwide.log import Log
from runwide.progress import display
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from runwide.events.model import TaskEvent
    from runwide.job.model import Job
    from runwide.progress import Bar, Lines
    from runwide.records import Failure


def wants_to_cancel(what: str) -> bool:
    """Ask the user whether to cancel runs, and return the answer.

    A second Ctrl-C means yes. Without a terminal the answer is yes too, so that runs do not cost more without a client.

    Args:
        what: Description of the runs, such as ``the 3 active runs``.
    """
    if not (sys.stdin and sys.stdin.isatty()):
        return True
    try:
        return click.confirm(f"Cancel {what}? If not, they continue", default=True, err=True)
    except (KeyboardInterrupt, click.Abort):
        return True


_log = Log("components")
_LOGGED = 10  # failed items that are logged as they come


def bar_of(job: Job, counts: Callable[[], tuple[int, int]], *, wanted: bool | None) -> Bar | Lines | None:
    """Return a bar, or log lines, over all items of a job; ``counts`` returns the numbers of done and failed items."""
    return display(
        job.count, counts, wanted=wanted, known=counts()[0],
        quiet=0.0,  # components take minutes
        event="job.progressed", job=job.id,
    )  # fmt: skip


class Watch(Progress):
    """The progress of a job in its store, with one bar for all shards; a context manager.

    Args:
        fresh: True if no earlier run has stored results.
    """

    def __init__(
        self,
        job: str,
        *,
        progress: bool | None = None,
        run_key: str | None = None,
        on_event: Callable[[TaskEvent], object] | None = None,
        fresh: bool = True,
    ) -> None:
        super().__init__(job, run_key=run_key)
        self._heard = None if on_event is None else EventForwarder(self._store, self.about, on_event)
        self._is_old = not fresh  # the next look finds results of an earlier run
        self._logged = 0
        self._wanted = progress
        self._shows: Bar | Lines | None = None
        self._counts = (0, 0)

    def look(self) -> list[Failure]:
        """Look once as `Progress.look` does, and show the changes."""
        failures = super().look()
        if self._heard is not None:
            self._report(self._heard, failures)
        for failure in failures[: max(0, _LOGGED - self._logged)] if self._wanted is not False else ():
            cause = shortened(f"{failure.type}: {failure.message}", 500)
            _log.warning("item.failed", item=failure.index, cause=cause)
        self._logged += len(failures)
        self._counts = self.done, self.failed
        about = self.about
        if self._shows is None:
            self._shows = bar_of(about, lambda: self._counts, wanted=self._wanted)
        if self._shows is not None:
            self._shows.say(shards=f"{about.shards - len(self.unfinished)}/{about.shards}")
        return failures

    def _take(self, name: str) -> list[Failure]:
        if self._heard is not None and name.endswith(".jsonl") and name not in self._seen:
            self._heard.add_part(name)
        return super()._take(name)

    def _report(self, heard: EventForwarder, failures: list[Failure]) -> None:
        """Pass new events to the caller; events of an earlier run are skipped."""
        if self._is_old:
            self._is_old = False
            heard.skip(self._ended)
        for failure in failures:
            heard.add_end(failure.index, failure)
        heard.forward()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._heard is not None and error is None:
            for item in [item for item, failed in self._ended.items() if not failed]:
                self._heard.add_end(item)
            self._heard.finish(time.time())
        if self._shows is not None:
            self._shows.close()
        super().__exit__(kind, error, trace)
