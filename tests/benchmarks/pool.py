r"""Compare the speed of Python's pools on all cores: a table of medians, as markdown.

Every measurement has a separate process; within a run the pools take turns, so that other load on the machine affects all
of them alike. A cell is the median of the runs in seconds, with the fastest and the slowest; the next columns
are runwide's median over that of the best peer, and over that of the best peer that does not fork. The last says whether
the row's goal is met: by the ratio of the medians. *Within the noise* is a median of runwide's that is no better than the
peer's, and not above the slowest run of the peer; it counts where the goal says so.

    pip install 'runwide[bench]'
    python tests/benchmarks/pool.py                         # to standard output
    python tests/benchmarks/pool.py --write docs/pool.md    # between the markers of this file
    python tests/benchmarks/pool.py --table starts --write docs/pool.md    # another table; also: map
    python tests/benchmarks/pool.py --rows no-op,closure --runs 9 --peers runwide,loky
    python tests/benchmarks/pool.py --quick                 # small sizes, to see that all of it works

What each peer is given:

- workers: as many as `runwide.cores` counts, but where the row says how many. In the first table, pools are warm
  (every worker has run a task), except in ``closure``.
- ``chunksize``: ``number / (4 * workers)`` for equal tasks, which is ``multiprocessing.Pool``'s own rule; 1 for skewed
  tasks and for arrays. joblib gets it as ``batch_size``. runwide is left to find its own.
- ``map-*``: a pool that is opened and closed for this one call, as by `runwide.map`; the results are a list. The import
  of the pool's library is included.
- ``own-class``: a dataclass of ``__main__``, as a script defines it: by name where workers are forked, else by value.
- ``arguments``: joblib writes the arrays to files in ``/dev/shm``, which its workers map, as it does by default.
- ``closure``: forked pools (``multiprocessing.Pool``, ``concurrent.futures``, mpire, pebble) inherit the array
  through a global variable or ``shared_objects=``, at no cost; loky gets it through ``initializer=``, once per worker;
  joblib maps it from a file that it writes once; runwide gets a ``functools.partial``.
- ``multiprocessing`` and ``concurrent.futures`` use fork, their default on Linux until Python 3.14; fork is
  unsafe in a program that has threads or clients of Google Cloud, which is why runwide does not.

The table ``starts`` is about whole programs (`pool_programs.py`), each a fresh interpreter:

- ``cold-2``, ``cold-8``: the import of the library, the start, and the first result of a stream of as many tasks as
  there are workers: `runwide.imap`, ``imap`` of ``multiprocessing.Pool``, ``map`` of the executors.
- ``later``, ``maps``: calls, without a pool that the program keeps: `runwide.map`, ``loky.get_reusable_executor``,
  ``joblib.Parallel``; the pools of the standard library are opened anew for each, as their users do.
  The first call is counted in ``maps`` and not in ``later``.
- ``maps-one-pool``: the same maps in a pool that the program opens first: `runwide.Pool`, loky's executor.
- ``replaced``: a task ends its process. The time is from then to the result of the same task, which a new worker runs. loky
  gets a new executor for it; pebble is given the task again; runwide tries it again by itself. The pools of the
  standard library hang or are dead afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from compileall import compile_dir
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from platform import python_version

from pool_loads import LOADS
from pool_peers import CALLS, FORKED, POOLS, REVIVALS, STREAMS

import runwide

HERE = Path(__file__).parent
MARKERS = "<!-- {}:begin -->", "<!-- {}:end -->"
SECONDS = 180
"""How long the rows of one pool may take before it is said to have failed."""

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
        "later": 10,
        "maps": 100,
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
        "later": 1,
        "maps": 2,
    },
}


@dataclass(frozen=True)
class Goal:
    """The goal of a row for runwide.

    Args:
        times: Its median is at most so many times that of the peer.
        peer: The peer; None for the best of those in the row.
        noise: Within the noise is good enough.
    """

    times: float
    peer: str | None = None
    noise: bool = False

    def __str__(self) -> str:
        against = self.peer or "the best"
        words = f"ahead of {against}" if self.times == 1 else f"at most {self.times} times {against}"
        return f"{words}, or within the noise" if self.noise else words

    def verdict(self, ours: list[float], peers: dict[str, list[float]]) -> str:
        """Return in words whether the goal is met, from the runs of runwide and of its peers."""
        if self.peer:
            peers = {name: runs for name, runs in peers.items() if name == self.peer}
        if not ours or not peers:
            return f"{self}: not measured"
        theirs = min(peers.values(), key=statistics.median)
        median = statistics.median(ours)
        ratio = median / statistics.median(theirs)
        near = "within the noise" if self.noise and median <= max(theirs) else "**missed**"
        return f"{self}: {'met' if ratio < self.times else near} ({ratio:.2f})"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        title: The measured quantity, and its unit unless that is seconds.
        peers: Those that it is measured for; they have the place of a dash where they are asked for and not among them.
        goal: The goal; None if nothing is promised.
    """

    title: str
    peers: tuple[str, ...] = tuple(POOLS)
    goal: Goal | None = None


