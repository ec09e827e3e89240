"""The numbers of a report, as pure functions of what was written."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from runwide.job import events
from runwide.job.usage import Used
from runwide.report.story import last_attempts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide.prices import Estimate
    from runwide.report.story import Attempt, RunLog, Story

SLOWEST = 25


@dataclass(frozen=True, slots=True)
class Lost:
    """Where the time of the workers went, in worker-seconds; all but ``imbalance`` add up to ``total``.

    Args:
        total: Workers times duration, of all runs.
        useful: Attempts that gave a value.
        wasted: Attempts that failed, the last ones included.
        startup: From the start of a run to a worker's first task: imports, reading the job, starting processes.
        queueing: Between the tasks of a worker: it waited for its next one, or was being replaced.
        stragglers: From a worker's last task to the last one of its shard.
        spill: From the last task of a shard to its end: writing what was left.
        unused: Workers that never had a task.
        imbalance: What the shards would have waited for the slowest one had all started at once; on top of ``total``.
    """

    total: float
    useful: float
    wasted: float
    startup: float
    queueing: float
    stragglers: float
    spill: float
    unused: float
    imbalance: float

    def share(self, name: str) -> float:
        """A part of the total."""
        part: float = getattr(self, name)
        return part / self.total if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """One shard, all its runs together.

    Args:
        index: Its index.
        seconds: How long its runs took.
        workers: Number of workers.
        ended: Attempts that gave a value.
        failed: Items whose last attempt failed.
        retried: Attempts that were followed by another.
        busy: Share of the workers' time in which a task ran.
        peak_worker: Highest memory of one worker, in bytes.
        peak: Highest memory of its container that was seen, in bytes; 0 if none was.
        memory: What there was, in bytes; 0 if not known.
    """

    index: int
    seconds: float
    workers: int
    ended: int
    failed: int
    retried: int
    busy: float
    peak_worker: int
    peak: int
    memory: int


@dataclass(frozen=True, slots=True)
class Times:
    """How long the attempts that gave a value took, in seconds, of those written one by one."""

    count: int
    mean: float
    median: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Moved:
    """Operations on the store of one kind.

    Args:
        name: As in the events.
        count: How many.
        bytes: What they moved.
        seconds: How long they took together.
    """

    name: str
    count: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of a report.

    Args:
        items: Items of the job.
        ended: Attempts that gave a value.
        failed: Items whose last attempt failed.
        retried: Attempts that were followed by another.
        killed: Attempts whose worker died or was stopped.
        out_of_memory: Of these, those for want of memory.
        timeouts: Of these, those that were stopped after the timeout.
        wall: Seconds from the first start to the last end, without the pauses in which nothing ran.
        cpu_seconds: CPU time of all attempts.
        core_seconds: Physical cores times duration, of all runs.
        lost: Where the time went.
        times: Of the tasks.
        shards: Each shard that ran.
        moved: Operations on the store.
        slowest: The longest attempts, the longest first.
        failures: The last attempts of failed items, by item.
        kinds: Failed attempts by kind.
        sampled: Share of the good attempts that are written one by one.
        killed_runs: Runs that did not end in order.
        cost: What the time of machines costs by list prices, an estimate; None where nothing has run.
    """

    items: int
    ended: int
    failed: int
    retried: int
    killed: int
    out_of_memory: int
    timeouts: int
    wall: float
    cpu_seconds: float
    core_seconds: float
    lost: Lost
    times: Times
    shards: tuple[ShardFigures, ...]
    moved: tuple[Moved, ...]
    slowest: tuple[Attempt, ...]
    failures: tuple[Attempt, ...]
    kinds: dict[str, int]
    sampled: float
    killed_runs: int
    cost: Estimate | None = None

    @property
    def utilisation(self) -> float:
        """Share of the physical cores' time that tasks used."""
        return self.cpu_seconds / self.core_seconds if self.core_seconds > 0 else 0.0

    @property
    def throughput(self) -> float:
        """Items that gave a value, a second."""
        return self.ended / self.wall if self.wall > 0 else 0.0


def of(story: Story) -> Figures:
    """Work out all numbers."""
    attempts = [attempt for log in story.runs for attempt in log.attempts]
    good = [attempt for attempt in attempts if attempt.name == events.ENDED]
    bad = [attempt for attempt in attempts if attempt.name != events.ENDED]
    sums = [row for log in story.runs for row in log.sums.values()]
    failures = failed_items(story.runs)
    known = {failure.index for failure in story.failures} | {attempt.item for attempt in failures}
    kinds = Counter(attempt.kind for attempt in bad)
    return Figures(
        items=story.items,
        ended=sum(row.ended for row in sums),
        failed=len(known),
        retried=sum(row.retried for row in sums),
        killed=sum(attempt.killed for attempt in bad),
        out_of_memory=kinds["out-of-memory"],
        timeouts=kinds["timeout"],
        wall=Clock.over(story.runs).span,
        cpu_seconds=math.fsum(row.cpu_seconds for row in sums),
        core_seconds=math.fsum(physical(log) * (log.end - log.run.started) for log in story.runs),
        lost=lost(story.runs),
        times=times((attempt.each, attempt.count) for attempt in good),
        shards=tuple(shards(story.runs, failures)),
        moved=tuple(moved(one for log in story.runs for one in log.objects)),
        slowest=tuple(sorted(attempts, key=lambda attempt: -attempt.each)[:SLOWEST]),
        failures=tuple(failures),
        kinds=dict(kinds),
        sampled=min((log.run.sampled for log in story.runs), default=1.0),
        killed_runs=sum(log.ended is None for log in story.runs),
        cost=story.ran.cost(Used.of(log.run, log.end) for log in story.runs),
    )


