"""The number of workers from which more gain nothing, as measured."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUDGET = 14.0  # seconds of measuring; with the start of eight workers it stays under 20
_FEW = 8  # CPUs up to which every number of workers is tried
_SLICE = (0.2, 0.6)  # seconds of one reading: several periods of a CPU quota, which are 0.1 s
_ROUNDS = 3
_MORE_ROUNDS = 5  # if there are only a few numbers to try

_WORTH = 0.05  # a smaller gain does not count
_TAKEN = 0.15  # of the CPU time, used by other programs
_NOISY = 0.20  # readings of the same number that differ by more are useless


@dataclass(frozen=True, slots=True)
class Plan:
    """The readings to take.

    Args:
        counts: Numbers of workers, ascending.
        rounds: Readings of each number, in turns, so that a slow drift of the machine affects all numbers alike.
        seconds: Length of one reading.
    """

    counts: tuple[int, ...]
    rounds: int
    seconds: float

    @property
    def duration(self) -> float:
        """Seconds of all readings together."""
        return len(self.counts) * self.rounds * self.seconds


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one number of workers.

    Args:
        throughput: Calls a second, of all workers together.
        share: CPU time divided by wall time of the average worker: 1 for a CPU of its own.
    """

    throughput: float
    share: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The throughput of one number of workers.

    Args:
        workers: The number of workers at once.
        median: Calls a second, of all workers together.
        low: The slowest round.
        high: The fastest round.
        speedup: ``median`` divided by the median of one worker.
        share: The part of a CPU that the average worker got, median of the rounds.
    """

    workers: int
    median: float
    low: float
    high: float
    speedup: float
    share: float

    @property
    def spread(self) -> float:
        """The difference of the slowest and the fastest round, divided by the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion from the readings.

    Args:
        readings: One for each number of workers, ascending.
        recommended: The smallest number of workers beyond which nothing is gained; None if the machine is too noisy.
        noise: The typical spread of the readings.
        reason: One line for the reader.
    """

    readings: tuple[Reading, ...]
    recommended: int | None
    noise: float
    reason: str


def plan(logical: int, usable: int, *, budget: float = BUDGET, call: float = 0.0) -> Plan:
    """Choose the readings to take within a budget of seconds.

    Args:
        logical: CPUs that may be used.
        usable: Workers that `runwide.cores` would use, always tried.
        budget: Seconds for all readings together.
        call: Seconds of one call; if the budget is too small for every number, only some are tried. A call is never
            interrupted, so a slow function may exceed the budget.

    Example:
        >>> plan(8, 4).counts
        (1, 2, 3, 4, 5, 6, 7, 8)
        >>> plan(96, 48).counts
        (1, 2, 4, 8, 16, 32, 48, 64, 96)
        >>> plan(8, 4, call=2.0).counts
        (1, 4, 8)
    """
    doubling = (1 << bit for bit in range(logical.bit_length()))
    every = {*(range(1, logical + 1) if logical <= _FEW else doubling), usable, logical}
    if call * len(every) * _ROUNDS > budget:
        every = {1, usable, logical}
    counts = tuple(sorted(every))
    roomy = len(counts) <= _FEW // 2 and call * len(counts) * _MORE_ROUNDS <= budget
    rounds = _MORE_ROUNDS if roomy else _ROUNDS
    shortest, longest = _SLICE
    slice_ = min(longest, max(shortest, budget / (len(counts) * rounds)))
    return Plan(counts, rounds, max(slice_, call))


def judge(
    samples: Mapping[int, Sequence[Sample]],
    *,
    logical: int,
    quota: float | None = None,
    cpu_bound: bool = True,
) -> Verdict:
    """Decide how many workers are worth using.

    Args:
        samples: Number of workers -> one sample for each round.
        logical: CPUs that may be used.
        quota: The CPU limit, in CPUs; time above it does not count as taken by other programs.
        cpu_bound: Whether the function never waits; otherwise, the reading of one worker shows how much it waits.

    Example:
        >>> rates = {1: [10.0, 10.1, 9.9], 2: [19.8, 20.0, 20.2], 3: [20.0, 20.3, 19.9]}
        >>> samples = {workers: [Sample(rate, 1.0) for rate in rounds] for workers, rounds in rates.items()}
        >>> judge(samples, logical=4).recommended
        2
    """
    readings = _readings(samples)
    noise = statistics.median(reading.spread for reading in readings)
    if noise > _NOISY:
        reason = f"too noisy to tell: readings of the same number differ by {noise:.0%}"
        return Verdict(readings, None, noise, reason)
    appetite = 1.0 if cpu_bound else readings[0].share
    taken = max(_taken(reading, appetite, min(logical, quota or logical)) for reading in readings)
    if taken > _TAKEN:
        reason = (
            f"too busy to tell: other programs take up to {taken:.0%} of the CPUs that the workers ask for"
        )
        return Verdict(readings, None, noise, reason)
    margin = max(_WORTH, noise)
    best = max(reading.median for reading in readings)
    chosen = next(reading for reading in readings if reading.median >= best * (1 - margin))
    reason = f"beyond {chosen.workers}, the gain is less than {margin:.0%}"
    if chosen.workers == readings[-1].workers:
        reason = f"throughput still grows at {chosen.workers}, the largest number that was tried"
    return Verdict(readings, chosen.workers, noise, reason)


def _taken(reading: Reading, appetite: float, cpus: float) -> float:
    """Return the part of the CPU time due to these workers that they did not get."""
    due = min(appetite, cpus / reading.workers)
    return 1 - reading.share / due if due else 0.0


def _readings(samples: Mapping[int, Sequence[Sample]]) -> tuple[Reading, ...]:
    found: list[Reading] = []
    for workers, rounds in sorted(samples.items()):
        rates = [sample.throughput for sample in rounds]
        median = statistics.median(rates)
        share = statistics.median(sample.share for sample in rounds)
        alone = found[0].median if found else median
        found.append(
            Reading(workers, median, min(rates), max(rates), median / alone if alone else 0.0, share)
        )
    return tuple(found)
