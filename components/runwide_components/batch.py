"""What is known of the runs of a batch: records in a store, and the table that they make."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from runwide.errors import InputError, RunwideError
from runwide.redaction import shortened
from runwide.writing import printable
from runwide_components.engines.base import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from runwide.report import Report

_RESULT = re.compile(r"[^\s#]+/result[^/\s#]*\.json#sha256=[0-9a-f]{64}")
_COLOURS = {
    RunState.PENDING: "dim", RunState.RUNNING: "cyan", RunState.SUCCEEDED: "green",
    RunState.FAILED: "red", RunState.CANCELLED: "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """One run of a batch.

    Args:
        name: Its name.
        arguments: Its arguments.
        state: Where it is.
        outputs: Its output parameters by name, as far as the engine tells them.
        error: Why it failed, in one line.
        run: What the engine calls it.
        logs: Where its logs are.
        attempts: How often it was submitted.
        seconds: From its submission to its end.
        reused: Whether it had succeeded before, and was not run again.
        started: When it was submitted, Unix time in seconds; 0 where that is not known.
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

    def row(self) -> dict[str, Any]:
        """Its arguments, its outputs, and what became of it, in one flat row.

        An output has its own name, but for one that an argument has as well.
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

    Example:
        >>> batch = Batch([PipelineRun("a", {"x": 1}, RunState.SUCCEEDED, {"Output": 2})])
        >>> batch.table()
        [{'x': 1, 'Output': 2, 'run': 'a', 'state': 'succeeded', 'seconds': 0.0, 'error': ''}]
    """

    def __init__(self, runs: Sequence[PipelineRun]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> PipelineRun: ...
    @overload
    def __getitem__(self, index: slice) -> Batch: ...
    def __getitem__(self, index: int | slice) -> PipelineRun | Batch:
        return Batch(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"<Batch {self.summary()}>"

    @property
    def failed(self) -> Batch:
        """The runs that have not succeeded."""
        return Batch([run for run in self._runs if run.state is not RunState.SUCCEEDED])

    def summary(self) -> str:
        """How many runs are where."""
        counts = Counter(run.state for run in self._runs)
        return ", ".join(f"{counts[state]} {state.value}" for state in RunState if counts[state]) or "no runs"

    def table(self) -> list[dict[str, Any]]:
        """One row for each run, see `PipelineRun.row`."""
        return [run.row() for run in self._runs]

    def dataframe(self) -> Any:
        """The same as a DataFrame of pandas.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError(
                "pandas is not installed here", hint="use table(), or pip install pandas"
            ) from error
        return pd.DataFrame(self.table())

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table("run", "state", "attempts", "seconds", "", box=None, pad_edge=False, header_style="dim")
        table.title = self.summary()
        for run in self._runs:
            state = f"[{_COLOURS[run.state]}]{run.state.value}[/]" + (" before" if run.reused else "")
            seconds = f"{run.seconds:.0f}" if run.seconds else ""
            table.add_row(
                _escaped(run.name), state, str(run.attempts or ""), seconds, _escaped(run.error or run.logs)
            )
        return table

    def page(self, *, title: str = "", reports: Mapping[str, str] | None = None) -> str:
        """One self-contained HTML page: all runs with their links, and what they say together.

        Args:
            title: What it is called.
            reports: Links to the reports of the runs' fan-outs, by name of the run; those that their outputs name are
                found by themselves.
        """
        from runwide_components import batch_page

        found = {run.name: link for run in self._runs if (link := batch_page.link_of(run))}
        return batch_page.page(self._runs, title=title, reports={**found, **(reports or {})})

    def save(self, path: str | Path, *, title: str = "") -> Path:
        """Write the page to a file, and beside it the report of each run's fan-out, as far as it can be read.

        A run's fan-out is known where the run puts out its results: the ``.output`` of a `fan_out`.

        Returns:
            The file.

        Raises:
            InputError: It cannot be written there.
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
            raise InputError(f"the page cannot be written ({error.strerror})", uri=str(target)) from error
        return target

    def _repr_html_(self) -> str:
        from runwide.report import framed

        return framed(self.page(), title="runs of a batch", height=min(900, 420 + 34 * len(self)), links=True)


def _report(run: PipelineRun) -> Report | None:
    """The report of the fan-out whose results a run has put out; None where there is none, or it is gone."""
    from runwide.report import report

    for value in run.outputs.values():
        if isinstance(value, str) and _RESULT.fullmatch(value):
            with suppress(RunwideError):
                return report(value)
    return None


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(printable(shortened(text, 160)))
