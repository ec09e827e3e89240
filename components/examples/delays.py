"""The confidence intervals of one route's delays: the module beside flights.py that travels with its function."""

from math import ceil
from random import Random
from typing import Any

Route = tuple[str, list[int], int]  # its name, the delays in minutes, the number of replicates


def interval(route: Route) -> dict[str, Any]:
    """Bootstrap one route: the mean and the 90th percentile of its delays, each with a 95 % interval."""
    name, delays, replicates = route
    rng, size = Random(f"2013 {name}"), len(delays)
    nearest_rank = ceil(0.9 * size) - 1
    means, tails = [], []
    for _ in range(replicates):
        sample = sorted(rng.choices(delays, k=size))
        means.append(sum(sample) / size)
        tails.append(sample[nearest_rank])
    low, high = int(0.025 * replicates), ceil(0.975 * replicates) - 1
    return {
        "route": name,
        "flights": size,
        "mean": sum(delays) / size,
        "mean_95": [sorted(means)[low], sorted(means)[high]],
        "p90": sorted(delays)[nearest_rank],
        "p90_95": [sorted(tails)[low], sorted(tails)[high]],
    }
