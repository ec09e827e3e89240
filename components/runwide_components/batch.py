"""The runs of a batch: a sequence that is also a table and a page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from runwide.errors import InputError, RunwideError
from runwide.redaction import redacted, shortened
from runwide.streams import printable
from runwide_components.engines.base import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Group

    from runwide._report import Report

_RESULT = re.compile(r"[^\s#]+/result[^/\s#]*\.json#sha256=[0-9a-f]{64}")
_ERROR = 160  # characters of an error in the table; names and links are never shortened
_COLOURS = {
    RunState.PENDING: "dim", RunState.RUNNING: "cyan", RunState.SUCCEEDED: "green",
    RunState.FAILED: "red", RunState.CANCELLED: "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """One run of a batch.

    Args:
        name: Name of the run.
        arguments: Arguments of the pipeline.
        state: State of the run.
        outputs: Output parameters by name, as far as the engine reports them.
        error: Cause of a failure, in one line.
        run: Id of the run in the engine.
        logs: Link to its logs.
        attempts: Number of submissions.
        seconds: Seconds from its submission to its end.
        reused: Whether it succeeded in an earlier call, and was not run again.
        started: Time of its submission, Unix time in seconds; 0 if unknown.
        pipeline: Name of the pipeline; empty if unknown.
    """

    name: str
    arguments: dict[str, Any]
    state: RunState = RunState.PENDING
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    run: str = ""
    logs: str = ""
    attempts: int = 0
    seconds: float = 0.0
    reused: bool = False
    started: float = 0.0
    pipeline: str = ""

    def row(self) -> dict[str, Any]:
        """Return its arguments, its outputs and its end in one flat row.

        An output whose name is also the name of an argument is called ``output.NAME``.
        """
        outputs = {
            name if name not in self.arguments else f"output.{name}": one
            for name, one in self.outputs.items()
        }
        about = {"run": self.name, "state": self.state.value, "seconds": self.seconds, "error": self.error}
        return {**self.arguments, **outputs, **about}


class Batch(Sequence[PipelineRun]):
    """The runs of a batch, in the order of their sets of parameters.

    Args:
        runs: The runs.
        uri: URI of the batch; empty if unknown.

    Example:
        >>> batch = Batch([PipelineRun("a", {"x": 1}, RunState.SUCCEEDED, {"Output": 2})])
        >>> batch.table()
        [{'x': 1, 'Output': 2, 'run': 'a', 'state': 'succeeded', 'seconds': 0.0, 'error': ''}]
    """

    def __init__(self, runs: Sequence[PipelineRun], *, uri: str = "") -> None:
        self._runs = tuple(runs)
        self.uri = uri

    @overload
    def __getitem__(self, index: int) -> PipelineRun: ...
    @overload
    def __getitem__(self, index: slice) -> Batch: ...
    def __getitem__(self, index: int | slice) -> PipelineRun | Batch:
        return Batch(self._runs[index], uri=self.uri) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"<Batch {self.summary()}>"

    @property
    def failed(self) -> Batch:
        """The runs that have not succeeded."""
        return Batch([run for run in self._runs if run.state is not RunState.SUCCEEDED], uri=self.uri)

    def summary(self) -> str:
        """Return the number of runs in each state, as text."""
        counts = Counter(run.state for run in self._runs)
        return ", ".join(f"{counts[state]} {state.value}" for state in RunState if counts[state]) or "no runs"

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each run, see `PipelineRun.row`."""
        return [run.row() for run in self._runs]

    def dataframe(self) -> Any:
        """Return the table as a DataFrame of pandas.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("pandas is not installed", hint="use table(), or pip install pandas") from error
        return pd.DataFrame(self.table())

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.table import Column, Table

        columns = [Column(name, overflow="fold") for name in ("run", "state", "attempts", "seconds", "")]
        table = Table(*columns, box=None, pad_edge=False, header_style="dim")
        for run in self._runs:
            state = f"[{_COLOURS[run.state]}]{run.state.value}[/]" + (" before" if run.reused else "")
            seconds = f"{run.seconds:.0f}" if run.seconds else ""
            table.add_row(
                _escaped(run.name),
                state,
                str(run.attempts or ""),
                seconds,
                _escaped(shortened(run.error, _ERROR) if run.error else run.logs),
            )
        return Group(self.summary(), table)

    def page(self, *, title: str = "", reports: Mapping[str, str] | None = None) -> str:
        """Return a self-contained HTML page: all runs with their links, and findings about them.

        Args:
            title: Title of the page; the name of the batch if empty.
            reports: Links to the reports of the runs' fan-outs, by name of the run. A link that is an output of a run
                need not be given.
        """
        from runwide_components import batch_page

        found = {run.name: link for run in self._runs if (link := batch_page.link_of(run))}
        return batch_page.page(self._runs, title=title, uri=self.uri, reports={**found, **(reports or {})})

    def save(self, path: str | Path, *, title: str = "") -> Path:
        """Write the page to a file, and the reports of the runs' fan-outs beside it, as far as they can be read.

        A run has a report if the ``.output`` of a `fan_out` is an output of its pipeline.

        Returns:
            The file.

        Raises:
            InputError: The file cannot be written.
        """
        target = Path(path)
        folder = target.with_name(f"{target.stem}-reports")
        links = {}
        for number, run in enumerate(self._runs):
            report = _report(run)
            if report is not None:
                file = report.save(folder / f"{number:04d}.html")
                links[run.name] = f"{folder.name}/{file.name}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.page(title=title, reports=links), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the page ({error.strerror})", uri=str(target)) from error
        return target

    def _repr_html_(self) -> str:
        from runwide._report import framed

        return framed(self.page(), title="runs of a batch", height=min(900, 420 + 34 * len(self)), links=True)


def _report(run: PipelineRun) -> Report | None:
    """Return the report of the fan-out whose results are an output of a run; None if there is no such job."""
    from runwide._report import report

    for value in run.outputs.values():
        if isinstance(value, str) and _RESULT.fullmatch(value):
            with suppress(RunwideError):
                return report(value)
    return None


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(printable(redacted(text)))
