"""One HTML page that says what happened: opens offline, in a sandbox, and takes nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from runwide import __version__
from runwide.redaction import redacted
from runwide.report import charts, figures, findings, metrics, series, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.records import Failure
    from runwide.report.figures import Figures
    from runwide.report.reading import Attempt, Story

_FAILED = 200  # failed items that are listed
_TRACEBACK = 4000
_TRACEBACKS = 400_000  # characters of all tracebacks together
_SHARDS = 500  # rows of the table of shards

_LOST = {
    "useful": "tasks that gave a result",
    "wasted": "attempts that failed",
    "startup": "start, imports, reading the job",
    "queueing": "waiting for the next task",
    "stragglers": "waiting for the last tasks of the shard",
    "spill": "writing results at the end",
    "unused": "workers without a task",
}
_MOVED = {
    "items.fetched": "items read",
    "chunk.spilled": "results written",
    "object.read": "other reads",
    "object.written": "other writes",
    "objects.listed": "listings",
}


def page(story: Story) -> str:
    """The page.

    Example:
        >>> from runwide.report.reading import Story
        >>> "<!doctype html>" in page(Story("empty", "f", 0, 1, 0, ()))
        True
    """
    numbers = figures.of(story)
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": _text(f"{story.function or 'map'} · {story.title}"),
        "heading": _text(story.function or "map"),
        "subtitle": _text(_subtitle(story)),
        "style": _asset("page.css"),
        "script": script,
        "digest": digest,
        "tiles": _tiles(numbers),
        "findings": _findings(findings.of(story, numbers)),
        "timeline": charts.timeline(series.timeline(story.runs), figures.Clock.over(story.runs)),
        "cores": charts.cores(series.over_time(story.runs)),
        "memory": charts.memory(series.over_time(story.runs)),
        "times": charts.times(_good_seconds(story), numbers),
        "lost": _lost(numbers),
        "slowest": _slowest(numbers.slowest),
        "failed": _failed(story, numbers),
        "shards": _shards(numbers),
        "moved": _moved(numbers),
        "environment": _environment(story),
        "numbers": _json({"metrics": metrics.of(numbers), "lost": asdict(numbers.lost)}),
        "version": _text(__version__),
    }
    return Template(_asset("page.html")).substitute(parts)


@cache
def _asset(name: str) -> str:
    return files("runwide.report").joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def _text(value: object) -> str:
    """Text as markup that shows it: secrets removed, everything escaped."""
    return escape(redacted(str(value)), quote=True)


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _subtitle(story: Story) -> str:
    finished = f"{story.finished} of {words.count(story.shards, 'shard')} finished"
    made = f" · made {story.created[:19].replace('T', ' ')} UTC" if story.created else ""
    return f"{words.count(story.items, 'item')} · {finished}{made}"


def _good_seconds(story: Story) -> list[float]:
    return [one.seconds for log in story.runs for one in log.attempts if one.name == "task.ended"]


def _tiles(numbers: Figures) -> str:
    tiles = [
        ("ended", f"{numbers.ended:,}", "results", numbers.ended),
        ("failed", f"{numbers.failed:,}", "items failed", numbers.failed),
        ("retried", f"{numbers.retried:,}", "attempts made again", numbers.retried),
        ("wall", words.seconds(numbers.wall), "from first start to last end", numbers.wall),
        ("throughput", f"{numbers.throughput:,.3g}", "results a second", numbers.throughput),
        ("utilisation", words.share(numbers.utilisation), "of the physical cores used", numbers.utilisation),
        ("useful", words.share(numbers.lost.share("useful")), "of the workers' time useful", numbers.lost.share("useful")),
    ]  # fmt: skip  # one tile a line
    return "".join(
        f'<div class="tile"><dt>{_text(label)}</dt>'
        f'<dd><data id="n-{name}" value="{value!r}">{_text(shown)}</data></dd></div>'
        for name, shown, label, value in tiles
    )


def _findings(found: Sequence[findings.Finding]) -> str:
    if not found:
        return "<p>Nothing stands out.</p>"
    rows = (
        f'<li class="{one.level.value}"><strong class="level">{one.level.value}</strong> '
        f"<span>{_text(one.text)}{_advice(one.advice)}</span></li>"
        for one in found
    )
    return f'<ul class="findings">{"".join(rows)}</ul>'


def _advice(advice: str) -> str:
    return f' <span class="advice">{_text(advice)}</span>' if advice else ""


def table(
    columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], *, name: str, label: str
) -> str:
    """A table that scrolls by itself on a narrow screen.

    Args:
        columns: Names, and whether they hold numbers.
        rows: Cells, as markup.
        name: Its id.
        label: What it is, for a screen reader.
    """
    head = "".join(
        f'<th scope="col"{" class=num" if number else ""}>{_text(title)}</th>' for title, number in columns
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=num' if number else ''}>{cell}</td>"
            for cell, (_, number) in zip(row, columns, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="Table: {_text(label)}" tabindex="0"><table id="{name}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _lost(numbers: Figures) -> str:
    lost = numbers.lost
    rows = [
        (
            _text(what),
            (
                f'<data class="lost" data-part="{name}" value="{getattr(lost, name)!r}">'
                f"{_text(words.seconds(getattr(lost, name)))}</data>"
            ),
            _text(words.share(lost.share(name))),
            f'<span class="bar {name}" style="width:{100 * lost.share(name):.2f}%"></span>',
        )
        for name, what in _LOST.items()
    ]
    shown = table(
        [("the workers' time went to", False), ("worker time", True), ("share", True), ("", False)],
        rows,
        name="lost",
        label="Where the time of the workers went",
    )
    if len(numbers.shards) < 2:  # noqa: PLR2004 - one has nobody to wait for
        return shown
    return (
        f"{shown}<p>Had all shards started at once, the others would have waited "
        f'<data id="n-imbalance" value="{lost.imbalance!r}">{_text(words.seconds(lost.imbalance))}</data> '
        "of worker time for the slowest.</p>"
    )


def _slowest(slowest: Sequence[Attempt]) -> str:
    if not slowest:
        return "<p>No task has ended.</p>"
    rows = [
        (
            f"{one.item:,}",
            f'<data class="seconds" value="{one.seconds!r}">{_text(words.seconds(one.seconds))}</data>',
            _text(words.seconds(one.cpu_seconds)),
            str(one.shard),
            str(one.worker),
            str(one.attempt),
            _text(words.size(one.peak_rss)) if one.peak_rss else "",
            _text("ended" if one.name == "task.ended" else f"{one.name.removeprefix('task.')}: {one.kind}"),
        )
        for one in slowest
    ]
    columns = [
        ("item", True), ("took", True), ("CPU", True), ("shard", True), ("worker", True), ("attempt", True),
        ("worker's peak", True), ("outcome", False),
    ]  # fmt: skip  # two lines are enough
    return table(columns, rows, name="slowest-items", label="Slowest attempts")


def _failed(story: Story, numbers: Figures) -> str:
    known = {failure.index: failure for failure in story.failures}
    events = {one.item: one for one in numbers.failures}
    listed = sorted(known.keys() | events.keys())
    if not listed:
        return '<p id="no-failure">None.</p>'
    left = _TRACEBACKS
    rows = []
    for item in listed[:_FAILED]:
        markup, used = _failure(item, known.get(item), events.get(item), min(left, _TRACEBACK))
        left -= used
        rows.append(markup)
    more = len(listed) - len(rows)
    rest = f"<p>And {more:,} more: runwide.gather(…, on_error='return') has all.</p>" if more else ""
    return f'<ul class="failures" id="failures">{"".join(rows)}</ul>{rest}'


def _failure(item: int, failure: Failure | None, event: Attempt | None, room: int) -> tuple[str, int]:
    kind = failure.kind.value if failure is not None else event.kind if event is not None else ""
    text = (
        f"{failure.type}: {failure.message}"
        if failure is not None
        else event.detail
        if event is not None
        else ""
    )
    where = f" · shard {event.shard}, worker {event.worker}, attempt {event.attempt}" if event else ""
    shard = event.shard if event else -1
    trace = failure.traceback[-room:] if failure is not None and room > 0 else ""
    shown = f'<pre tabindex="0">{_text(trace)}</pre>' if trace else "<p>It left no traceback.</p>"
    markup = (
        f'<li data-shard="{shard}" data-kind="{_text(kind)}"><details><summary><b>item {item:,}</b> '
        f'<span class="kind">{_text(kind)}</span> {_text(text[:300])}<small>{_text(where)}</small></summary>'
        f"{shown}</details></li>"
    )
    return markup, len(trace)


def _shards(numbers: Figures) -> str:
    rows = [
        (
            str(one.index),
            f'<data value="{one.seconds!r}">{_text(words.seconds(one.seconds))}</data>',
            str(one.workers),
            f"{one.ended:,}",
            f"{one.failed:,}",
            f"{one.retried:,}",
            _text(words.share(one.busy)),
            _text(words.size(one.peak_worker)),
            _text(f"{words.size(one.peak)} of {words.size(one.memory)}") if one.memory and one.peak else "",
        )
        for one in sorted(numbers.shards, key=lambda shard: -shard.seconds)[:_SHARDS]
    ]
    columns = [
        ("shard", True), ("took", True), ("workers", True), ("results", True), ("failed", True), ("again", True),
        ("busy", True), ("largest worker", True), ("memory peak", True),
    ]  # fmt: skip  # two lines are enough
    note = f"<p>The {_SHARDS} that took longest.</p>" if len(numbers.shards) > _SHARDS else ""
    return table(columns, rows, name="shards", label="Shards, the slowest first") + note


def _moved(numbers: Figures) -> str:
    if not numbers.moved:
        return "<p>Nothing was read or written.</p>"
    rows = [
        (
            _text(_MOVED.get(one.name, one.name)),
            f'<data class="operations" data-kind="{_text(one.name)}" value="{one.count}">{one.count:,}</data>',
            _text(words.size(one.bytes)),
            _text(words.seconds(one.seconds)),
        )
        for one in numbers.moved
    ]
    columns = [("operation", False), ("count", True), ("bytes", True), ("time, all together", True)]
    return table(columns, rows, name="moved", label="What was read from and written to the store")


def _environment(story: Story) -> str:
    host = dict(story.runs[0].run.host) if story.runs else {}
    known: dict[str, object] = {"job": story.uri or story.title, "function": story.function}
    known |= {f"made with {name}": version for name, version in sorted(story.environment.items())}
    known |= {f"ran on {name}": _host_value(name, value) for name, value in sorted(host.items())}
    rows = [(_text(name), f"<code>{_text(value)}</code>") for name, value in known.items()]
    return table([("", False), ("", False)], rows, name="environment", label="Environment")


def _host_value(name: str, value: object) -> object:
    if name == "memory" and isinstance(value, float):
        return words.size(value)
    return f"{value:g}" if isinstance(value, float) else value
