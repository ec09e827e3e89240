"""The page of a batch: one row for each run, with links, and what the runs say together."""

from __future__ import annotations

import json
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from runwide.redaction import redacted_fields, shortened
from runwide.report import markup, words
from runwide.report.findings import Finding, Level
from runwide.report.markup import text
from runwide_components.engines.base import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runwide_components.batch import PipelineRun

_SLOW = 2.0  # times the median from which a run is called slow
_ENOUGH = 4  # runs from which a median says something
_ALIKE = 2  # runs that failed with the same words
_CELL = 200  # characters of a value that are shown
_CLOUD = "https://storage.cloud.google.com/"

Columns = list[tuple[str, bool]]


def page(runs: Sequence[PipelineRun], *, title: str = "", reports: Mapping[str, str] | None = None) -> str:
    """The page.

    Args:
        runs: The runs.
        title: What the batch is called.
        reports: Links to the reports of their fan-outs, by name of the run.

    Example:
        >>> "There are no runs" in page([])
        True
    """
    assets = {name: markup.asset("runwide_components", f"batch.{name}") for name in ("html", "css", "js")}
    style = markup.asset("runwide.report", "page.css") + assets["css"]
    states = Counter(run.state for run in runs)
    options = (
        f'<option value="{state.value}">{state.value} ({states[state]})</option>' for state in RunState if states[state]
    )  # fmt: skip
    name = title or "Pipeline runs"
    parts = {
        "title": text(name),
        "heading": text(name),
        "subtitle": text(words.count(len(runs), "run") + _total(runs)),
        "tiles": markup.tiles(_tiles(runs)),
        "findings": markup.findings(findings(runs)),
        "states": "".join(options),
        "runs": _table(runs, reports or {}) if runs else "<p>There are no runs.</p>",
        "common": _common(runs),
    }
    return markup.filled(assets["html"], style=style, script=assets["js"], parts=parts)


def link_of(run: PipelineRun) -> str:
    """A link to the report of a run's fan-out that its outputs name: an HTML file in a bucket.

    Example:
        >>> from runwide_components.batch import PipelineRun
        >>> link_of(PipelineRun("r", {}, outputs={"report": "gs://bucket/run/report.html"}))
        'https://storage.cloud.google.com/bucket/run/report.html'
    """
    for value in run.outputs.values():
        if isinstance(value, str) and value.startswith("gs://") and value.endswith(".html"):
            return _CLOUD + value.removeprefix("gs://")
    return ""


def findings(runs: Sequence[PipelineRun]) -> list[Finding]:
    """What the runs say together, what matters most first."""
    order = list(Level)
    found = [*_failures(runs), *_unended(runs), *_slow(runs), *_repeated(runs), *_well(runs)]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _failures(runs: Sequence[PipelineRun]) -> Iterator[Finding]:
    failed = [run for run in runs if run.state is RunState.FAILED]
    if not failed:
        return
    yield Finding(
        Level.BAD,
        f"{len(failed)} of {words.count(len(runs), 'run')} failed.",
        "See why in their rows and on their pages. The same call again runs only those that have not succeeded.",
    )
    error, count = Counter(run.error for run in failed if run.error).most_common(1)[0] if any(
        run.error for run in failed
    ) else ("", 0)  # fmt: skip  # the commonest
    if count >= _ALIKE:
        yield Finding(
            Level.WARNING,
            f"{count} runs failed alike: {shortened(error, _CELL)}",
            "One cause, probably: mend it once.",
        )


def _unended(runs: Sequence[PipelineRun]) -> Iterator[Finding]:
    going = sum(not run.state.ended for run in runs)
    if going:
        yield Finding(
            Level.NOTE,
            f"{words.count(going, 'run')} {words.verb(going, 'has', 'have')} not ended.",
            "Follow them with runwide status, or runwide wait, and the URI or the name of the batch.",
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
        times = f"{run.seconds / typical:.1f} \N{MULTIPLICATION SIGN}"
        yield Finding(
            Level.WARNING,
            f"{run.name} took {words.seconds(run.seconds)}, {times} the median run.",
            "Look at its page: more data, a queue, or a slow machine. If it is the data, give it more components.",
        )


def _repeated(runs: Sequence[PipelineRun]) -> Iterator[Finding]:
    again = sum(max(0, run.attempts - 1) for run in runs)
    if again:
        yield Finding(Level.NOTE, f"{words.count(again, 'attempt')} had to be made again.")
    reused = sum(run.reused for run in runs)
    if reused:
        verb = words.verb(reused, "was", "were")
        yield Finding(Level.NOTE, f"{words.count(reused, 'run')} succeeded before and {verb} not run again.")


def _well(runs: Sequence[PipelineRun]) -> Iterator[Finding]:
    if runs and all(run.state is RunState.SUCCEEDED for run in runs):
        yield Finding(Level.GOOD, "All runs succeeded.")


def _total(runs: Sequence[PipelineRun]) -> str:
    seconds = sum(run.seconds for run in runs)
    return f" · {words.seconds(seconds)} of run time" if seconds else ""


def _tiles(runs: Sequence[PipelineRun]) -> list[tuple[str, str, str, float]]:
    succeeded = [run for run in runs if run.state is RunState.SUCCEEDED]
    failed = sum(run.state is RunState.FAILED for run in runs)
    active = sum(not run.state.ended for run in runs)
    took = [run.seconds for run in succeeded if run.seconds]
    start, end = _span(runs)
    tiles: list[tuple[str, str, str, float]] = [
        ("succeeded", f"{len(succeeded):,}", "succeeded", len(succeeded)),
        ("failed", f"{failed:,}", "failed", failed),
        ("active", f"{active:,}", "not ended", active),
    ]
    if end > start:
        tiles.append(("wall", words.seconds(end - start), "from first submission to last end", end - start))
    if took:
        tiles.append(("median", words.seconds(median(took)), "the median run that succeeded", median(took)))
    return tiles


def _span(runs: Sequence[PipelineRun]) -> tuple[float, float]:
    known = [
        run for run in runs if run.started and not run.reused
    ]  # those of an earlier call say nothing of this one
    start = min((run.started for run in known), default=0.0)
    return start, max((run.started + run.seconds for run in known), default=0.0)


def _names(runs: Sequence[PipelineRun], where: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in getattr(run, where)))


