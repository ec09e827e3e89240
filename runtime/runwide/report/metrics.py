"""The few numbers that go beside a pipeline run, under plain names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runwide.report.figures import Figures


def of(numbers: Figures) -> dict[str, float]:
    """Names and numbers, as `dsl.Metrics` takes them; seconds and shares unless the name says otherwise."""
    lost = numbers.lost
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
        "useful_share": round(lost.share("useful"), 4),
        "wasted_share": round(lost.share("wasted"), 4),
        "startup_share": round(lost.share("startup"), 4),
        "queueing_share": round(lost.share("queueing"), 4),
        "straggler_share": round(lost.share("stragglers"), 4),
        "spill_share": round(lost.share("spill"), 4),
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
