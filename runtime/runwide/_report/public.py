"""The report of a job or a map: shown in a notebook, saved as a page, or read as numbers."""

from __future__ import annotations

import tempfile
import time
import uuid
import webbrowser
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwide._report import figures, findings, reading
from runwide._report.page import page
from runwide.errors import InputError
from runwide.events.log import EventLog
from runwide.events.model import Run
from runwide.host import space
from runwide.job.environment import host_facts
from runwide.job.reference import resolve
from runwide.records import Results

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self

    from runwide._report.figures import Figures
    from runwide._report.findings import Finding
    from runwide._report.reading import Story
    from runwide.events.model import TaskBatch, TaskEvent

_HEIGHT = 900  # pixels of the frame in a notebook


class Report:
    """The report of a job or a map; a notebook shows its page.

    Args:
        story: The facts about the job or the map.
    """

    def __init__(self, story: Story) -> None:
        self.story = story
        self.figures: Figures = figures.of(story)

    @property
    def findings(self) -> list[Finding]:
        """Findings, the most important first."""
        return findings.explain(self.story, self.figures)

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers by name, as for ``dsl.Metrics``."""
        return figures.metrics(self.figures)

    def html(self) -> str:
        """Return the page: self-contained HTML, for a file, a sandboxed frame, or an artifact."""
        return page(self.story)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file; missing folders are made.

        Raises:
            InputError: The file cannot be written.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.html(), encoding="utf-8")
        except OSError as error:
            raise InputError(f"the report cannot be written ({error.strerror})", uri=str(target)) from error
        return target

    def open(self) -> Path:
        """Show the page in a browser, and return its file, which stays in the folder for temporary files."""
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
    """Put a page into a sandboxed frame, for a notebook: the page cannot reach the notebook.

    Args:
        height: Height of the frame in pixels.
        links: Whether links of the page may open windows.
    """
    allowed = "allow-scripts allow-popups allow-popups-to-escape-sandbox" if links else "allow-scripts"
    return (
        f'<iframe sandbox="{allowed}" title="{escape(title)}" srcdoc="{escape(html, quote=True)}" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


class Recording:
    """Record the events of a map without a store.

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
        run = Run(
            id=uuid.uuid4().hex[:12],
            started=time.time(),
            function=name,
            host=host_facts(workers),
        )
        self._log = EventLog(run, lambda _, part: self._parts.append(part))

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
    """Make the report of a job or a map.

    Args:
        job: The reference that `runwide.scatter` returned, the reference of the job's results, another name of a job
            (see `runwide.gather`), the results of `runwide.map`, or a `Recording`.
        store: Store in which an id or a name is looked up; ``RUNWIDE_STORE`` if None.

    Raises:
        InputError: No events were recorded for these results.
        ObjectNotFound: The job does not exist, or was deleted.

    Example:
        >>> job = runwide.scatter(abs, [-1, -2], store="memory://doc-report", shards=1)
        >>> reference = runwide.shard(job, 0, workers=1)
        >>> report(job).metrics["results"]
        2
    """
    if isinstance(job, Recording):
        return Report(reading.of_lines(job.lines, title=job.name))
    if not isinstance(job, Results):
        return Report(reading.of_job(resolve(job, store)))
    if job.job is not None:
        return Report(reading.of_job(job.job))
    if job.trace is None or not job.trace.sums:
        raise InputError(
            "nothing was recorded of these results",
            hint="a map inside of a task, or on an engine of your own, may record nothing: give the call "
            "on_event=runwide.Recording(), or store=",
        )
    return Report(reading.of_trace(job.trace, job))
