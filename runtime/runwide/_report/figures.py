"""Compute the numbers of a report; pure functions of the events."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from runwide._report.series import Clock, physical
from runwide.events.model import ENDED, FAILED
from runwide.events.parts import Used
from runwide.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runwide._report.reading import Story
    from runwide.events.model import Attempt, ObjectEvent
    from runwide.events.reading import RunLog
    from runwide.prices import Estimate

SLOWEST = 25
_SHARES = ("useful", "wasted", "startup", "queueing", "stragglers", "spill")


@dataclass(frozen=True, slots=True)
class Lost:
    """The time of the workers in parts, in worker-seconds; all parts but ``imbalance`` add up to ``total``.

    Args:
        total: Workers times duration, summed over all runs.
        useful: Attempts that gave a value.
        wasted: Attempts that failed.
        startup: From the start of a run to a worker's first task: imports, reading the job, starting processes.
        queueing: Between the tasks of a worker, while it waits for the next task or is replaced.
        stragglers: From a worker's last task to the last task of its shard.
        spill: From the last task of a shard to its end: writing the remaining results.
        unused: Workers that never had a task.
        imbalance: Time that shards would wait for the slowest shard if all started at once; not a part of ``total``.
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
        """Return a part as a share of the total."""
        part: float = getattr(self, name)
        return part / self.total if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """The numbers of one shard, over all its runs.

    Args:
        ended: Attempts that gave a value.
        failed: Items whose last attempt failed.
        busy: Share of the workers' time in which a task ran.
        peak_worker: Highest memory of one worker, in bytes.
        peak: Highest memory sample of its container, in bytes; 0 without samples.
        memory: Memory limit of its container, in bytes; 0 if unknown.
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
    """The durations of the attempts that gave a value, in seconds, as far as events record them singly."""

    count: int
    mean: float
    median: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Moved:
    """The operations of one kind on the store.

    Args:
        name: Name of their events.
    """

    name: str
    count: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of a report.

    Args:
        ended: Attempts that gave a value.
        failed: Items whose last attempt failed.
        out_of_memory: Killed attempts whose worker ran out of memory.
        timeouts: Killed attempts that ran into the timeout.
        wall: Seconds from the first start to the last end, without pauses in which nothing ran.
        core_seconds: Physical cores times duration, summed over all runs.
        slowest: The longest attempts, the longest first.
        failures: The last attempts of failed items, by item.
        kinds: Number of failed attempts by kind.
        sampled: Share of the successful attempts that events record singly.
        killed_runs: Runs without an event of their end.
        cost: Estimated cost of the machines by list prices; None if nothing has run.
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
    def cores(self) -> float:
        """Mean number of cores that tasks used."""
        return self.cpu_seconds / self.wall if self.wall > 0 else 0.0

    @property
    def throughput(self) -> float:
        """Results a second."""
        return self.ended / self.wall if self.wall > 0 else 0.0


def of(story: Story) -> Figures:
    """Compute all numbers."""
    attempts = [attempt for log in story.runs for attempt in log.attempts]
    good = [attempt for attempt in attempts if attempt.name == ENDED]
    bad = [attempt for attempt in attempts if attempt.name != ENDED]
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
        out_of_memory=kinds[FailureKind.OUT_OF_MEMORY.value],
        timeouts=kinds[FailureKind.TIMEOUT.value],
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


def last_attempts(runs: Iterable[RunLog]) -> dict[int, Attempt]:
    """Return the last attempt at each item that events record singly."""
    last: dict[int, Attempt] = {}
    for log in runs:
        for attempt in log.attempts:
            before = last.get(attempt.item)
            if before is None or attempt.time >= before.time:
                last[attempt.item] = attempt
    return last


def failed_items(runs: Iterable[RunLog]) -> list[Attempt]:
    """Return the last attempts of items whose last attempt failed, by item."""
    last = last_attempts(runs)
    return [last[item] for item in sorted(last) if last[item].name == FAILED]


def lost(runs: Sequence[RunLog]) -> Lost:
    """Divide the time of the workers into parts."""
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
    named = {name: parts[name] for name in (*_SHARES, "unused")}
    return Lost(total=math.fsum(parts.values()), imbalance=imbalance, **named)


def _durations(runs: Sequence[RunLog]) -> dict[int, tuple[float, int]]:
    """Return the duration and the number of workers of each shard."""
    found: dict[int, tuple[float, int]] = {}
    for log in runs:
        seconds, workers = found.get(log.run.shard, (0.0, 0))
        found[log.run.shard] = (seconds + log.end - log.run.started, max(workers, log.workers))
    return found


def times(found: Iterable[tuple[float, int]]) -> Times:
    """Compute the distribution of durations.

    Args:
        found: Pairs of a duration in seconds and the number of tasks that took that long.

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
    """Compute the numbers of each shard that ran."""
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


def moved(objects: Iterable[ObjectEvent]) -> list[Moved]:
    """Sum operations on the store by kind."""
    found: dict[str, list[ObjectEvent]] = defaultdict(list)
    for one in objects:
        found[one.name].append(one)
    return [
        Moved(name, len(some), sum(one.bytes for one in some), math.fsum(one.seconds for one in some))
        for name, some in sorted(found.items())
    ]


def metrics(numbers: Figures) -> dict[str, float]:
    """Return the numbers for `dsl.Metrics`, by name."""
    return {
        "items": numbers.items,
        "results": numbers.ended,
        "failed_items": numbers.failed,
        "retried_attempts": numbers.retried,
        "killed_attempts": numbers.killed,
        "out_of_memory_kills": numbers.out_of_memory,
        "wall_seconds": round(numbers.wall, 3),
        "cpu_seconds": round(numbers.cpu_seconds, 6),
        "core_seconds": round(numbers.core_seconds, 3),
        "results_per_second": round(numbers.throughput, 3),
        "core_utilisation": round(numbers.utilisation, 4),
        **{f"{name.rstrip('s')}_share": round(numbers.lost.share(name), 4) for name in _SHARES},
        "median_task_seconds": round(numbers.times.median, 6),
        "p99_task_seconds": round(numbers.times.p99, 6),
        "longest_task_seconds": round(numbers.times.longest, 6),
        "peak_memory_share": round(
            max((one.peak / one.memory for one in numbers.shards if one.memory), default=0.0), 4
        ),
        "estimated_dollars": round(numbers.cost.dollars, 6) if numbers.cost else 0.0,
        "store_operations": sum(one.count for one in numbers.moved),
        "store_bytes": sum(one.bytes for one in numbers.moved),
    }