def _same(runs: Sequence[PipelineRun]) -> dict[str, str]:
    """Parameters that say nothing of a run, since all have the same."""
    found = {}
    for name in _names(runs, "arguments") if len(runs) > 1 else []:
        value = runs[0].arguments.get(name)
        if len({_written(run.arguments.get(name)) for run in runs}) == 1:
            found[name] = _shown(_hidden(name, value))
    return found


def _common(runs: Sequence[PipelineRun]) -> str:
    same = _same(runs)
    if not same:
        return ""
    listed = ", ".join(f"<code>{text(name)} = {text(value)}</code>" for name, value in same.items())
    return f"<p>The same in all runs: {listed}.</p>"


def _table(runs: Sequence[PipelineRun], reports: Mapping[str, str]) -> str:
    same = _same(runs)
    given = [name for name in _names(runs, "arguments") if name not in same]
    made = _names(runs, "outputs")
    start, end = _span(runs)
    columns: Columns = [("run", False), ("state", False), ("took", True), ("attempts", True)]
    columns += [("over time", False)] if end > start else []
    columns += [(name, _are_numbers(runs, "arguments", name)) for name in given]
    columns += [(name, _are_numbers(runs, "outputs", name)) for name in made]
    body = []
    for run in runs:
        lane = [_lane(run, start, end)] if end > start else []
        values = [_value(name, run.arguments.get(name, "")) for name in given]
        values += [_value(name, run.outputs.get(name, "")) for name in made]
        seconds = (
            f'<data value="{run.seconds!r}">{text(words.seconds(run.seconds))}</data>' if run.seconds else ""
        )
        cells = [
            _run(run, reports.get(run.name, "")),
            _state(run),
            seconds,
            str(run.attempts or ""),
            *lane,
            *values,
        ]
        body.append(f'<tr data-state="{run.state.value}">{markup.cells(cells, columns)}</tr>')
    heading = "".join(
        f'<th scope="col"{" class=num" if number else ""}><button type="button">{text(name)}</button></th>'
        for name, number in columns
    )
    return markup.framed(heading, "".join(body), name="runs", label="The runs of the batch")


def _run(run: PipelineRun, report: str) -> str:
    name = text(run.name)
    if run.logs.startswith(("https://", "http://")):
        name = f'<a href="{text(run.logs)}" target="_blank" rel="noopener noreferrer">{name}</a>'
    link = f' · <a href="{text(report)}">report</a>' if report else ""
    error = f'<span class="error">{text(run.error)}</span>' if run.error else ""
    return f"{name}{link}{error}"


def _state(run: PipelineRun) -> str:
    before = " before" if run.reused else ""
    return f'<span class="state {run.state.value}">{run.state.value}{before}</span>'


def _lane(run: PipelineRun, start: float, end: float) -> str:
    if not run.started or run.reused:
        return ""
    lasted = run.seconds if run.state.ended else end - run.started
    left, width = 100 * (run.started - start) / (end - start), 100 * lasted / (end - start)
    about = text(f"{run.name}: from {words.seconds(run.started - start)} on, for {words.seconds(lasted)}")
    bar = f'<i class="{run.state.value}" style="left:{left:.2f}%;width:{width:.2f}%"></i>'
    return f'<data value="{run.started - start!r}"><span class="lane" role="img" aria-label="{about}">{bar}</span></data>'


def _are_numbers(runs: Sequence[PipelineRun], where: str, name: str) -> bool:
    found = [getattr(run, where)[name] for run in runs if name in getattr(run, where)]
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)


def _value(name: str, value: Any) -> str:
    clean = _hidden(name, value)
    if isinstance(clean, float):
        return f'<data value="{clean!r}">{clean:.6g}</data>'
    return text(_shown(clean))


def _hidden(name: str, value: Any) -> Any:
    """A value without its secrets, of which its name may be the only sign."""
    return redacted_fields({name: value})[name]


def _shown(value: Any) -> str:
    return shortened(_written(value), _CELL)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
