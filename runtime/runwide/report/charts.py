"""Charts as inline SVG, each with its numbers in a table beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runwide.records import ENDED
from runwide.report import series, words
from runwide.report.markup import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.report.figures import Clock, Figures
    from runwide.report.series import Row, Series
    from runwide.report.story import Attempt

_GLYPHS = {
    "failed": "\N{MULTIPLICATION SIGN}",
    "retried": "\N{BLACK UP-POINTING SMALL TRIANGLE}",
    "killed": "\N{BLACK SMALL SQUARE}",
}
_TABLE_ROWS = 12
_WIDTH = 1000  # of the exact drawing, in units of its own


def timeline(rows: Sequence[Row], clock: Clock) -> str:
    """Workers by shard over time."""
    if not rows:
        return "<p>Nothing has run.</p>"
    drawn = "".join(map(_row, rows))
    legend = (
        '<p class="legend"><span><i class="key ok"></i>running</span>'
        + "".join(f'<span><i class="mark {kind}">{glyph}</i>{kind}</span>' for kind, glyph in _GLYPHS.items())
        + "</p>"
    )
    pauses = f"<p>{words.count(clock.pauses, 'pause')} between runs left out.</p>" if clock.pauses else ""
    scrolled = f'<div id="rows" class="rows" role="region" aria-label="Timeline" tabindex="0">{drawn}</div>'
    return f"{legend}{scrolled}{_axis(clock.span)}{pauses}"


def _row(row: Row) -> str:
    bad = "".join(f", {count} {kind}" for kind, count in sorted(row.bad.items()))
    label = f"{row.label}: {words.count(row.attempts, 'attempt')}, {words.share(row.busy)} busy{bad}"
    body = _exact(row) if row.exact or not row.levels else _steps(row.levels)
    width = _WIDTH if row.exact or not row.levels else len(row.levels)
    marks = "".join(map(_mark, row.marks))
    kinds = " ".join(sorted(row.bad))
    return (
        f'<div class="row" data-from="{row.shards[0]}" data-to="{row.shards[1]}" data-kinds="{kinds}">'
        f'<span class="name">{text(row.short)}</span><span class="lane">'
        f'<svg role="img" aria-label="{text(label)}" viewBox="0 0 {width} 10" preserveAspectRatio="none">{body}</svg>'
        f"{marks}</span></div>"
    )


def _mark(mark: series.Mark) -> str:
    more = f" and {mark.count - 1} more" if mark.count > 1 else ""
    about = text(f"{mark.kind}: {mark.text}{more}")
    return f'<i class="mark {mark.kind}" style="left:{100 * mark.at:.2f}%" title="{about}">{_GLYPHS[mark.kind]}</i>'


def _exact(row: Row) -> str:
    return "".join(
        f'<rect class="{"ok" if one.name == ENDED else series.kind_of(one)}" x="{_WIDTH * start:.2f}" y="0" '
        f'width="{max(0.6, _WIDTH * (end - start)):.2f}" height="10"><title>{_items(one)}: '
        f"{text(words.seconds(one.seconds))}</title></rect>"
        for start, end, one in row.exact
    )


def _items(one: Attempt) -> str:
    return f"item {one.item}" if one.count == 1 else f"{one.count} items from {one.item} on"


def _steps(levels: Sequence[int]) -> str:
    """An area with a step at each change of level."""
    path, before = ["M0 10"], 0
    for place, level in enumerate(levels):
        if level != before:
            path.append(f"H{place}V{10 - level}")
            before = level
    path.append(f"H{len(levels)}V10z")
    return f'<path class="ok" d="{"".join(path)}"/>'


def _axis(span: float) -> str:
    ticks = "".join(f"<span>{text(words.seconds(span * part / 4))}</span>" for part in range(1, 5))
    return f'<div class="axis" aria-hidden="true"><span>0</span>{ticks}</div>'


def cores(found: Series) -> str:
    """Cores in use against those that there are."""
    if not any(found.cores):
        return "<p>Nothing has run.</p>"
    top = max(*found.cores, *found.busy, *found.used, 1.0) * 1.05
    body = (
        _area(found.used, top, "used")
        + _line(found.busy, top, "busy")
        + _line(found.cores, top, "limit")
        + "</svg>"
    )
    legend = (
        '<p class="legend"><span><i class="key used"></i>CPU time that tasks used</span>'
        '<span><i class="key busy"></i>workers with a task</span>'
        '<span><i class="key limit"></i>physical cores</span></p>'
    )
    label = f"Cores in use over time; at most {max(found.cores):g} physical cores were there"
    rows = [
        (words.seconds(start * found.step), f"{used:.2f}", f"{busy:.2f}", f"{there:.2f}")
        for start, used, busy, there in _thinned(found.used, found.busy, found.cores)
    ]
    data = _data("cores", ("from", "cores' worth of CPU time", "busy workers", "physical cores"), rows)
    return (
        f"{legend}{_chart(label, body, f'{top / 1.05:.3g} cores')}{_axis(found.step * len(found.used))}{data}"
    )


def memory(found: Series) -> str:
    """Memory against the limit."""
    known = [share for share in found.memory if share is not None]
    if not known:
        return "<p>No memory was sampled.</p>"
    filled, last = [], known[0]
    for share in found.memory:  # between two samples the last one stands
        last = last if share is None else share
        filled.append(last)
    top = max(1.0, *filled) * 1.05
    body = _area(filled, top, "used") + _line([1.0] * len(filled), top, "limit") + "</svg>"
    legend = (
        '<p class="legend"><span><i class="key used"></i>memory in use, of the fullest container</span>'
        '<span><i class="key limit"></i>its limit</span></p>'
    )
    peak = max(known)
    label = f"Memory over time, as a share of the limit; the peak was {words.share(peak)}"
    rows = [(words.seconds(start * found.step), words.share(share)) for start, share in _thinned(filled)]
    note = f'<p>Peak: <data id="n-memory" value="{peak!r}">{words.share(peak)}</data> of the limit.</p>'
    return (
        f"{legend}{_chart(label, body, '100 %')}{_axis(found.step * len(filled))}{note}"
        f"{_data('memory', ('from', 'share of the limit'), rows)}"
    )


def times(found: Sequence[tuple[float, int]], numbers: Figures) -> str:
    """How long tasks took: seconds, and how many took them."""
    bars = series.histogram(found)
    if not bars:
        return "<p>No task has ended.</p>"
    most = max(bar.count for bar in bars)
    about = numbers.times
    label = f"How long tasks took: half of them less than {words.seconds(about.median)}"
    svg = (
        f'<svg class="chart" role="img" aria-label="{text(label)}" viewBox="0 0 {100 * len(bars)} 40" '
        f'preserveAspectRatio="none">{"".join(_bar(place, bar, most) for place, bar in enumerate(bars))}</svg>'
    )
    labels = "".join(f"<span>{text(words.seconds(bar.low))}</span>" for bar in bars)
    summary = " · ".join(
        f'{name} <data id="n-{name}" value="{value!r}">{words.seconds(value)}</data>'
        for name, value in (
            ("mean", about.mean),
            ("median", about.median),
            ("p90", about.p90),
            ("p99", about.p99),
            ("longest", about.longest),
        )
    )
    rows = [(_range(bar), f"{bar.count:,}") for bar in bars]
    return (
        f'<p>{summary}</p>{svg}<div class="axis bars" aria-hidden="true">{labels}</div>'
        f"{_data('times', ('took', 'tasks'), rows)}"
    )


def _bar(place: int, bar: series.Bar, most: int) -> str:
    height = 40 * bar.count / most
    return (
        f'<rect class="ok" x="{100 * place + 5}" y="{40 - height:.2f}" width="90" height="{height:.2f}">'
        f"<title>{text(_range(bar))}: {bar.count:,}</title></rect>"
    )


def _range(bar: series.Bar) -> str:
    return f"{words.seconds(bar.low)} to {words.seconds(bar.high)}"


def _chart(label: str, body: str, top: str) -> str:
    return (
        f'<div class="plot"><span class="top" aria-hidden="true">{text(top)}</span>'
        f'<svg class="chart" role="img" aria-label="{text(label)}" viewBox="0 0 {series.BINS} 100" '
        f'preserveAspectRatio="none">{body}</div>'
    )


def _area(values: Sequence[float], top: float, name: str) -> str:
    points = "".join(f"H{place}V{100 - 100 * value / top:.1f}" for place, value in enumerate(values))
    return f'<path class="{name}" d="M0 100{points}H{len(values)}V100z"/>'


def _line(values: Sequence[float], top: float, name: str) -> str:
    points = "".join(f"{'H' if place else 'M'}{place}{'V' if place else ' '}{100 - 100 * value / top:.1f}"
                     for place, value in enumerate(values))  # fmt: skip  # one path
    return f'<path class="{name}" d="{points}H{len(values)}"/>'


def _thinned(*columns: Sequence[float]) -> Iterable[tuple[float, ...]]:
    """Means over a few stretches, each after the number of its first bin."""
    size = max(1, len(columns[0]) // _TABLE_ROWS)
    for start in range(0, len(columns[0]), size):
        parts = [column[start : start + size] for column in columns]
        yield start, *(sum(part) / len(part) for part in parts)


def _data(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<details class="data"><summary>The numbers of this chart</summary><table id="data-{name}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></details>"
    )
