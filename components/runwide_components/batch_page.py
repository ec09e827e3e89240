"""Make the page of a batch: one row for each run, with links, and findings about all runs."""

from __future__ import annotations

import json
import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from runwide import words
from runwide._report.findings import Finding, Level, alike
from runwide._report.rendering import render
from runwide.job.reference import quoted
from runwide.redaction import redacted_fields, shortened
from runwide_components.engines.base import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runwide_components.batch import PipelineRun

_SLOW = 2.0  # times the median: a run that takes longer is slow
_ENOUGH = 4  # fewer runs have no meaningful median
_CELL = 200  # characters of a value that are shown
_CLOUD = "https://storage.cloud.google.com/"


def page(
    runs: Sequence[PipelineRun], *, title: str = "", uri: str = "", reports: Mapping[str, str] | None = None
) -> str:
    """Return the page.

    Args:
        title: Title of the page; the name of the batch if empty.
        reports: Links to the reports of the runs' fan-outs, by name of the run.

    Example:
        >>> "There are no runs" in page([])
        True
    """
    states = Counter(run.state for run in runs)
    took = [run.seconds for run in runs if run.state is RunState.SUCCEEDED and run.seconds]
    # a run that an earlier call has ended is not a part of the time of this call
    timed = [run for run in runs if run.started and not run.reused]
    start = min((run.started for run in timed), default=0.0)
    end = max((run.started + run.seconds for run in timed), default=0.0)
    first = min((run.started for run in runs if run.started), default=0.0)
    same = _same(runs)
    shown = [("arguments", name) for name in _names(runs, "arguments") if name not in same]
    shown += [("outputs", name) for name in _names(runs, "outputs")]
    numeric = [_are_numbers(runs, where, name) for where, name in shown]
    columns = [("run", False), ("state", False), ("duration", True), ("attempts", True)]
    columns += [("over time", False)] if end > start else []
    columns += [(name, number) for (_, name), number in zip(shown, numeric, strict=True)]
    return render(
        "batch.html",
        packages=("runwide_components",),
        styles=("batch.css",),
        scripts=("batch.js",),
        title=title or uri.rpartition("/")[2] or "Pipeline runs",
        uri=uri,
        pipelines=list(dict.fromkeys(run.pipeline for run in runs if run.pipeline)),
        runs=runs,
        date=time.strftime("%Y-%m-%d %H:%M", time.gmtime(first)) if first else "",
        total=sum(run.seconds for run in runs),
        succeeded=states[RunState.SUCCEEDED],
        failed=states[RunState.FAILED],
        active=sum(not run.state.ended for run in runs),
        took=took,
        median=median(took) if took else 0.0,
        start=start,
        end=end,
        findings=findings(runs, uri),
        states={state.value: states[state] for state in RunState if states[state]},
        columns=columns,
        rows=[(run, (reports or {}).get(run.name, ""), _values(run, shown, numeric)) for run in runs],
        same=same,
    )


def link_of(run: PipelineRun) -> str:
    """Return a link to the report that a run's outputs name: an HTML file in a bucket.

    Example:
        >>> from runwide_components.batch import PipelineRun
        >>> link_of(PipelineRun("r", {}, outputs={"report": "gs://bucket/run/report.html"}))
        'https://storage.cloud.google.com/bucket/run/report.html'
    """
    for value in run.outputs.values():
        if isinstance(value, str) and value.startswith("gs://") and value.endswith(".html"):
            return _CLOUD + value.removeprefix("gs://")
    return ""


def findings(runs: Sequence[PipelineRun], uri: str = "") -> list[Finding]:
    """Return findings about all runs, the most important first."""
    order = list(Level)
    found = [*_failures(runs, uri), *_unended(runs, uri), *_slow(runs), *_repeated(runs), *_well(runs)]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _failures(runs: Sequence[PipelineRun], uri: str) -> Iterator[Finding]:
    failed = [run for run in runs if run.state is RunState.FAILED]
    if not failed:
        return
    yield Finding(
        Level.ERROR,
        f"{len(failed)} of {words.count(len(runs), 'run')} failed.",
        f"The cause is in the row of each run, and on its page. {_again(uri)}",
    )
    for cause in alike(shortened(run.error, _CELL) for run in failed if run.error)[:1]:
        example = cause.example if cause.same else f"for example, {cause.example}"
        yield Finding(
            Level.WARNING, f"{cause.count} runs failed alike: {example}", "They probably have one cause."
        )


