"""A report as an object: shown in a notebook, saved as a page, or taken as numbers."""

from __future__ import annotations

import tempfile
import time
import uuid
import webbrowser
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide.errors import InputError
from runwide.host import space
from runwide.job import event_log, events
from runwide.job.reference import whole
from runwide.report import figures, findings, metrics, reading
from runwide.report.page import page
from runwide.results import Results

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self

    from runwide.records import TaskBatch, TaskEvent
    from runwide.report.figures import Figures
    from runwide.report.findings import Finding
    from runwide.report.story import Story

_HEIGHT = 900  # pixels of the frame in a notebook


class Report:
    """What happened in a job or a map; the last value of a notebook's cell shows it in place.

    Args:
        story: What was read.
    """

    def __init__(self, story: Story) -> None:
        self.story = story
        self.figures: Figures = figures.of(story)

    @property
    def findings(self) -> list[Finding]:
        """What the numbers mean, those that matter most first."""
        return findings.of(self.story, self.figures)

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers under plain names, as for ``dsl.Metrics``."""
        return metrics.of(self.figures)

    def html(self) -> str:
        """The page: self-contained, for a file, a sandboxed frame, or an artifact."""
        return page(self.story)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, whose folder is made if need be.

        Raises:
            InputError: It cannot be written there.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.html(), encoding="utf-8")
        except OSError as error:
            raise InputError(f"the report cannot be written ({error.strerror})", uri=str(target)) from error
        return target

    def open(self) -> Path:
        """Show the page in a browser; it stays in a file in the folder for temporary ones, which is returned."""
        folder = Path(tempfile.mkdtemp(prefix="runwide-report-", dir=space.temporary()))
        target = self.save(folder / "report.html")
        webbrowser.open(target.as_uri())
        return target

    def _repr_html_(self) -> str:
        return framed(self.html(), title="runwide report")

    def __repr__(self) -> str:
        lines = [f"{one.level.value:>8}  {one.text}" for one in self.findings]
        return "\n".join([f"<runwide report of {self.story.title}>", *lines])


def framed(html: str, *, title: str, height: int = _HEIGHT, links: bool = False) -> str:
    """A page in a frame of its own, for a notebook: what is around it is out of its reach.

    Args:
        html: The page.
        title: What it is, for a screen reader.
        height: Of the frame, in pixels.
        links: Whether links in it may open windows.
    """
    allowed = "allow-scripts allow-popups allow-popups-to-escape-sandbox" if links else "allow-scripts"
    return (
        f'<iframe sandbox="{allowed}" title="{escape(title)}" srcdoc="{escape(html, quote=True)}" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


class Recording:
    """Records a map on this container's cores, which writes no events by itself.

    Args:
        name: A title for the report.

    Example:
        >>> with Recording("squares") as recording:
        ...     runwide.map(lambda x: x * x, range(4), workers=1, on_event=recording)
        [0, 1, 4, 9]
        >>> report(recording).metrics["results"]
        4
    """

    def __init__(self, name: str = "map", *, workers: int | None = None) -> None:
        self._parts: list[bytes] = []
        run = events.Run(
            id=uuid.uuid4().hex[:12],
            started=time.time(),
            function=name,
            host=event_log.host_facts(workers),
        )
        self._log = event_log.EventLog(run, lambda _, part: self._parts.append(part))

    def __call__(self, event: TaskEvent) -> None:
        """Take one event; give this object as ``on_event=``."""
        self._log.task(event, event.index)

    def batch(self, batch: TaskBatch) -> None:
        """Take many at once."""
        self._log.batch(batch, range(batch.index, batch.index + batch.tasks))

    def __enter__(self) -> Self:
        self._log.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.__exit__(kind, error, trace)

    @property
    def lines(self) -> bytes:
        """The events, one JSON object a line."""
        return b"".join(self._parts)

    @property
    def name(self) -> str:
        """The title."""
        return self._log.run.function


def report(job: str | Recording | Results[Any], *, store: str | None = None) -> Report:
    """What happened in a job, or in a map.

    Args:
        job: The reference that `runwide.scatter` returned, that of the job's results, a `Recording`,
            or what `runwide.map` has returned; or another name of a job, see `runwide.gather`.
        store: Where an id or a name is looked for; ``RUNWIDE_STORE`` where None.

    Raises:
        InputError: Nothing was recorded of these results.
        ObjectNotFound: The job is not there (any more).

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-report", shards=1)
        >>> reference = runwide.shard(job, 0, workers=1)
        >>> report(job).metrics["results"]
        2
    """
    if isinstance(job, Recording):
        return Report(reading.of_lines(job.lines, title=job.name))
    if not isinstance(job, Results):
        return Report(reading.of_job(whole(job, store)))
    if job.job is not None:
        return Report(reading.of_job(job.job))
    if job.trace is None or not job.trace.sums:
        raise InputError(
            "nothing was recorded of how these results came about",
            hint="a map inside of a task runs in place, and other places may keep nothing: runwide.Recording or store= do",
        )
    return Report(reading.of_trace(job.trace, job))
