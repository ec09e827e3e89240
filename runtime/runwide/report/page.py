"""One HTML page that says what happened: opens offline, in a sandbox, and takes nothing from anywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from runwide.prices import money
from runwide.records import ENDED, Failure
from runwide.redaction import shortened
from runwide.report import charts, figures, findings, markup, metrics, series, words
from runwide.report.markup import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runwide.report.figures import Figures
    from runwide.report.story import Attempt, Story

_ALIKE = 8  # errors that are counted
_FAILED = 200  # failed items that are listed
_TRACEBACK = 4000
_SAID = 300  # characters of why an item failed
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
        >>> from runwide.report.story import Story
        >>> "<!doctype html>" in page(Story("empty", "f", 0, 1, 0, ()))
        True
    """
    numbers = figures.of(story)
    parts = {
        "title": text(f"{story.function or 'map'} · {story.title}"),
        "heading": text(story.function or "map"),
        "subtitle": text(_subtitle(story)),
        "verdict": _verdict(story, numbers),
        "troubles": f" <b>{troubles:,}</b>" if (troubles := numbers.failed) else "",
        "tiles": _tiles(numbers),
        "findings": markup.findings(findings.of(story, numbers)),
        "timeline": charts.timeline(series.timeline(story.runs), figures.Clock.over(story.runs)),
        "cores": charts.cores(series.over_time(story.runs)),
        "memory": charts.memory(series.over_time(story.runs)),
        "times": charts.times(_good_times(story), numbers),
        "lost": _lost(numbers),
        "slowest": _slowest(numbers.slowest),
        "failed": _failed(story, numbers),
        "shards": _shards(numbers),
        "moved": _moved(numbers),
        "environment": _environment(story, numbers),
        "numbers": markup.as_json({"metrics": metrics.of(numbers), "lost": asdict(numbers.lost)}),
    }
    template, style, script = (
        markup.asset("runwide.report", name) for name in ("page.html", "page.css", "page.js")
    )
    return markup.filled(template, style=style, script=script, parts=parts)


def _subtitle(story: Story) -> str:
    finished = f" · {story.finished} of {words.count(story.shards, 'shard')} finished" if story.uri else ""
    made = f" · made {story.created[:19].replace('T', ' ')} UTC" if story.created else ""
    return f"{words.count(story.items, 'item')}{finished}{made}"


def _good_times(story: Story) -> list[tuple[float, int]]:
    return [(one.each, one.count) for log in story.runs for one in log.attempts if one.name == ENDED]


def _verdict(story: Story, numbers: Figures) -> str:
    """What happened, in one sentence."""
    if not numbers.shards:
        return "<p>Nothing has run yet.</p>"
    good = min(numbers.ended, max(0, story.items - numbers.failed))
    workers = sum(shard.workers for shard in numbers.shards)
    where = f" in {words.count(len(numbers.shards), 'shard')}" if story.shards > 1 else ""
    bad = f"; <strong>{words.count(numbers.failed, 'item')} failed</strong>" if numbers.failed else ""
    rest = story.items - good - numbers.failed
    missing = f"; {words.count(rest, 'item')} {words.verb(rest, 'is', 'are')} not done" if rest > 0 else ""
    return (
        f'<p class="verdict">{good:,} of {words.count(story.items, "item")} gave a result in '
        f"{text(words.seconds(numbers.wall))}, on {words.count(workers, 'worker')}{where}{bad}{missing}.</p>"
    )


def _tiles(numbers: Figures) -> str:
    return markup.tiles([
        ("ended", f"{numbers.ended:,}", "results", numbers.ended),
        ("failed", f"{numbers.failed:,}", "items failed", numbers.failed),
        ("retried", f"{numbers.retried:,}", "attempts made again", numbers.retried),
        ("wall", words.seconds(numbers.wall), "from first start to last end", numbers.wall),
        ("throughput", f"{numbers.throughput:,.3g}", "results a second", numbers.throughput),
        ("utilisation", words.share(numbers.utilisation), "of the physical cores used", numbers.utilisation),
        ("useful", words.share(numbers.lost.share("useful")), "of the workers' time useful", numbers.lost.share("useful")),
        ("cost", words.seconds(numbers.core_seconds), "of core time to pay for", numbers.core_seconds),
        *_dollars(numbers),
    ])  # fmt: skip  # one tile a line


