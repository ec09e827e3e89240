"""How far the shards of a job are, shown: one bar for all of them, and the failed items as they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runwide.job.heard import Heard
from runwide.job.progress import Progress
from runwide.log import Log
from runwide.progress import display
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from runwide.progress import Bar, Lines
    from runwide.records import Failure, TaskEvent

_log = Log("components")
_NAMED = 10  # failed items that are logged as they come


class Watch(Progress):
    """Looks at a job in the store; a context manager that keeps one bar for all shards.

    Args:
        job: The job's reference.
        progress: True for a bar, False for silence, None for a bar on a terminal or in a notebook and log lines elsewhere.
        run_key: As for `runwide.job.progress.Progress`.
        on_event: Called with each `runwide.records.TaskEvent` that the shards have written down.
        fresh: Whether no earlier run has stored anything.
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
        self._heard = None if on_event is None else Heard(self._store, self.about, on_event)
        self._was_there = not fresh  # what the next look finds
        self._named = 0
        self._wanted = progress
        self._shows: Bar | Lines | None = None
        self._counts = (0, 0)

    def look(self) -> list[Failure]:
        """Look once, and show what has changed; see `Progress.look`."""
        failures = super().look()
        if self._heard is not None:
            self._tell(self._heard, failures)
        for failure in failures[: max(0, _NAMED - self._named)] if self._wanted is not False else ():
            cause = shortened(f"{failure.type}: {failure.message}", 500)
            _log.warning("item.failed", item=failure.index, cause=cause)
        self._named += len(failures)
        self._counts = self.done, self.failed
        about = self.about
        if self._shows is None:
            self._shows = display(
                about.count,
                lambda: self._counts,
                wanted=self._wanted,
                known=self.done,
                quiet=0.0,  # components take minutes
                event="job.progressed",
                job=about.id,
            )
        if self._shows is not None:
            self._shows.say(shards=f"{about.shards - len(self.unfinished)}/{about.shards}")
        return failures

    def _take(self, name: str) -> list[Failure]:
        if self._heard is not None and name.endswith(".jsonl") and name not in self._seen:
            self._heard.note(name)
        return super()._take(name)

    def _tell(self, heard: Heard, failures: list[Failure]) -> None:
        if self._was_there:
            self._was_there = False
            heard.pass_over(self._ended)
        for failure in failures:
            heard.ended(failure.index, failure)
        heard.tell()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._heard is not None and error is None:
            for item in [item for item, failed in self._ended.items() if not failed]:
                self._heard.ended(item)
            self._heard.end(time.time())
        if self._shows is not None:
            self._shows.close()
        super().__exit__(kind, error, trace)
