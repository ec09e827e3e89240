"""Measure the gain from the right numbers of workers and threads, in containers with a CPU limit.

In containers of the image with ``--cpus`` of several values, the same tasks run in the standard library's
``ProcessPoolExecutor`` (spawned processes), so that nothing differs but the numbers:

- ``cpu_count``: ``os.cpu_count()`` workers, libraries with their default number of threads;
- ``runwide``: as many workers as `runwide.cores` counts, each with the threads of `runwide.host.threads`;
- and for the rule that a quota of 1.5 CPUs wants two workers: one, two and three workers of one thread.

The ways take turns within each round. Printed are the time of the fastest round and of the median one, the CPU time
that the container used (median), the memory of all workers at the end (their fair shares, PSS), and the ratio of
the fastest rounds to that of ``cpu_count``. On a machine that has other things to do, the fastest round and the CPU
time still say something; the median does not.

    python tests/benchmarks/cores_buy.py              # needs Docker, the image, and numpy in this interpreter
    python tests/benchmarks/cores_buy.py --cpus 1.5 --kind python --rounds 15

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
SIZE = 16  # of one task, some hundredths of a second
TASKS = {"python": 48, "BLAS": 16}  # the first enough for some tens of the kernel's quota periods


def main() -> None:
    """Run every limit in a container of its own, or one round of tasks inside."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image", default=os.environ.get("RUNWIDE_IMAGE") or "runwide:dev")
    parser.add_argument("--docker", default="/usr/bin/docker")
    parser.add_argument("--cpus", action="append", help="a limit to try, empty for none; may be repeated")
    parser.add_argument("--kind", action="append", choices=TASKS, help="a kind of work; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        measure(arguments.kind or list(TASKS), arguments.rounds)
        return
    passed = [
        "--rounds",
        str(arguments.rounds),
        *(part for kind in arguments.kind or () for part in ("--kind", kind)),
    ]
    for limit in arguments.cpus or LIMITS:
        found = contained(arguments.docker, arguments.image, limit, passed)
        print(report(limit, found), flush=True)


def contained(docker: str, image: str, limit: str, passed: list[str]) -> dict:
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
        [*command, "python3", "/bench/cores_buy.py", "--inside", *passed],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        sys.exit(ran.stderr)
    return json.loads(ran.stdout.splitlines()[-1])


def measure(kinds: list[str], number: int) -> None:
    """In the container: each way in turns, for each kind of work."""
    from runwide.host import cores, threads

    counted = cores()
    cpus = os.cpu_count() or 1
    ways = {
        "cpu_count": (cpus, {}),
        "runwide": (counted.count, threads.environment(counted.count, counted)),
        **{f"{number} x 1": (number, threads.environment(number, 1)) for number in (1, 2, 3)},
    }
    found: dict = {"count": counted.count, "cpus": cpus, "kinds": {}}
    for kind in kinds:
        work = {"python": arithmetic, "BLAS": product}[kind]
        rounds: dict[str, list[tuple[float, float, int]]] = {way: [] for way in ways}
        for _ in range(number):
            for way, (workers, variables) in ways.items():
                rounds[way].append(once(work, TASKS[kind], workers, variables))
        found["kinds"][kind] = rounds
    print(json.dumps(found))


def once(work, tasks: int, workers: int, variables: dict[str, str]) -> tuple[float, float, int]:
    """Seconds for all tasks, once every worker has started, CPU seconds for them, and the memory of the workers."""
    import psutil

    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(work, [1] * workers * 2))  # start them and import what they need
            start, spent = time.perf_counter(), cpu_seconds()
            list(pool.map(work, [SIZE] * tasks))
            seconds, spent = time.perf_counter() - start, cpu_seconds() - spent
            used = sum(psutil.Process(pid).memory_full_info().pss for pid in pool._processes)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    return seconds, spent, used


def cpu_seconds() -> float:
    """The CPU time that this container has used."""
    v2 = Path("/sys/fs/cgroup/cpu.stat")
    if v2.exists():
        return int(v2.read_text().split()[1]) / 1e6
    return int(Path("/sys/fs/cgroup/cpuacct/cpuacct.usage").read_text()) / 1e9


def arithmetic(size: int) -> float:
    """Some hundredths of a second of plain Python for a size of 16."""
    total = 0.0
    for number in range(1, size * 60_000):
        total += number % 7 / number
    return total


def product(size: int) -> float:
    """Some hundredths of a second of matrix products for a size of 16, on one thread."""
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
    for kind, ways in found["kinds"].items():
        base = min(seconds for seconds, _, _ in ways["cpu_count"])
        for way, rounds in ways.items():
            times = [seconds for seconds, _, _ in rounds]
            spent = statistics.median(cpu for _, cpu, _ in rounds)
            lines.append(
                f"  {kind:<7}{way:<10} fastest {min(times):5.2f} s  median {statistics.median(times):5.2f} s"
                f"  {spent:6.2f} CPU s  {rounds[-1][2] / 2**20:5.0f} MiB  x{base / min(times):.2f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
