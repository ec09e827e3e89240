"""Measure the cost of events: the same tasks without a listener, with the trace of each map, and recorded.

One part has tasks of a fixed CPU time, so that the pool's own work takes cores away from them; the other has tasks that
do nothing, so that only the pool works. The ways take turns. Printed are the medians of the wall time and of the CPU
time of all processes, and the cost of each way above no listener, by the fastest rounds and by the medians; last, what
one event costs the pool's process, measured alone. On a machine that has other things to do, the CPU time still says
something.

    python tests/benchmarks/events.py                     # 5 ms tasks, and 100,000 that do nothing
    python tests/benchmarks/events.py --milliseconds 1 --rounds 9
    python tests/benchmarks/events.py --quick             # small, to see that it works
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import runwide
from runwide.events.log import EventLog
from runwide.events.model import Run, TaskEvent
from runwide.options.record import RunOptions
from runwide.pool import mapping

if TYPE_CHECKING:
    from collections.abc import Callable

TASK_SECONDS = 4.0  # of work a round and worker


def spin(_: int, *, seconds: float) -> int:
    """Compute for so much CPU time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return 0


def nothing(_: int) -> None:
    """Do nothing."""


def silent(function: Callable[[int], Any], tasks: int) -> None:
    """Run a map without a listener."""
    mapping.run(function, range(tasks), RunOptions(progress=False), "raise")


def traced(function: Callable[[int], Any], tasks: int) -> None:
    """The map leaves its trace, as each does."""
    runwide.map(function, range(tasks), progress=False)


def recorded(function: Callable[[int], Any], tasks: int) -> None:
    """Each task is written down, as in a shard."""
    with runwide.Recording() as recording:
        mapping.run(function, range(tasks), RunOptions(progress=False, on_event=recording), "raise")


WAYS = (silent, traced, recorded)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--milliseconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    workers = runwide.cores().count
    work = TASK_SECONDS / (50 if arguments.quick else 1)
    long = int(work * workers / arguments.milliseconds * 1000)
    rounds = 2 if arguments.quick else arguments.rounds
    function = partial(spin, seconds=arguments.milliseconds / 1000)
    compare(f"{long} tasks of {arguments.milliseconds:g} ms on {workers} workers", function, long, rounds)
    short = 5_000 if arguments.quick else 100_000
    compare(f"{short} tasks that do nothing on {workers} workers", nothing, short, rounds)
    each = alone()
    share = 100 * each / (arguments.milliseconds / 1000)
    print(f"one event, recorded and written down: {each * 1e6:.1f} µs, {share:.2f} % of a task")


def compare(title: str, function: Callable[[int], Any], tasks: int, rounds: int) -> None:
    """Run all ways in turns, and print what they took."""
    found: dict[str, list[tuple[float, float]]] = {way.__name__: [] for way in WAYS}
    for number in range(rounds):
        for turn in range(len(WAYS)):  # each goes first, second and last as often
            way = WAYS[(turn + number) % len(WAYS)]
            found[way.__name__].append(measured(way, function, tasks))
    print(f"{title}, {rounds} rounds")
    for name, taken in found.items():
        wall, cpu = (statistics.median(values) for values in zip(*taken, strict=True))
        print(f"  {name:<9} {wall:7.3f} s wall  {cpu:7.3f} s CPU  (fastest {min(taken)[0]:.3f} s)")
    for name in ("traced", "recorded"):
        for what, column in (("wall", 0), ("CPU", 1)):
            base, mine = ([one[column] for one in found[way]] for way in ("silent", name))
            fastest = 100 * (min(mine) / min(base) - 1)
            median = 100 * (statistics.median(mine) / statistics.median(base) - 1)
            print(f"  {name} costs {fastest:+.2f} % of {what} (fastest rounds), {median:+.2f} % (medians)")


def measured(way: Callable[..., None], function: Callable[[int], Any], tasks: int) -> tuple[float, float]:
    """Wall and CPU seconds of one round."""
    before, began = spent(), time.monotonic()
    way(function, tasks)
    return time.monotonic() - began, spent() - before


def spent() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def alone() -> float:
    """CPU seconds that making, recording and writing one event takes."""
    number, began = 20_000, time.process_time()
    with EventLog(Run("r", time.time()), lambda _, data: len(data)) as log:
        for index in range(number):
            log.task(
                TaskEvent(
                    name="task.ended", time=1e9 + index, index=index, worker=1, pid=2, attempt=1, seconds=0.005,
                    peak_rss=1 << 27, detail="", queued=1e9, started=1e9, cpu_seconds=0.005, cpu=1, bytes=100, kind=None,
                ),
                index,
            )  # fmt: skip
    return (time.process_time() - began) / number


if __name__ == "__main__":
    main()