def _dollars(numbers: Figures) -> list[tuple[str, str, str, float]]:
    """What that costs, which says that it is an estimate, and of which date its prices are."""
    cost = numbers.cost
    label = f"an estimate: list prices of {cost.date}" if cost else ""
    return [("dollars", money(cost.dollars), label, cost.dollars)] if cost else []


def _lost(numbers: Figures) -> str:
    lost = numbers.lost
    rows = [
        (
            f'<i class="key part {name}"></i> {text(what)}',
            (
                f'<data class="lost" data-part="{name}" value="{getattr(lost, name)!r}">'
                f"{text(words.seconds(getattr(lost, name)))}</data>"
            ),
            text(words.share(lost.share(name))),
        )
        for name, what in _LOST.items()
    ]
    shown = _stack(numbers) + markup.table(
        [("the workers' time went to", False), ("worker time", True), ("share", True)],
        rows,
        name="lost",
        label="Where the time of the workers went",
    )
    if len(numbers.shards) < 2:  # noqa: PLR2004 - one has nobody to wait for
        return shown
    return (
        f"{shown}<p>Had all shards started at once, the others would have waited "
        f'<data id="n-imbalance" value="{lost.imbalance!r}">{text(words.seconds(lost.imbalance))}</data> '
        "of worker time for the slowest.</p>"
    )


def _stack(numbers: Figures) -> str:
    """All of the workers' time as one bar."""
    lost = numbers.lost
    shares = {name: lost.share(name) for name in _LOST}
    label = ", ".join(f"{words.share(share)} {_LOST[name]}" for name, share in shares.items() if share)
    parts = "".join(
        f'<span class="part {name}" style="width:{100 * share:.3f}%" title="{text(_LOST[name])}"></span>'
        for name, share in shares.items()
        if share
    )
    return f'<div class="stack" role="img" aria-label="{text(label)}">{parts}</div>'


def _slowest(slowest: Sequence[Attempt]) -> str:
    if not slowest:
        return "<p>No task has ended.</p>"
    rows = [
        (
            f"{one.item:,}" if one.count == 1 else f"{one.count:,} from {one.item:,} on, each",
            f'<data class="seconds" value="{one.each!r}">{text(words.seconds(one.each))}</data>',
            text(words.seconds(one.cpu_seconds / one.count)),
            str(one.shard),
            str(one.worker),
            str(one.attempt),
            text(words.size(one.peak_rss)) if one.peak_rss else "",
            text("ended" if one.name == ENDED else f"{one.name.removeprefix('task.')}: {one.kind}"),
        )
        for one in slowest
    ]
    columns = [
        ("item", True), ("took", True), ("CPU", True), ("shard", True), ("worker", True), ("attempt", True),
        ("worker's peak", True), ("outcome", False),
    ]  # fmt: skip  # two lines are enough
    return markup.table(columns, rows, name="slowest-items", label="Slowest attempts")


def _failed(story: Story, numbers: Figures) -> str:
    known = {failure.index: failure for failure in story.failures}
    events = {one.item: one for one in numbers.failures}
    listed = sorted(known.keys() | events.keys())
    if not listed:
        return '<p id="no-failure">None.</p>'
    left = _TRACEBACKS
    alike = Counter(_said(known.get(item), events.get(item)) for item in listed)
    rows = []
    for item in listed[:_FAILED]:
        entry, used = _failure(item, known.get(item), events.get(item), min(left, _TRACEBACK))
        left -= used
        rows.append(entry)
    more = len(listed) - len(rows)
    rest = f"<p>And {more:,} more: runwide.gather(…, on_error='return') has all.</p>" if more else ""
    return f'{_alike(alike)}<ul class="failures" id="failures">{"".join(rows)}</ul>{rest}'