def failed_items(runs: Iterable[RunLog]) -> list[Attempt]:
    """The last attempts of items that failed and did not succeed later, by item."""
    last = last_attempts(runs)
    return [last[item] for item in sorted(last) if last[item].name == events.FAILED]


def physical(log: RunLog) -> float:
    """Cores that a run could keep busy: its physical ones, or its quota where that is less."""
    cores = float(log.run.host.get("physical") or log.workers)
    return min(cores, float(log.run.host.get("quota") or cores))


def lost(runs: Sequence[RunLog]) -> Lost:
    """Where the time of the workers went."""
    parts: dict[str, float] = defaultdict(float)
    for log in runs:
        began, last, end = log.run.started, log.last, log.end
        parts["unused"] += (log.workers - len(log.sums)) * (end - began)
        for row in log.sums.values():
            first = min(max(row.first, began), end)
            worked = row.seconds + row.wasted
            parts["useful"] += row.seconds
            parts["wasted"] += row.wasted
            parts["startup"] += first - began
            parts["queueing"] += max(0.0, row.last - first - worked)
            parts["stragglers"] += last - row.last
            parts["spill"] += end - last
    durations = _durations(runs)
    longest = max((seconds for seconds, _ in durations.values()), default=0.0)
    imbalance = math.fsum((longest - seconds) * workers for seconds, workers in durations.values())
    names = ("useful", "wasted", "startup", "queueing", "stragglers", "spill", "unused")
    return Lost(total=math.fsum(parts.values()), imbalance=imbalance, **{name: parts[name] for name in names})


def _durations(runs: Sequence[RunLog]) -> dict[int, tuple[float, int]]:
    """Seconds and workers of each shard."""
    found: dict[int, tuple[float, int]] = {}
    for log in runs:
        seconds, workers = found.get(log.run.shard, (0.0, 0))
        found[log.run.shard] = (seconds + log.end - log.run.started, max(workers, log.workers))
    return found


def times(found: Iterable[tuple[float, int]]) -> Times:
    """How task times are distributed.

    Args:
        found: Seconds, and how many tasks took them.

    Example:
        >>> times([(1.0, 1), (2.0, 1), (3.0, 1), (4.0, 1)]).median
        2.5
    """
    ordered = sorted(found)
    if not ordered:
        return Times(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    upto = list(accumulate(count for _, count in ordered))
    total = upto[-1]

    def rank(number: int) -> float:
        return ordered[bisect_left(upto, number)][0]

    return Times(
        total,
        math.fsum(seconds * count for seconds, count in ordered) / total,
        (rank((total + 1) // 2) + rank(total // 2 + 1)) / 2,
        rank(math.ceil(0.9 * total)),
        rank(math.ceil(0.99 * total)),
        ordered[-1][0],
    )


def shards(runs: Sequence[RunLog], failures: Sequence[Attempt]) -> list[ShardFigures]:
    """The numbers of each shard that ran."""
    failed = Counter(attempt.shard for attempt in failures)
    by_index: dict[int, list[RunLog]] = defaultdict(list)
    for log in runs:
        by_index[log.run.shard].append(log)
    return [_shard(index, logs, failed[index]) for index, logs in sorted(by_index.items())]


def _shard(index: int, logs: list[RunLog], failed: int) -> ShardFigures:
    rows = [row for log in logs for row in log.sums.values()]
    seconds = math.fsum(log.end - log.run.started for log in logs)
    available = math.fsum(log.workers * (log.end - log.run.started) for log in logs)
    busy = math.fsum(row.seconds + row.wasted for row in rows)
    return ShardFigures(
        index=index,
        seconds=seconds,
        workers=max(log.workers for log in logs),
        ended=sum(row.ended for row in rows),
        failed=failed,
        retried=sum(row.retried for row in rows),
        busy=busy / available if available > 0 else 0.0,
        peak_worker=max((row.peak_rss for row in rows), default=0),
        peak=max((used for log in logs for _, used in log.memory), default=0),
        memory=int(max(float(log.run.host.get("memory") or 0) for log in logs)),
    )


def moved(objects: Iterable[events.ObjectEvent]) -> list[Moved]:
    """Operations on the store, by kind."""
    found: dict[str, list[events.ObjectEvent]] = defaultdict(list)
    for one in objects:
        found[one.name].append(one)
    return [
        Moved(name, len(some), sum(one.bytes for one in some), math.fsum(one.seconds for one in some))
        for name, some in sorted(found.items())
    ]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time since the first start, without the pauses in which nothing ran.

    Args:
        spans: Start, end, and the clock's time at the start, of each stretch without a pause.
    """

    spans: tuple[tuple[float, float, float], ...]

    @classmethod
    def over(cls, runs: Sequence[RunLog]) -> Clock:
        """The clock of some runs; pauses are left out where they are longer than a minute and a tenth of all work."""
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
        """Seconds in all."""
        return self.spans[-1][2] + self.spans[-1][1] - self.spans[-1][0] if self.spans else 0.0

    @property
    def pauses(self) -> int:
        """How many pauses are left out."""
        return max(0, len(self.spans) - 1)

    def at(self, time: float) -> float:
        """The clock's time at a moment.

        Example:
            >>> Clock(((100.0, 110.0, 0.0), (1000.0, 1005.0, 10.0))).at(1002.0)
            12.0
        """
        found = 0.0
        for start, end, passed in self.spans:
            if time >= start:
                found = passed + min(time, end) - start
        return found
