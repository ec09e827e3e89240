r"""How fast the pools of Python are beside each other, on all cores: a table of medians, as markdown.

Every measurement is made in a process of its own; within a run the pools take turns, so that what else the machine does
spoils all of them alike. A cell is the median of the runs in seconds, with the fastest and the slowest; the last columns
are runwide's median over that of the best peer, and over that of the best peer that does not fork.

    pip install 'runwide[bench]'
    python tests/benchmarks/pool.py                         # to standard output
    python tests/benchmarks/pool.py --write docs/pool.md    # between the markers of this file
    python tests/benchmarks/pool.py --rows start,closure --runs 9 --peers runwide,loky
    python tests/benchmarks/pool.py --table map --write docs/pool.md \
        --rows map-scalars,map-scalars-memory,map-tuples,map-tuples-memory,own-class \
        --peers runwide,multiprocessing.Pool,concurrent.futures,loky,pebble
    python tests/benchmarks/pool.py --quick                 # small sizes, to see that all of it works

What each peer is given:

- workers: as many as `runwide.cores` counts. Pools are warm (every worker has run a task) but in ``closure`` and ``start``.
- ``chunksize``: ``number / (4 * workers)`` for equal tasks, which is ``multiprocessing.Pool``'s own rule; 1 for skewed
  tasks and for arrays. joblib gets it as ``batch_size``. runwide is left to find its own.
- ``map-*``: a pool that is opened and closed for this one call, as by `runwide.map`; the results are a list.
- ``own-class``: a dataclass of ``__main__``, as a script defines it: by name where workers are forked, else by value.
- ``closure``: forked pools (``multiprocessing.Pool``, ``concurrent.futures``, mpire, pebble) inherit the array
  through a global variable or ``shared_objects=``, at no cost; loky gets it through ``initializer=``, once per worker;
  joblib maps it from a file that it writes once; runwide gets a ``functools.partial``.
- ``multiprocessing`` and ``concurrent.futures`` use fork, their default on Linux until Python 3.14; fork is
  unsafe in a program that has threads or clients of Google Cloud, which is why runwide does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from platform import python_version

import numpy as np

import runwide

HERE = Path(__file__).parent
MARKERS = "<!-- {}:begin -->", "<!-- {}:end -->"
SECONDS = 180
"""How long the rows of one pool may take before it is said to have failed."""

SHARED = None  # what forked workers inherit

SIZES = {
    "full": {
        "tasks": 100_000,
        "own": 5_000,
        "many": 1_000_000,
        "five": 2_000,
        "skewed": 400,
        "arrays": 8,
        "array": 100,
        "closure": 500,
        "calls": 1_000,
    },
    "quick": {
        "tasks": 2_000,
        "own": 100,
        "many": 2_000,
        "five": 40,
        "skewed": 20,
        "arrays": 2,
        "array": 4,
        "closure": 4,
        "calls": 20,
    },
}


# tasks


def nothing(_x):
    return None


def pair(x):
    return x, x


def who(_x):
    time.sleep(0.05)
    return os.getpid()


def five_milliseconds(_x):
    time.sleep(0.005)


def touch(array):
    """Read one value of each page."""
    return float(array[::512].sum())


def make(megabytes, x):
    return np.full(megabytes * 131_072, float(x))


def look_up(shared, x):
    return float(shared[x])


def look_up_inherited(x):
    return float(SHARED[x])


def inherit(shared):
    global SHARED  # noqa: PLW0603 - the way of forked workers
    SHARED = shared


OWN = """
import dataclasses

@dataclasses.dataclass
class Row:
    number: int
    text: str = "x"

    def doubled(self):
        return Row(2 * self.number, self.text)

def double(row):
    return row.doubled()