def _alike(counts: Counter[str]) -> str:
    """The errors that more than one item has, the commonest first."""
    common = [(said, count) for said, count in counts.most_common(_ALIKE) if count > 1]
    if not common:
        return ""
    rows = "".join(f"<li><b>{count:,} {words.TIMES}</b> {text(said)}</li>" for said, count in common)
    return f'<ul class="alike" aria-label="Items that failed alike">{rows}</ul>'


def _said(failure: Failure | None, event: Attempt | None) -> str:
    """Why an item failed, in one line."""
    if failure is not None:
        return shortened(f"{failure.type}: {failure.message}", _SAID)
    return shortened(event.detail, _SAID) if event is not None else ""


def _failure(item: int, failure: Failure | None, event: Attempt | None, room: int) -> tuple[str, int]:
    kind = failure.kind.value if failure is not None else event.kind if event is not None else ""
    where = f" · shard {event.shard}, worker {event.worker}, attempt {event.attempt}" if event else ""
    shard = event.shard if event else -1
    trace = shortened(failure.traceback, room, tail=True) if failure is not None else ""
    shown = f'<pre tabindex="0">{text(trace)}</pre>' if trace else "<p>It left no traceback.</p>"
    entry = (
        f'<li data-shard="{shard}" data-kind="{text(kind)}"><details><summary><b>item {item:,}</b> '
        f'<span class="kind">{text(kind)}</span> {text(_said(failure, event))}<small>{text(where)}</small></summary>'
        f"{shown}</details></li>"
    )
    return entry, len(trace)


def _shards(numbers: Figures) -> str:
    rows = [
        (
            str(one.index),
            f'<data value="{one.seconds!r}">{text(words.seconds(one.seconds))}</data>',
            str(one.workers),
            f"{one.ended:,}",
            f"{one.failed:,}",
            f"{one.retried:,}",
            text(words.share(one.busy)),
            text(words.size(one.peak_worker)),
            text(f"{words.size(one.peak)} of {words.size(one.memory)}") if one.memory and one.peak else "",
        )
        for one in sorted(numbers.shards, key=lambda shard: -shard.seconds)[:_SHARDS]
    ]
    columns = [
        ("shard", True), ("took", True), ("workers", True), ("results", True), ("failed", True), ("again", True),
        ("busy", True), ("largest worker", True), ("memory peak", True),
    ]  # fmt: skip  # two lines are enough
    note = f"<p>The {_SHARDS} that took longest.</p>" if len(numbers.shards) > _SHARDS else ""
    return markup.table(columns, rows, name="shards", label="Shards, the slowest first") + note


def _moved(numbers: Figures) -> str:
    if not numbers.moved:
        return "<p>Nothing was read or written.</p>"
    rows = [
        (
            text(_MOVED.get(one.name, one.name)),
            f'<data class="operations" data-kind="{text(one.name)}" value="{one.count}">{one.count:,}</data>',
            text(words.size(one.bytes)),
            text(words.seconds(one.seconds)),
        )
        for one in numbers.moved
    ]
    columns = [("operation", False), ("count", True), ("bytes", True), ("time, all together", True)]
    return markup.table(columns, rows, name="moved", label="What was read from and written to the store")


def _environment(story: Story, numbers: Figures) -> str:
    host = dict(story.runs[0].run.host) if story.runs else {}
    known: dict[str, object] = {"job": story.uri or story.title, "function": story.function}
    known |= {f"made with {name}": version for name, version in sorted(story.environment.items())}
    known |= {f"ran on {name}": _host_value(name, value) for name, value in sorted(host.items())}
    if numbers.cost is not None:
        known["cost estimated from"] = numbers.cost.basis
    rows = [(text(name), f"<code>{text(value)}</code>") for name, value in known.items()]
    return markup.table([("", False), ("", False)], rows, name="environment", label="Environment")


def _host_value(name: str, value: object) -> object:
    if name == "memory" and isinstance(value, float):
        return words.size(value)
    return f"{value:g}" if isinstance(value, float) else value
