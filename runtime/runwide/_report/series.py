"""Put events into bins of time, so that a page stays small for any number of tasks."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runwide.events.model import ENDED, RETRIED
from runwide.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.events.model import Attempt
    from runwide.events.reading import RunLog

BINS = 240
ROWS = 400
"""Most rows of the timeline. If there are more workers, those of one shard, or of several shards, share a row."""

EXACT = 1500
"""Up to this number of attempts, each is drawn singly."""

_ROW_BINS = 60_000
_MARKS = 3000
_FEWEST = 5  # bars: fewer show no distribution
_ROUND = [float(f"{digit}e{power}") for power in range(-7, 12) for digit in (1, 2, 5)]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time since the first start, without the pauses in which nothing ran.

    Args:
        spans: The periods without a pause: start, end, and the clock's time at the start.
    """

    spans: tuple[tuple[float, float, float], ...]

    @classmethod
    def over(cls, runs: Sequence[RunLog]) -> Clock:
        """Make the clock of some runs. It skips pauses longer than both a minute and a tenth of all work."""
        stretches = sorted((log.run.started, log.end) for log in runs)
        pause = max(60.0, 0.1 * math.fsum(end - start for start, end in stretches))
        merged: list[list[float]] = []
        for start, end in stretches:
            if merged and start - merged[-1][1] <= pause:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        spans, passed = [], 0.0
        for start, end in merged:
            spans.append((start, end, passed))
            passed += end - start
        return cls(tuple(spans))

    @property
    def span(self) -> float:
        """Length in seconds."""
        return self.spans[-1][2] + self.spans[-1][1] - self.spans[-1][0] if self.spans else 0.0

    @property
    def pauses(self) -> int:
        """Number of pauses that are skipped."""
        return max(0, len(self.spans) - 1)

    def at(self, time: float) -> float:
        """Return the clock's time at a Unix time.

        Example:
            >>> Clock(((100.0, 110.0, 0.0), (1000.0, 1005.0, 10.0))).at(1002.0)
            12.0
        """
        found = 0.0
        for start, end, passed in self.spans:
            if time >= start:
                found = passed + min(time, end) - start
        return found


