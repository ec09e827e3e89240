"""How far the shards of a job are, shown: one bar for all of them, and the failed items as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.job.progress import Progress
from runwide.log import Log
from runwide.progress import display
from runwide.redaction import shortened

if TYPE_CHECKING:
    from types import TracebackType

    from runwide.progress import Bar, Lines
    from runwide.records import Failure

_log = Log("components")
_NAMED = 10  # failed items that are logged as they come


class Watch(Progress):
    """Looks at a job in the store; a context manager that keeps one bar for all shards.

    Args:
        job: The job's reference.
        progress: True for a bar, False for silence, None for a bar on a terminal or in a notebook and log lines elsewhere.
        run_key: As for `runwide.job.progress.Progress`.
    """

    def __init__(self, job: str, *, progress: bool | None = None, run_key: str | None = None) -> None:
        super().__init__(job, run_key=run_key)
        self._named = 0
        self._wanted = progress
        self._shows: Bar | Lines | None = None
        self._counts = (0, 0)

    def look(self) -> list[Failure]:
        """Look once, and show what has changed; see `Progress.look`."""
        failures = super().look()
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shows is not None:
            self._shows.close()
        super().__exit__(kind, error, trace)
