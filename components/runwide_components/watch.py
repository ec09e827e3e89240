"""How far the shards of a job are, shown: one bar for all of them, and the failed items as they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runwide.job.progress import Progress
from runwide.log import Log, is_watched
from runwide.pool.progress import bar

if TYPE_CHECKING:
    from types import TracebackType

_log = Log("components")
_NAMED = 10  # failed items that are logged as they come
_LOG_SECONDS = 60.0


class Watch(Progress):
    """Looks at a job in the store; a context manager that keeps one bar for all shards.

    Args:
        job: The job's reference.
        progress: True for a bar, False for silence, None for a bar on a terminal or in a notebook and log lines elsewhere.
    """

    def __init__(self, job: str, *, progress: bool | None = None) -> None:
        super().__init__(job)
        self._named = 0
        self._bar = bar(self.about.count) if _wanted(progress) else None
        self._logs = progress is not False
        self._began = self._said = time.monotonic()

    def look(self) -> list[dict[str, Any]]:
        """Look once, and show what has changed; see `Progress.look`."""
        failures = super().look()
        for failure in failures[: max(0, _NAMED - self._named)] if self._logs else ():
            cause = f"{failure['type']}: {failure['message']}"[:500]
            _log.warning("item.failed", item=failure["index"], cause=cause)
        self._named += len(failures)
        self._show()
        return failures

    def _show(self) -> None:
        shards = self.about.shards
        finished = shards - len(self.unfinished)
        if self._bar is not None:
            self._bar.update(self.done - self._bar.n)
            failed = {"failed": self.failed} if self.failed else {}
            self._bar.set_postfix(shards=f"{finished}/{shards}", **failed)
        elif self._logs and time.monotonic() - self._said > _LOG_SECONDS:
            self._said = time.monotonic()
            _log.info(
                "job.progressed",
                job=self.about.id, done=self.done, total=self.about.count, failed=self.failed,
                shards=finished, seconds=round(self._said - self._began),
            )  # fmt: skip

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        super().__exit__(kind, error, trace)


def _wanted(progress: bool | None) -> bool:  # noqa: FBT001 - three states, as everywhere
    return progress or (progress is None and is_watched())