@dataclass(frozen=True, slots=True)
class Series:
    """Means over bins of time.

    Args:
        step: Length of a bin in seconds.
        busy: Workers that ran a task.
        used: CPU time that tasks used, in cores.
        memory: Highest share of its memory limit that a container used; None without samples.
    """

    step: float
    busy: tuple[float, ...]
    used: tuple[float, ...]
    cores: tuple[float, ...]
    memory: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Attempts of one kind that failed at one place of a row.

    Args:
        at: Place, as a share of the whole time.
        kind: ``failed``, ``retried`` or ``killed``.
    """

    at: float
    kind: str
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the timeline.

    Args:
        shards: First shard, and the last shard plus one.
        levels: Share of each bin in which tasks ran, in tenths; empty if attempts are drawn singly.
        exact: Start and end as shares of the whole time, and the attempt; empty if ``levels`` are drawn.
        attempts: Number of attempts that are recorded singly.
        busy: Share of the whole time in which tasks ran.
        bad: Number of failed attempts, by kind.
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


def physical(log: RunLog) -> float:
    """Return the number of cores that a run could use: its physical cores, or its quota if that is less."""
    cores = float(log.run.host.get("physical") or log.workers)
    return min(cores, float(log.run.host.get("quota") or cores))


def scale(log: RunLog) -> float:
    """Return the factor by which the attempts of a sampled run are multiplied."""
    written = math.fsum(attempt.seconds for attempt in log.attempts)
    happened = math.fsum(row.seconds + row.wasted for row in log.sums.values())
    return happened / written if log.run.sampled < 1 and written > 0 else 1.0


def over_time(runs: Sequence[RunLog], bins: int = BINS) -> Series:
    """Compute workers, cores and memory over time."""
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
    """Add a weight to bins, in proportion to the time that it covers in each."""
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
    """Make the rows of the timeline: workers by shard."""
    width = _width(runs)
    rows: dict[tuple[int, int], list[tuple[Attempt, float]]] = {}
    for log in runs:
        factor = scale(log)
        for worker in range(log.workers):
            rows.setdefault(_place(log.run.shard, worker, width), [])
        for one in log.attempts:
            rows.setdefault(_place(log.run.shard, one.worker, width), []).append((one, factor))
    bins = max(24, min(BINS * 2, _ROW_BINS // max(1, len(rows))))
    clock = Clock.over(runs)
    per_row = max(2, _MARKS // max(1, len(rows)))
    exact = sum(len(log.attempts) for log in runs) <= EXACT
    alone = width == (1, 1) and len({log.run.shard for log in runs}) == 1  # rows need no number of a shard
    return [
        _row(place, found, clock=clock, bins=bins, width=width, alone=alone, exact=exact, marks=per_row)
        for place, found in sorted(rows.items())
    ]


def _width(runs: Sequence[RunLog]) -> tuple[int, int]:
    """Return how many shards, and how many workers, share a row."""
    shards = {log.run.shard for log in runs}
    workers = Counter({log.run.shard: log.workers for log in runs})
    if sum(workers.values()) <= ROWS:
        return 1, 1
    return max(1, math.ceil((max(shards) + 1) / ROWS)), max(workers.values())


def _place(shard: int, worker: int, width: tuple[int, int]) -> tuple[int, int]:
    """Return the first shard of a worker's row, and the worker, or -1 if workers share the row."""
    shards, workers = width
    return shard // shards * shards, worker if workers == 1 else -1


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
    label, short = (f"worker {worker}",) * 2 if alone else _labels(shard, width[0], worker)
    span = clock.span or 1.0
    bad = [one for one, _ in found if one.name != ENDED]
    levels, busy = _levels(found, clock, bins, lanes=width[0] * width[1])
    drawn = (
        [(clock.at(one.started) / span, clock.at(one.time) / span, one) for one, _ in found] if exact else []
    )
    return Row(
        label=label,
        short=short,
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
    # rounded up, so that short tasks are visible
    return [min(10, math.ceil(10 * share)) for share in filled], min(1.0, math.fsum(filled) / bins)


def _labels(shard: int, shards: int, worker: int) -> tuple[str, str]:
    """Return the name of a row, and its short name."""
    last = shard + shards - 1
    if shards > 1:
        return f"shards {shard} to {last}", f"shards {shard}\N{EN DASH}{last}"
    if worker < 0:
        return f"shard {shard}", f"shard {shard}"
    return f"shard {shard}, worker {worker}", f"shard {shard} \N{MIDDLE DOT} w{worker}"


def kind_of(attempt: Attempt) -> str:
    """Return the kind of mark for a failed attempt, or ``ok``."""
    if attempt.name == ENDED:
        return "ok"
    if attempt.killed:
        return "killed"
    return "retried" if attempt.name == RETRIED else "failed"


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
        high: Duration that is too long for this bar.
    """

    low: float
    high: float
    count: int


def histogram(found: Iterable[tuple[float, int]]) -> list[Bar]:
    """Count tasks by duration, in steps of 1, 2, 5, 10, 20, 50 …; in equal steps if these would be fewer than five.

    Args:
        found: Pairs of a duration in seconds and the number of tasks that took that long.

    Example:
        >>> [(bar.low, bar.count) for bar in histogram([(0.01, 1), (0.15, 2), (0.3, 1)])]
        [(0.01, 1), (0.02, 0), (0.05, 0), (0.1, 2), (0.2, 1)]
        >>> [(bar.low, bar.count) for bar in histogram([(0.046, 9), (0.053, 8), (0.068, 7)])]
        [(0.045, 9), (0.05, 8), (0.055, 0), (0.06, 0), (0.065, 7)]
    """
    tasks: Counter[float] = Counter()
    for seconds, number in found:
        tasks[max(seconds, _ROUND[0])] += number
    if not tasks:
        return []
    edges = _edges(min(tasks), max(tasks))
    counts: Counter[int] = Counter()
    for seconds, number in tasks.items():
        counts[bisect_right(edges, seconds) - 1] += number
    return [Bar(edges[place], edges[place + 1], counts[place]) for place in range(len(edges) - 1)]


def _edges(low: float, high: float) -> list[float]:
    """Return the edges of the bars from the shortest duration to the longest one."""
    edges = _cut(_ROUND, low, high)
    if low == high:
        return edges
    for step in reversed(_cut(_ROUND, _finest(high), high)[:-1]):
        if len(edges) > _FEWEST:
            break
        places = range(int(low / step) - 1, int(high / step) + 3)
        edges = _cut([round(place * step, 9) for place in places], low, high)
    return edges


def _cut(edges: list[float], low: float, high: float) -> list[float]:
    return edges[bisect_right(edges, low) - 1 : bisect_right(edges, high) + 1]


def _finest(high: float) -> float:
    """Return the shortest step whose edges have different texts; see `runwide.words.seconds`."""
    units = ((3600, 100.0), (60, 1.0), (10, 0.1), (1, 0.01), (0.1, 0.001), (0.01, 1e-4), (0.001, 1e-5))
    return next((step for above, step in units if high >= above), 1e-6)