ROWS = {
    "no-op": Row("100,000 no-op tasks", goal=Goal(1, "multiprocessing.Pool")),
    "5ms": Row("2,000 tasks of 5 ms"),
    "skewed": Row("400 log-normal tasks, makespan over ideal"),
    "arguments": Row("8 arrays of 100 MB as arguments", goal=Goal(1, "joblib", noise=True)),
    "results": Row("8 arrays of 100 MB as results"),
    "closure": Row("500 MB shared by 1,000 tasks, start included"),
    "map-scalars": Row("1,000,000 no-op tasks by map: scalars, start included"),
    "map-scalars-memory": Row("the same: memory of the program, MB"),
    "map-tuples": Row("1,000,000 no-op tasks by map: tuples, start included"),
    "map-tuples-memory": Row("the same: memory of the program, MB"),
    "own-class": Row("5,000 instances of a dataclass of the program, there and back"),
    "cold-2": Row("start to first result, cold, 2 workers", tuple(STREAMS), Goal(1.1, "loky")),
    "cold-8": Row("start to first result, cold, 8 workers", tuple(STREAMS), Goal(1.1, "loky")),
    "later": Row(
        "second and later maps of 4 items, function imports pandas: milliseconds each",
        tuple(CALLS),
        Goal(1.1, "loky"),
    ),
    "maps": Row("100 maps of 100 no-op tasks in one program", tuple(CALLS), Goal(1.1)),
    "maps-one-pool": Row("the same in one open pool"),
    "replaced": Row("worker replaced after a death, function imports pandas", tuple(REVIVALS)),
    "replaced-alone": Row("the same, less the import of pandas", tuple(REVIVALS)),
}
TABLES = {
    "speed": (["no-op", "5ms", "skewed", "arguments", "results", "closure"], list(POOLS)),
    # joblib and mpire take minutes for a million tasks.
    "map": (
        ["map-scalars", "map-scalars-memory", "map-tuples", "map-tuples-memory", "own-class"],
        ["runwide", "multiprocessing.Pool", "concurrent.futures", "loky", "pebble"],
    ),
    "starts": (
        ["cold-2", "cold-8", "later", "maps", "maps-one-pool", "replaced", "replaced-alone"],
        ["runwide", "multiprocessing.Pool", "concurrent.futures", "loky", "joblib", "pebble"],
    ),
}
"""By the name of its markers: the rows and the peers of a table."""


Found = dict[tuple[str, str], list[float]]
"""The values of all runs, by row and peer."""


# measuring


def measured(name: str, rows: list[str], size: str) -> dict[str, float]:
    """Rows of one pool, measured in processes of their own; those that load a pool share one."""
    workers, sizes = runwide.cores().count, SIZES[size]
    loads = [row for row in rows if row in LOADS]
    found = {}
    if loads:
        code = f"import json, pool_loads; print(json.dumps(pool_loads.values({name!r}, {loads!r}, {workers}, {sizes!r})))"
        found = printed(["-c", code], f"{name}, {', '.join(loads)}")
    for row in rows:
        if row not in LOADS and name in ROWS[row].peers:
            arguments = [row, name, str(workers), json.dumps(sizes)]
            found[row] = printed([str(HERE / "pool_programs.py"), *arguments], f"{name}, {row}")
    return found


