"""What happened over time: binned, so that a page stays small whatever the number of tasks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.job import events
from runwide.redaction import shortened
from runwide.report.figures import Clock, physical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.report.story import Attempt, RunLog

BINS = 240
ROWS = 400
"""Rows of the timeline at most: of more workers, those of a shard, or of several shards, share one."""

EXACT = 1500
"""Up to so many attempts each is drawn by itself."""

_ROW_BINS = 60_000
_MARKS = 3000


@dataclass(frozen=True, slots=True)
class Series:
    """Averages over equal stretches of time.

    Args:
        step: Seconds of one stretch.
        busy: Workers that ran a task.
        used: Cores' worth of CPU time that tasks used.
        cores: Physical cores that there were.
        memory: Highest share of its memory that any container used; None where none was sampled.
    """

    step: float
    busy: tuple[float, ...]
    used: tuple[float, ...]
    cores: tuple[float, ...]
    memory: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Attempts of one kind that ended badly in one place of a row.

    Args:
        at: Share of the whole time.
        kind: ``failed``, ``retried`` or ``killed``.
        count: How many.
        text: About the first.
    """

    at: float
    kind: str
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the timeline.

    Args:
        label: What it is of.
        short: The same where there is little room.
        shards: First shard and the one after the last.
        levels: Share of each stretch in which tasks ran, in tenths; empty where attempts are drawn one by one.
        exact: Start and end as shares of the whole time, and the attempt, where they are.
        marks: What ended badly.
        attempts: How many attempts of it are known.
        busy: Share of the whole time in which tasks ran.
        bad: Attempts that ended badly, by kind.
    """

    label: str
    short: str
    shards: tuple[int, int]
    levels: tuple[int, ...]
    exact: tuple[tuple[float, float, Attempt], ...]
    marks: tuple[Mark, ...]
    attempts: int
    busy: float
    bad: dict[str, int]


def scale(log: RunLog) -> float:
    """By how much to multiply what was written, to have what happened."""
    written = math.fsum(attempt.seconds for attempt in log.attempts)
    happened = math.fsum(row.seconds + row.wasted for row in log.sums.values())
    return happened / written if log.run.sampled < 1 and written > 0 else 1.0


def over_time(runs: Sequence[RunLog], bins: int = BINS) -> Series:
    """Workers, cores and memory over time."""
    clock = Clock.over(runs)
    step = clock.span / bins if clock.span > 0 else 1.0
    busy, used, cores = ([0.0] * bins for _ in range(3))
    memory: list[float | None] = [None] * bins
    for log in runs:
        factor = scale(log)
        _add(cores, clock.at(log.run.started), clock.at(log.end), physical(log), step)
        for one in log.attempts:
            start, end = clock.at(one.started), clock.at(one.time)
            _add(busy, start, end, factor, step)
            if one.seconds > 0:
                _add(used, start, end, factor * one.cpu_seconds / one.seconds, step)
        limit = float(log.run.host.get("memory") or 0)
        for time, bytes_used in log.memory if limit else ():
            place = min(bins - 1, int(clock.at(time) / step))
            memory[place] = max(memory[place] or 0.0, bytes_used / limit)
    return Series(step, tuple(busy), tuple(used), tuple(cores), tuple(memory))


def _add(bins: list[float], start: float, end: float, weight: float, step: float) -> None:
    """Add a weight to the bins that it lasts for, in parts to those that it only touches."""
    last = len(bins) - 1
    first, stop = min(last, int(start / step)), min(last, int(end / step))
    if first == stop:
        bins[first] += weight * (end - start) / step
        return
    bins[first] += weight * (first + 1 - start / step)
    for place in range(first + 1, stop):
        bins[place] += weight
    bins[stop] += weight * (end / step - stop)


def timeline(runs: Sequence[RunLog]) -> list[Row]:
    """Rows of workers by shard."""
    attempts = [(log, one) for log in runs for one in log.attempts]
    key = _grouping(runs)
    rows: dict[tuple[int, int], list[tuple[Attempt, float]]] = {
        key(log.run.shard, worker): [] for log in runs for worker in range(log.workers)
    }
    factors = {id(log): scale(log) for log in runs}
    lanes: Counter[tuple[int, int]] = Counter()
    for log in runs:
        lanes.update({key(log.run.shard, worker) for worker in range(log.workers)})
    for log, one in attempts:
        rows.setdefault(key(log.run.shard, one.worker), []).append((one, factors[id(log)]))
    bins = max(24, min(BINS * 2, _ROW_BINS // max(1, len(rows))))
    clock, width = Clock.over(runs), _width(runs)
    per_row = max(2, _MARKS // max(1, len(rows)))
    exact = len(attempts) <= EXACT
    alone = width == (1, 1) and len({log.run.shard for log in runs}) == 1  # then the shard says nothing
    return [
        _row(place, found, clock=clock, bins=bins, width=width, alone=alone, exact=exact, marks=per_row)
        for place, found in sorted(rows.items())
    ]


def _width(runs: Sequence[RunLog]) -> tuple[int, int]:
    """How many shards, and how many workers, share a row."""
    shards = {log.run.shard for log in runs}
    workers = Counter({log.run.shard: log.workers for log in runs})
    if sum(workers.values()) <= ROWS:
        return 1, 1
    return max(1, math.ceil((max(shards) + 1) / ROWS)), max(workers.values())


def _grouping(runs: Sequence[RunLog]):  # type: ignore[no-untyped-def]  # noqa: ANN202 - of the line below
    shards, workers = _width(runs)
    return lambda shard, worker: (shard // shards * shards, worker if workers == 1 else -1)


def _row(
    place: tuple[int, int],
    found: list[tuple[Attempt, float]],
    *,
    clock: Clock,
    bins: int,
    width: tuple[int, int],
    alone: bool,
    exact: bool,
    marks: int,
) -> Row:
    shard, worker = place
    span = clock.span or 1.0
    bad = [one for one, _ in found if one.name != events.ENDED]
    levels, busy = _levels(found, clock, bins, lanes=width[0] * width[1])
    drawn = (
        [(clock.at(one.started) / span, clock.at(one.time) / span, one) for one, _ in found] if exact else []
    )
    return Row(
        label=f"worker {worker}" if alone else _label(shard, width[0], worker),
        short=f"worker {worker}" if alone else _short(shard, width[0], worker),
        shards=(shard, shard + width[0]),
        levels=() if exact else tuple(levels),
        exact=tuple(drawn),
        marks=tuple(_marks(bad, clock, marks)),
        attempts=sum(one.count for one, _ in found),
        busy=busy,
        bad=dict(Counter(map(kind_of, bad))),
    )


def _levels(
    found: Iterable[tuple[Attempt, float]], clock: Clock, bins: int, *, lanes: int
) -> tuple[list[int], float]:
    step = (clock.span or 1.0) / bins
    filled = [0.0] * bins
    for one, factor in found:
        _add(filled, clock.at(one.started), clock.at(one.time), factor / lanes, step)
    # What is there at all shows.
    return [min(10, math.ceil(10 * share)) for share in filled], min(1.0, math.fsum(filled) / bins)


def _label(shard: int, shards: int, worker: int) -> str:
    if shards > 1:
        return f"shards {shard} to {shard + shards - 1}"
    return f"shard {shard}" if worker < 0 else f"shard {shard}, worker {worker}"


def _short(shard: int, shards: int, worker: int) -> str:
    if shards > 1:
        return f"shards {shard}\N{EN DASH}{shard + shards - 1}"
    return f"shard {shard}" if worker < 0 else f"shard {shard} \N{MIDDLE DOT} w{worker}"


def kind_of(attempt: Attempt) -> str:
    """How a bad end is marked."""
    if attempt.killed:
        return "killed"
    return "retried" if attempt.name == events.RETRIED else "failed"


def _marks(bad: Sequence[Attempt], clock: Clock, most: int) -> list[Mark]:
    places = max(1, most // 3)
    groups: dict[tuple[int, str], list[Attempt]] = defaultdict(list)
    for one in bad:
        share = clock.at(one.time) / (clock.span or 1.0)
        groups[min(places - 1, int(share * places)) if len(bad) > most else id(one), kind_of(one)].append(one)
    found = []
    for (_, kind), some in groups.items():
        first = some[0]
        text = f"item {first.item}, attempt {first.attempt}: {first.detail or first.kind}"
        found.append(Mark(clock.at(first.time) / (clock.span or 1.0), kind, len(some), shortened(text, 200)))
    return sorted(found, key=lambda mark: mark.at)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram.

    Args:
        low: From so many seconds.
        high: Below so many.
        count: How many tasks.
    """

    low: float
    high: float
    count: int


def histogram(found: Iterable[tuple[float, int]]) -> list[Bar]:
    """How many tasks took how long, in steps of 1, 2, 5, 10, 20, 50 ….

    Args:
        found: Seconds, and how many tasks took them.

    Example:
        >>> [(bar.low, bar.high, bar.count) for bar in histogram([(0.11, 1), (0.15, 2), (0.3, 1)])]
        [(0.1, 0.2, 3), (0.2, 0.5, 1)]
    """
    counts: Counter[int] = Counter()
    for seconds, tasks in found:
        counts[_step(max(seconds, 1e-7))] += tasks
    if not counts:
        return []
    return [
        Bar(_edge(place), _edge(place + 1), counts[place]) for place in range(min(counts), max(counts) + 1)
    ]


def _step(value: float) -> int:
    place = 3 * math.floor(math.log10(value)) + 3  # the logarithm may be rounded up
    while value < _edge(place):
        place -= 1
    return place


def _edge(place: int) -> float:
    decade, digit = divmod(place, 3)
    return float(f"{(1, 2, 5)[digit]}e{decade}")