"""


# pools: each gives a function (function, items, chunksize) -> list


@contextmanager
def with_runwide(workers):
    with runwide.Pool(workers) as pool:
        yield lambda function, items, _chunksize: pool.map(function, items)


@contextmanager
def with_multiprocessing(workers):
    from multiprocessing import Pool

    with Pool(workers) as pool:
        yield pool.map


@contextmanager
def with_futures(workers):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as pool:
        yield lambda function, items, chunksize: list(pool.map(function, items, chunksize=chunksize))


@contextmanager
def with_loky(workers, **options):
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, **options) as pool:
        yield lambda function, items, chunksize: list(pool.map(function, items, chunksize=chunksize))


@contextmanager
def with_joblib(workers):
    from joblib import Parallel, delayed

    with Parallel(n_jobs=workers) as parallel:

        def run(function, items, chunksize):
            parallel.batch_size = chunksize
            task = delayed(function)
            return parallel(task(item) for item in items)

        yield run


@contextmanager
def with_mpire(workers, shared=None):
    from mpire import WorkerPool

    with WorkerPool(workers, shared_objects=shared, keep_alive=shared is None) as pool:
        # A list of arrays stays a list of arguments only so.
        yield lambda function, items, chunksize: pool.map(
            function,
            ((item,) for item in items),
            iterable_len=len(items),
            chunk_size=chunksize,
            concatenate_numpy_output=False,
        )


@contextmanager
def with_pebble(workers):
    from pebble import ProcessPool

    with ProcessPool(workers) as pool:
        yield lambda function, items, chunksize: list(pool.map(function, items, chunksize=chunksize).result())


POOLS = {
    "runwide": with_runwide,
    "multiprocessing.Pool": with_multiprocessing,
    "concurrent.futures": with_futures,
    "loky": with_loky,
    "joblib": with_joblib,
    "mpire": with_mpire,
    "pebble": with_pebble,
}
FORKED = ("multiprocessing.Pool", "concurrent.futures", "mpire", "pebble")


# rows: each takes the name of a pool, the number of workers and the sizes, and returns seconds, or a ratio


def timed(call, *arguments):
    began = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - began, result


@contextmanager
def warm(name, workers):
    """An open pool whose workers have all run something."""
    with POOLS[name](workers) as run:
        while len(set(run(who, range(2 * workers), 1))) < workers:
            pass
        yield run


def equal(function, number, name, workers):
    with warm(name, workers) as run:
        seconds, results = timed(run, function, range(number), max(1, number // (4 * workers)))
    assert results == [None] * number
    return seconds


def no_op(name, workers, size):
    return equal(nothing, size["tasks"], name, workers)


def many(function, name, workers, size):
    """Seconds from opening the pool to the last result, and peak memory; runwide's is `runwide.map` itself."""
    number = size["many"]
    began = time.perf_counter()
    if name == "runwide":
        found = runwide.map(function, range(number), workers=workers)
    else:
        with POOLS[name](workers) as run:
            found = run(function, range(number), max(1, number // (4 * workers)))
    seconds, used = time.perf_counter() - began, peak()
    assert list(found) == list(map(function, range(number)))
    return seconds, used


def seconds_of_many(function, name, workers, size):
    return many(function, name, workers, size)[0]


def memory_of_many(function, name, workers, size):
    """Megabytes that the program itself had at most, without its workers."""
    return many(function, name, workers, size)[1]


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def own_class(name, workers, size):
    """Items and results of a class of the program itself, which workers cannot import."""
    main = sys.modules["__main__"]
    exec(OWN, vars(main))
    items = [main.Row(number) for number in range(size["own"])]
    with warm(name, workers) if name not in FORKED else POOLS[name](workers) as run:
        seconds, found = timed(run, main.double, items, max(1, len(items) // (4 * workers)))
    assert found == [main.double(item) for item in items]
    return seconds


def five(name, workers, size):
    return equal(five_milliseconds, size["five"], name, workers)


def skewed(name, workers, size):
    """Makespan over the ideal one."""
    chance = random.Random(42)
    tasks = [min(1.0, 0.01 * chance.lognormvariate(0, 1.2)) for _ in range(size["skewed"])]
    with warm(name, workers) as run:
        seconds, _ = timed(run, time.sleep, tasks, 1)
    return seconds / max(sum(tasks) / workers, *tasks)


def arguments(name, workers, size):
    items = [make(size["array"], x) for x in range(size["arrays"])]
    with warm(name, workers) as run:
        seconds, results = timed(run, touch, items, 1)
    assert results == [touch(item) for item in items]
    return seconds


def results(name, workers, size):
    with warm(name, workers) as run:
        seconds, arrays = timed(run, partial(make, size["array"]), range(size["arrays"]), 1)
    assert [array[-1] for array in arrays] == list(range(size["arrays"]))
    return seconds


def closure(name, workers, size):
    shared, number = make(size["closure"], 3), size["calls"]
    seconds, found = timed(with_shared, name, workers, shared, number)
    assert found == [3.0] * number
    return seconds


def with_shared(name, workers, shared, number):
    """All calls, from opening the pool to closing it."""
    chunksize = max(1, number // (4 * workers))
    if name == "mpire":
        with with_mpire(workers, shared) as run:
            return run(look_up, range(number), chunksize)
    if name in FORKED:
        inherit(shared)
        with POOLS[name](workers) as run:
            return run(look_up_inherited, range(number), chunksize)
    if name == "loky":
        with with_loky(workers, initializer=inherit, initargs=(shared,)) as run:
            return run(look_up_inherited, range(number), chunksize)
    with POOLS[name](workers) as run:
        return run(partial(look_up, shared), range(number), chunksize)


def start(name, workers, _size):
    began = time.perf_counter()
    with POOLS[name](workers) as run:
        run(nothing, range(1), 1)
        return time.perf_counter() - began


ROWS = {
    "no-op": (no_op, "100,000 no-op tasks"),
    "map-scalars": (
        partial(seconds_of_many, nothing),
        "1,000,000 no-op tasks by map: scalars, start included",
    ),
    "map-scalars-memory": (partial(memory_of_many, nothing), "the same: memory of the program, MB"),
    "map-tuples": (partial(seconds_of_many, pair), "1,000,000 no-op tasks by map: tuples, start included"),
    "map-tuples-memory": (partial(memory_of_many, pair), "the same: memory of the program, MB"),
    "own-class": (own_class, "5,000 instances of a dataclass of the program, there and back"),
    "5ms": (five, "2,000 tasks of 5 ms"),
    "skewed": (skewed, "400 log-normal tasks, makespan over ideal"),
    "arguments": (arguments, "8 arrays of 100 MB as arguments"),
    "results": (results, "8 arrays of 100 MB as results"),
    "closure": (closure, "500 MB shared by 1,000 tasks, start included"),
    "start": (start, "start to first result"),
}


# the table


def child(name: str, rows: list[str], size: str) -> None:
    """Measure rows for one pool, and print them."""
    workers = runwide.cores().count
    print(json.dumps({row: ROWS[row][0](name, workers, SIZES[size]) for row in rows}))


def measured(name: str, rows: list[str], size: str) -> dict[str, float]:
    """Rows of one pool, measured in a process of its own; workers must be able to import this module."""
    code = f"import pool; pool.child({name!r}, {rows!r}, {size!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name}, {', '.join(rows)}: not done within {SECONDS} s") from None
    finally:
        with suppress(ProcessLookupError):  # whatever is left of it, workers that hang included
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name}, {', '.join(rows)}: {errors[-2000:]}")
    return json.loads(out.splitlines()[-1])


def table(found: dict[tuple[str, str], list[float]], rows: list[str], names: list[str]) -> str:
    """The measurements as markdown."""
    lines = [f"| | {' | '.join(names)} | of best | without fork |", "|---" * (len(names) + 3) + "|"]
    for row in rows:
        cells = [cell(found.get((row, name), [])) for name in names]
        against = [ratio(found, row, peers) for peers in (set(names), set(names) - set(FORKED))]
        lines.append(f"| {ROWS[row][1]} | {' | '.join(cells)} | {' | '.join(against)} |")
    return "\n".join(lines)


def cell(values: list[float]) -> str:
    if not values:
        return "failed"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


def ratio(found: dict[tuple[str, str], list[float]], row: str, names: set[str]) -> str:
    """Our median over the best of these peers."""
    peers = [statistics.median(found[row, name]) for name in names - {"runwide"} if (row, name) in found]
    if not peers or (row, "runwide") not in found:
        return ""
    return f"{statistics.median(found[row, 'runwide']) / min(peers):.2f}"


def described(names: list[str], runs: int) -> str:
    """What was measured, where and when."""
    load = os.getloadavg()[0]
    versions = [f"{name} {metadata.version(name)}" for name in names if name not in FORKED[:2]]
    cores = runwide.cores()
    return (
        f"{runs} run{'s' * (runs > 1)} each; seconds, or what the row says: median (fastest-slowest). "
        f"{', '.join(versions)}, Python {python_version()}, "
        f"numpy {np.__version__}; {cores.count} workers on {cores.logical} CPUs, load {load:.1f}; "
        f"{datetime.now(timezone.utc):%Y-%m-%d}."
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(POOLS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run")
    parser.add_argument("--write", type=Path, help="a markdown file with markers")
    parser.add_argument("--table", default="speed", help="which markers of the file: speed, or map")
    options = parser.parse_args()
    runs, size = (1, "quick") if options.quick else (options.runs, "full")
    # Where the sizes are small, starting an interpreter for each is all that would be measured.
    groups = [options.rows] if options.quick else [[row] for row in options.rows]
    begin, end = (marker.format(options.table) for marker in MARKERS)
    if options.write and begin not in options.write.read_text():  # known now, and not when all is measured
        parser.error(f"{options.write} has no line {begin}")
    try:
        described(options.peers, runs)
    except metadata.PackageNotFoundError as error:  # likewise
        parser.error(f"{error}; pip install -e '.[bench]'")
    found: dict[tuple[str, str], list[float]] = {}
    for rows in groups:
        for run in range(runs):
            for name in options.peers:
                try:
                    for row, value in measured(name, rows, size).items():
                        found.setdefault((row, name), []).append(value)
                except RuntimeError as error:
                    if name == "runwide":
                        raise
                    print(error, file=sys.stderr)  # a peer may fail; the others are measured
            print(f"{', '.join(rows)}: run {run + 1} of {runs}", file=sys.stderr)
    text = f"{table(found, options.rows, options.peers)}\n\n{described(options.peers, runs)}"
    if options.write:
        before, _, rest = options.write.read_text().partition(begin)
        options.write.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
    print(text)


if __name__ == "__main__":
    main()