def printed(command: list[str], what: str):
    """The JSON that a program prints last, whose workers can import the modules of this folder."""
    process = subprocess.Popen(
        [sys.executable, *command],
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
        raise RuntimeError(f"{what}: not done within {SECONDS} s") from None
    finally:
        with suppress(ProcessLookupError):  # whatever is left of it, workers that hang included
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if process.returncode:
        raise RuntimeError(f"{what}: {errors[-2000:]}")
    return json.loads(out.splitlines()[-1])


def measure_all(rows: list[str], names: list[str], *, runs: int, size: str) -> Found:
    """All runs of all rows, the pools in turn."""
    # Where the sizes are small, starting an interpreter for each is all that would be measured.
    groups = [rows] if size == "quick" else [[row] for row in rows]
    found: Found = {}
    for group in groups:
        for run in range(runs):
            for name in names:
                try:
                    for row, value in measured(name, group, size).items():
                        found.setdefault((row, name), []).append(value)
                except RuntimeError as error:
                    if name == "runwide":
                        raise
                    print(error, file=sys.stderr)  # a peer may fail; the others are measured
            print(f"{', '.join(group)}: run {run + 1} of {runs}", file=sys.stderr)
    return found


# the table


def table(found: Found, rows: list[str], names: list[str]) -> str:
    """The measurements as markdown."""
    lines = [f"| | {' | '.join(names)} | of best | without fork | goal |", "|---" * (len(names) + 4) + "|"]
    for key in rows:
        row = ROWS[key]
        runs = {name: found[key, name] for name in names if (key, name) in found}
        peers = {name: values for name, values in runs.items() if name != "runwide"}
        ours = runs.get("runwide", [])
        cells = [cell(runs.get(name, [])) if name in row.peers else "-" for name in names]
        slow = {name: values for name, values in peers.items() if name not in FORKED}
        goal = row.goal.verdict(ours, peers) if row.goal else ""
        lines.append(f"| {' | '.join([row.title, *cells, ratio(ours, peers), ratio(ours, slow), goal])} |")
    return "\n".join(lines)


def cell(values: list[float]) -> str:
    if not values:
        return "failed"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


def ratio(ours: list[float], peers: dict[str, list[float]]) -> str:
    """Our median over the best of these peers."""
    if not ours or not peers:
        return ""
    return f"{statistics.median(ours) / min(map(statistics.median, peers.values())):.2f}"


def described(names: list[str], runs: int) -> str:
    """Return the versions, the machine and the date of a measurement."""
    load = os.getloadavg()[0]
    packages = [*(name for name in names if name not in FORKED[:2]), "numpy", "pandas"]
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    cores = runwide.cores()
    return (
        f"{runs} run{'s' * (runs > 1)} each; seconds, or what the row says: median (fastest-slowest). "
        f"{', '.join(versions)}, Python {python_version()}; "
        f"{cores.count} workers on {cores.logical} CPUs, load {load:.1f}; {datetime.now(timezone.utc):%Y-%m-%d}."
    )


def asked() -> argparse.Namespace:
    """Return the options, which are refused before anything is measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table", choices=TABLES, default="speed", help="rows, peers and markers")
    parser.add_argument("--rows", type=lambda text: text.split(","), help=", ".join(ROWS))
    parser.add_argument("--peers", type=lambda text: text.split(","), help=", ".join(POOLS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run")
    parser.add_argument("--write", type=Path, help="a markdown file with markers")
    options = parser.parse_args()
    rows, peers = TABLES[options.table]
    options.rows, options.peers = options.rows or rows, options.peers or peers
    if options.write and MARKERS[0].format(options.table) not in options.write.read_text():
        parser.error(f"{options.write} has no line {MARKERS[0].format(options.table)}")
    try:
        described(options.peers, options.runs)
    except metadata.PackageNotFoundError as error:
        parser.error(f"{error}; pip install -e '.[bench]'")
    return options


def main() -> None:
    """Measure, and print the table."""
    options = asked()
    compile_dir(Path(runwide.__file__).parent, quiet=1)  # as pip does with what it installs, the peers here
    runs, size = (1, "quick") if options.quick else (options.runs, "full")
    found = measure_all(options.rows, options.peers, runs=runs, size=size)
    text = f"{table(found, options.rows, options.peers)}\n\n{described(options.peers, runs)}"
    if options.write:
        begin, end = (marker.format(options.table) for marker in MARKERS)
        before, _, rest = options.write.read_text().partition(begin)
        options.write.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
    print(text)


if __name__ == "__main__":
    main()
