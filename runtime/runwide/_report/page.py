"""Make the page of a job or a map: one HTML file that opens offline and in a sandbox."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from runwide import words
from runwide._report import figures, findings, series
from runwide._report.reading import LISTED
from runwide._report.rendering import render
from runwide.events.model import ENDED
from runwide.prices import money
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide._report.figures import Figures
    from runwide._report.reading import Story
    from runwide._report.series import Series

_ALIKE = 8  # errors that are counted
_TRACEBACK = 4000
_MESSAGE = 300
_TRACEBACKS = 400_000  # characters of all tracebacks together
_SHARDS = 500  # rows of the table of shards
_TABLE_ROWS = 12  # of the table beside a chart
_TICKS = 6
_MARGIN = 1.05  # space above the highest value of a chart

_TIME_PARTS = (
    ("useful", "tasks that gave a result"),
    ("wasted", "attempts that failed"),
    ("startup", "start, imports, reading the job"),
    ("queueing", "waiting for the next task"),
    ("stragglers", "waiting for the last tasks of the shard"),
    ("spill", "writing results at the end"),
    ("unused", "workers without a task"),
)
_OPERATIONS = {
    "items.fetched": "items read",
    "chunk.spilled": "results written",
    "object.read": "other reads",
    "object.written": "other writes",
    "objects.listed": "listings",
}


def page(story: Story) -> str:
    """Return the page.

    Example:
        >>> from runwide._report.reading import Story
        >>> "<!doctype html>" in page(Story("empty", "f", 0, 1, 0, ()))
        True
    """
    numbers = figures.of(story)
    clock = series.Clock.over(story.runs)
    good = min(numbers.ended, max(0, story.items - numbers.failed))
    failed = _failed(story, numbers)
    return render(
        "job.html",
        scripts=("job.js",),
        story=story,
        numbers=numbers,
        function=story.function or "map",
        good=good,
        missing=story.items - good - numbers.failed,
        workers=sum(shard.workers for shard in numbers.shards),
        dollars=money(numbers.cost.dollars) if numbers.cost else "",
        findings=findings.explain(story, numbers),
        previous=story.previous,
        compared=_compared(numbers, figures.of(story.previous)) if story.previous else (),
        clock=clock,
        ticks=ticks(clock.span),
        rows=series.timeline(story.runs),
        kind_of=series.kind_of,
        steps=_steps,
        area=_area,
        line=_line,
        bins=series.BINS,
        **_charts(story),
        failed=failed[:LISTED],
        alike=findings.alike(one.message for one in failed)[:_ALIKE],
        unlisted=len(failed[LISTED:]),
        time_parts=_TIME_PARTS,
        stack_label=_stack_label(numbers),
        shards=sorted(numbers.shards, key=lambda shard: -shard.seconds)[:_SHARDS],
        operations=_OPERATIONS,
        environment=_environment(story, numbers),
        exported={"metrics": figures.metrics(numbers), "lost": asdict(numbers.lost)},
    )


def _compared(now: Figures, before: Figures) -> list[tuple[str, str, str, str]]:
    """Return rows of a measure, its two values, and the change."""
    rows = [
        ("duration", now.wall, before.wall, words.seconds),
        ("items", now.items, before.items, _whole),
        ("failed items", now.failed, before.failed, _whole),
        ("repeated attempts", now.retried, before.retried, _whole),
        ("results a second", now.throughput, before.throughput, "{:,.3g}".format),
        ("cores used", now.cores, before.cores, "{:,.3g}".format),
        ("share of cores used", now.utilisation, before.utilisation, words.share),
        ("median task", now.times.median, before.times.median, words.seconds),
    ]
    return [(name, show(new), show(old), _change(new, old)) for name, new, old, show in rows]


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _change(new: float, old: float) -> str:
    if new == old:
        return "none"
    if not old:
        return "new"
    percent = round(100 * (new - old) / old)
    return f"{percent:+,} %" if percent else "none"


@dataclass(frozen=True, slots=True)
class _Failed:
    """A failed item, as the page lists it."""

    item: int
    kind: str
    message: str
    shard: int
    where: str
    input: str
    traceback: str


def _failed(story: Story, numbers: Figures) -> list[_Failed]:
    failures = {failure.index: failure for failure in story.failures}
    attempts = {attempt.item: attempt for attempt in numbers.failures}
    left = _TRACEBACKS
    found: list[_Failed] = []
    for item in sorted(failures.keys() | attempts.keys()):
        failure, attempt = failures.get(item), attempts.get(item)
        kind = message = trace = where = ""
        if attempt is not None:
            kind, message = attempt.kind, attempt.detail
            where = f"shard {attempt.shard}, worker {attempt.worker}, attempt {attempt.attempt}"
        if failure is not None:
            kind, message = failure.kind.value, f"{failure.type}: {failure.message}"
            if len(found) < LISTED:
                trace = shortened(failure.traceback, min(left, _TRACEBACK), tail=True)
        left -= len(trace)
        shard = -1 if attempt is None else attempt.shard
        said = shortened(message, _MESSAGE)
        found.append(_Failed(item, kind, said, shard, where, story.inputs.get(item, ""), trace))
    return found


def _stack_label(numbers: Figures) -> str:
    shares = ((numbers.lost.share(name), label) for name, label in _TIME_PARTS)
    return ", ".join(f"{words.share(share)} {label}" for share, label in shares if share)


def _environment(story: Story, numbers: Figures) -> dict[str, object]:
    run = story.runs[0].run if story.runs else None
    found: dict[str, object] = {"job": story.uri or story.title, "function": story.function}
    found |= {f"made with {name}": version for name, version in sorted(story.environment.items())}
    if run is not None:
        found |= {f"option {name}": _fact(name, value) for name, value in sorted(run.options.items())}
        found |= {"ran in image": run.image} if run.image else {}
        found |= {f"ran on {name}": _fact(name, value) for name, value in sorted(run.host.items())}
    if numbers.cost is not None:
        found["cost estimated from"] = numbers.cost.basis
    return found


def _fact(name: str, value: object) -> object:
    if name.endswith("memory") and isinstance(value, (int, float)):
        return words.size(value)
    return f"{value:g}" if isinstance(value, float) else value


def _charts(story: Story) -> dict[str, Any]:
    found = series.over_time(story.runs)
    bars = series.histogram(
        (one.each, one.count) for log in story.runs for one in log.attempts if one.name == ENDED
    )
    ranges = [f"{words.seconds(bar.low)} to {words.seconds(bar.high)}" for bar in bars]
    return {
        "cores": _cores(found),
        "memory": _memory(found),
        "bars": bars,
        "most": max((bar.count for bar in bars), default=0),
        "bar_rows": [(shown, f"{bar.count:,}") for shown, bar in zip(ranges, bars, strict=True)],
    }


def _cores(found: Series) -> dict[str, Any]:
    top = max(*found.cores, *found.busy, *found.used, 1.0)
    rows = [
        (words.seconds(start * found.step), *(f"{value:.2f}" for value in values))
        for start, *values in _thinned(found.used, found.busy, found.cores)
    ]
    return {
        "used": found.used, "busy": found.busy, "cores": found.cores, "most": max(found.cores), "top": top,
        "scale": top * _MARGIN, "rows": rows,
    }  # fmt: skip


def _memory(found: Series) -> dict[str, Any] | None:
    known = [share for share in found.memory if share is not None]
    if not known:
        return None
    filled, last = [], known[0]
    for share in found.memory:  # between two samples the last one counts
        last = last if share is None else share
        filled.append(last)
    rows = [(words.seconds(start * found.step), words.share(share)) for start, share in _thinned(filled)]
    return {
        "used": filled, "limit": [1.0] * len(filled), "scale": max(1.0, *filled) * _MARGIN,
        "peak": max(known), "rows": rows,
    }  # fmt: skip


def _thinned(*columns: Sequence[float]) -> Iterable[tuple[float, ...]]:
    """Yield the means of a few groups of bins, each after the number of its first bin."""
    size = max(1, len(columns[0]) // _TABLE_ROWS)
    for start in range(0, len(columns[0]), size):
        yield start, *(fmean(column[start : start + size]) for column in columns)


def _steps(levels: Sequence[int]) -> str:
    """Return the path of an area with a step at each change of level, of levels from 0 to 10."""
    path, before = ["M0 10"], 0
    for place, level in enumerate(levels):
        if level != before:
            path.append(f"H{place}V{10 - level}")
            before = level
    return "".join([*path, f"H{len(levels)}V10z"])


def _area(values: Sequence[float], top: float) -> str:
    return f"M0 100V{_line(values, top).removeprefix('M0 ')}V100z"


def _line(values: Sequence[float], top: float) -> str:
    heights = [f"{100 - 100 * value / top:.1f}" for value in values]
    steps = (f"H{place}V{height}" for place, height in enumerate(heights) if place)
    return f"M0 {heights[0]}{''.join(steps)}H{len(heights)}"


_STEPS = (
    *(digit * 10.0**power for power in range(-6, 0) for digit in (1, 2, 5)),
    *(step * unit for unit in (1, 60, 3600, 86400) for step in (1, 2, 5, 10, 15, 30)),
)


def ticks(span: float) -> list[tuple[float, str]]:
    """Return the ticks of a time axis: their places as shares of its length, and their labels.

    Args:
        span: Length of the axis in seconds.

    Example:
        >>> [label for _, label in ticks(70.0)]
        ['15 s', '30 s', '45 s', '1 min']
    """
    step = next((step for step in _STEPS if span <= _TICKS * step), span or 1.0)
    places = (step * number for number in range(1, _TICKS + 1))
    return [(place / span, words.seconds(place)) for place in places if place <= 0.97 * span]