def _again(uri: str) -> str:
    """Return the advice for runs that failed: the call that continues the batch."""
    advice = "The same call again runs only runs that have not succeeded"
    store, found, name = uri.rpartition("/batches/")
    if not found:
        return f"{advice}."
    return (
        f"{advice}: `Pipelines(pipeline, store={store!r}, name={name!r}).map(parameters)`, or in a shell "
        f"`runwide submit PIPELINE.yaml PARAMETERS --store {quoted(store)} --name {name}`. "
        "Pass the pipeline, the parameters and the engine of the first call."
    )


def _unended(runs: Sequence[PipelineRun], uri: str) -> Iterator[Finding]:
    active = sum(not run.state.ended for run in runs)
    if active:
        commands = (
            ("See how far they are", f"runwide status {quoted(uri)}"),
            ("Wait for them", f"runwide wait {quoted(uri)}"),
        )
        yield Finding(
            Level.NOTE,
            f"{words.count(active, 'run')} {words.verb(active, 'has', 'have')} not ended.",
            "" if uri else "Follow them with `runwide status` and the name of the batch.",
            commands if uri else (),
        )
    cancelled = sum(run.state is RunState.CANCELLED for run in runs)
    if cancelled:
        yield Finding(
            Level.WARNING,
            f"{words.count(cancelled, 'run')} {words.verb(cancelled, 'was', 'were')} cancelled.",
            "The same call again runs them.",
        )


def _slow(runs: Sequence[PipelineRun]) -> Iterator[Finding]:
    took = [run.seconds for run in runs if run.state is RunState.SUCCEEDED and run.seconds > 0]
    if len(took) < _ENOUGH:
        return
    typical = median(took)
    slow = [run for run in runs if run.seconds > _SLOW * typical and run.seconds - typical > 1]
    for run in sorted(slow, key=lambda run: -run.seconds)[:3]:
        yield Finding(
            Level.WARNING,
            f"{run.name} took {words.seconds(run.seconds)}, {run.seconds / typical:.1f} {words.TIMES} the median run.",
            "Its page shows if it had more data, waited in a queue, or had a slow machine. For more data, give it more "
            "components.",
        )


def _repeated(runs: Sequence[PipelineRun]) -> Iterator[Finding]:
    again = sum(max(0, run.attempts - 1) for run in runs)
    if again:
        yield Finding(Level.NOTE, f"{words.count(again, 'attempt')} had to be repeated.")
    reused = sum(run.reused for run in runs)
    if reused:
        verb = words.verb(reused, "was", "were")
        yield Finding(Level.NOTE, f"{words.count(reused, 'run')} succeeded before and {verb} not run again.")


def _well(runs: Sequence[PipelineRun]) -> Iterator[Finding]:
    if runs and all(run.state is RunState.SUCCEEDED for run in runs):
        yield Finding(Level.GOOD, "All runs succeeded.")


def _names(runs: Sequence[PipelineRun], where: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in getattr(run, where)))


def _same(runs: Sequence[PipelineRun]) -> dict[str, str]:
    """Return the arguments that have the same value in all runs."""
    found = {}
    for name in _names(runs, "arguments") if len(runs) > 1 else []:
        if len({_written(run.arguments.get(name)) for run in runs}) == 1:
            found[name] = _written(_clean(name, runs[0].arguments.get(name)))
    return found


def _are_numbers(runs: Sequence[PipelineRun], where: str, name: str) -> bool:
    found = [getattr(run, where)[name] for run in runs if name in getattr(run, where)]
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)


def _values(
    run: PipelineRun, shown: Sequence[tuple[str, str]], numeric: Sequence[bool]
) -> list[tuple[float | str, bool]]:
    """Return the cells of a run's arguments and outputs, each with whether its column has numbers."""
    found = [_clean(name, getattr(run, where).get(name, "")) for where, name in shown]
    return [
        (one if isinstance(one, float) else _written(one), number)
        for one, number in zip(found, numeric, strict=True)
    ]


def _clean(name: str, value: Any) -> Any:
    """Return a value without secrets; its name may show that it is one."""
    clean = redacted_fields({name: value})[name]
    return clean if isinstance(clean, float) else shortened(_written(clean), _CELL)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
