"""What the right number of workers and threads buys, in containers with a CPU limit.

In containers of the image with ``--cpus`` of several values, the same tasks run in the standard library's
``ProcessPoolExecutor`` (spawned processes), so that nothing differs but the numbers:

- ``cpu_count``: ``os.cpu_count()`` workers, libraries with their default number of threads;
- ``runwide``: as many workers as `runwide.cores` counts, each with the threads of `runwide.host.threads`;
- and for the rule that a quota of 1.5 CPUs wants two workers: one, two and three workers of one thread.

The ways take turns within each round. Printed are the median time of the rounds, its spread, the memory of
all workers at the end (their fair shares, PSS), and the ratio to ``cpu_count``.

    python tests/benchmarks/cores_buy.py              # needs Docker, the image, and numpy in this interpreter

numpy is not part of the image: this interpreter's is mounted, so its minor version must be the image's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

LIMITS = ("1", "1.5", "")
ROUNDS = 5
SIZE = 16  # of one task, about 0.1 s
TASKS = {"python": 48, "BLAS": 16}  # the first enough for some tens of the kernel's quota periods


def main() -> None:
    """Run every limit in a container of its own, or one round of tasks inside."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image", default=os.environ.get("RUNWIDE_IMAGE") or "runwide:dev")
    parser.add_argument("--docker", default="/usr/bin/docker")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        measure()
        return
    for limit in LIMITS:
        found = contained(arguments.docker, arguments.image, limit)
        print(report(limit, found), flush=True)


def contained(docker: str, image: str, limit: str) -> dict:
    """The measurements in a container with a CPU limit."""
    import numpy as np

    packages = Path(np.__file__).parents[1]
    mounts = [f"{Path(__file__).resolve()}:/bench/cores_buy.py:ro"]
    mounts += [
        f"{packages / name}:/bench/{name}:ro"
        for name in ("numpy", "numpy.libs")
        if (packages / name).exists()
    ]
    limits = ["--cpus", limit] if limit else []
    volumes = [part for mount in mounts for part in ("-v", mount)]
    command = [
        docker,
        "run",
        "--rm",
        "--network",
        "none",
        *limits,
        *volumes,
        "-e",
        "PYTHONPATH=/bench",
        image,
    ]
    ran = subprocess.run(
        [*command, "python3", "/bench/cores_buy.py", "--inside"], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        sys.exit(ran.stderr)
    return json.loads(ran.stdout.splitlines()[-1])


def measure() -> None:
    """In the container: each way in turns, for each kind of work."""
    from runwide.host import cores, threads

    counted = cores()
    cpus = os.cpu_count() or 1
    ways = {
        "cpu_count": (cpus, {}),
        "runwide": (counted.count, threads.environment(counted.count, counted)),
        **{f"{number} x 1": (number, threads.environment(number, 1)) for number in (1, 2, 3)},
    }
    found: dict = {"count": counted.count, "cpus": cpus, "quota": counted.quota, "seconds": {}, "memory": {}}
    for kind, work in (("python", arithmetic), ("BLAS", product)):
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, (workers, variables) in ways.items():
                seconds, memory = once(work, TASKS[kind], workers, variables)
                times[way].append(seconds)
                found["memory"][f"{kind} {way}"] = memory
        found["seconds"][kind] = times
    print(json.dumps(found))


def once(work, tasks: int, workers: int, variables: dict[str, str]) -> tuple[float, int]:
    """Seconds for all tasks, once every worker has started, and the memory of the workers."""
    from runwide.host import memory

    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(work, [1] * workers * 2))  # start them and import what they need
            start = time.perf_counter()
            list(pool.map(work, [SIZE] * tasks))
            seconds = time.perf_counter() - start
            used = sum(memory.pss(pid) or 0 for pid in pool._processes)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    return seconds, used


def arithmetic(size: int) -> float:
    """About 0.1 s of plain Python for a size of 16."""
    total = 0.0
    for number in range(1, size * 60_000):
        total += number % 7 / number
    return total


def product(size: int) -> float:
    """About 0.1 s of matrix products for a size of 16."""
    import numpy as np

    matrix = np.random.default_rng(0).random((480, 480))
    for _ in range(size * 2):
        matrix = matrix @ matrix
        matrix /= matrix.max()
    return float(matrix[0, 0])


def report(limit: str, found: dict) -> str:
    """The measurements as lines of text."""
    head = f"--cpus {limit}" if limit else "no limit"
    lines = [f"{head}: os.cpu_count() = {found['cpus']}, runwide counts {found['count']}"]
    for kind, times in found["seconds"].items():
        base = statistics.median(times["cpu_count"])
        for way, rounds in times.items():
            median = statistics.median(rounds)
            spread = (max(rounds) - min(rounds)) / median
            memory = found["memory"][f"{kind} {way}"] / 2**20
            lines.append(
                f"  {kind:<7}{way:<10} {median:6.2f} s  spread {spread:4.0%}  {memory:5.0f} MiB  x{base / median:.2f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
