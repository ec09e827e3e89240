"""What events cost: the same tasks in a pool with nobody listening, and with the recorder that a shard has.

Tasks compute for a fixed CPU time, so that the pool's own work takes cores away from them. The two ways take turns.
Printed are the medians of the wall time and of the CPU time of all processes, and the ratios of the fastest rounds and of
the medians; last, what one event costs the pool's process, measured alone. On a machine that has other things to do, the
CPU time still says something.

    python tests/benchmarks/events.py                     # 5 ms tasks
    python tests/benchmarks/events.py --milliseconds 1 --rounds 9
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from functools import partial

import runwide
from runwide.job import event_log, events
from runwide.records import TaskEvent

TASK_SECONDS = 4.0  # of work a round and worker


def spin(_: int, *, seconds: float) -> int:
    """Compute for so much CPU time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--milliseconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    workers = runwide.cores().count
    tasks = int(TASK_SECONDS * workers / arguments.milliseconds * 1000)
    function = partial(spin, seconds=arguments.milliseconds / 1000)
    found: dict[str, list[tuple[float, float]]] = {"silent": [], "recorded": []}
    for number in range(arguments.rounds):
        for name in sorted(found, reverse=number % 2 == 0):
            found[name].append(measured(function, tasks, recorded=name == "recorded"))
    print(f"{tasks} tasks of {arguments.milliseconds:g} ms on {workers} workers, {arguments.rounds} rounds")
    for name, rounds in found.items():
        wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"  {name:<9} {wall:7.3f} s wall  {cpu:7.3f} s CPU  (fastest {min(rounds)[0]:.3f} s)")
    for what, column in (("wall", 0), ("CPU", 1)):
        silent, recorded = ([one[column] for one in found[name]] for name in ("silent", "recorded"))
        fastest = 100 * (min(recorded) / min(silent) - 1)
        median = 100 * (statistics.median(recorded) / statistics.median(silent) - 1)
        print(f"  events cost {fastest:+.2f} % of {what} (fastest rounds), {median:+.2f} % (medians)")
    each = alone()
    share = 100 * each / (arguments.milliseconds / 1000)
    print(f"  one event, recorded and written down: {each * 1e6:.1f} µs, {share:.2f} % of a task")


def measured(function: partial[int], tasks: int, *, recorded: bool) -> tuple[float, float]:
    """Wall and CPU seconds of one round."""
    before, began = spent(), time.monotonic()
    if recorded:
        with runwide.Recording() as recording:
            runwide.map(function, range(tasks), progress=False, on_event=recording)
    else:
        runwide.map(function, range(tasks), progress=False)
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
    with event_log.EventLog(events.Run("r", time.time()), lambda _, data: len(data)) as log:
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
