"""What the pools of Python do when one of twelve tasks goes wrong: the fault table, as markdown.

Each pool meets each fault of `runwide.testing.faults` in a process of its own, with two workers: eleven innocent tasks
of 0.15 s, and a guilty one at index 5. It has 20 seconds. A cell tells

- how many of the eleven innocents' results the caller got;
- whether the error of the guilty says *which* item it was (no innocent gets one too), and *why*: the signal, the exit
  status, the time-out, or what pickle said;
- whether the pool runs another task afterwards (*on*), is made anew by the library (*anew*), or is *dead*;
- and **hang** where the caller waits without end.

Each peer is used as its documentation advises for the best behaviour under faults; the functions below say how.

    pip install 'runwide[bench]'                                    # and 'dask[distributed]' for --pool dask
    python tests/benchmarks/pool_faults.py                          # to standard output
    python tests/benchmarks/pool_faults.py --write docs/pool.md     # between the markers of this file
    python tests/benchmarks/pool_faults.py --pool pebble --fault SIGKILL
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from platform import python_version

from runwide.pool.process import kill_tree
from runwide.testing.faults import GUILTY, table

SECONDS = 20
AT_A_TIME = 3  # most of them wait
WORKERS = 2
INNOCENT = 11


class Told:
    """What a pool told its caller, written as it comes, since the process may have to be killed.

    Args:
        fault: The row of the table.
        path: File to write to.
    """

    def __init__(self, fault, path):
        self.fault = fault
        self._path = path

    def result(self, index, value):
        """One task's result."""
        if index != GUILTY and value == index:
            self._say("innocent", index)

    def error(self, index, error):
        """One task's error, or with no index that of the call as a whole."""
        text = " ".join(_chain(error))
        if index in (GUILTY, None):
            which = index == GUILTY or getattr(error, "item", None) == GUILTY
            self._say("guilty", [which, _tells_why(self.fault, text), text[:300]])
        else:
            self._say("wronged", index)

    def afterwards(self, state):
        """Whether the pool ran another task."""
        self._say("afterwards", state)

    def _say(self, name, value):
        with self._path.open("a") as file:
            file.write(json.dumps([name, value]) + "\n")


def _chain(error):
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        if getattr(error, "exitcode", None) is not None:  # pebble says it there
            yield f"exitcode {error.exitcode}"
        error = error.__cause__


def _tells_why(fault, text):
    """Whether an error says more than that something went wrong: the signal, exit status or original message."""
    told = {
        "os._exit": ("status 7", "exitcode 7", "EXIT(7)"),
        "sys.exit": ("sys.exit(3)", "SystemExit", "exitcode 3", "EXIT(3)"),
        "SIGSEGV": ("SIGSEGV", "-11"),
        "SIGABRT": ("SIGABRT", "-6"),
        "SIGKILL": ("SIGKILL", "-9"),
        "SIGKILL in the middle of writing 700 MB": ("SIGKILL", "-9"),
    }.get(fault.name)
    if told is None and fault.timeout:
        told = ("imeout", "timed out")
    return any(word in text for word in told or (fault.message,))


def with_futures(told, futures):
    """Report on futures as they end."""
    for future in as_completed(futures):
        index = futures[future]
        error = future.exception()
        if error is None:
            told.result(index, future.result())
        else:
            told.error(index, error)


def try_again(told, call, state="on"):
    """Have the pool run another task."""
    try:
        told.afterwards(state if call() == 1 else "dead")
    except Exception:
        told.afterwards("dead")


# the pools


def runwide_executor(fault, told):
    """``Executor(timeout=)``, one future a task."""
    import runwide

    with runwide.Executor(max_workers=WORKERS, timeout=fault.timeout) as pool:
        with_futures(told, {pool.submit(fault.task, item): index for index, item in enumerate(fault.items())})
        try_again(told, lambda: pool.submit(abs, -1).result())


def concurrent_futures(fault, told):
    """One future a task; there is no timeout that stops a task."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        with_futures(told, {pool.submit(fault.task, item): index for index, item in enumerate(fault.items())})
        try_again(told, lambda: pool.submit(abs, -1).result())


def multiprocessing_pool(fault, told):
    """``apply_async``, one result a task, ``get(timeout=)`` where the fault has a timeout; it stops no task."""
    from multiprocessing import Pool

    with Pool(WORKERS) as pool:
        results = [pool.apply_async(fault.task, (item,)) for item in fault.items()]
        others = [index for index in range(len(results)) if index != GUILTY]
        for index in (*others, GUILTY):
            try:
                told.result(index, results[index].get(fault.timeout and 10 * fault.timeout))
            except Exception as error:
                told.error(index, error)
        try_again(told, lambda: pool.apply_async(abs, (-1,)).get(5))


def loky(fault, told):
    """``get_reusable_executor``, which is made anew when it is broken; there is no timeout that stops a task."""
    from loky import get_reusable_executor

    pool = get_reusable_executor(WORKERS)
    with_futures(told, {pool.submit(fault.task, item): index for index, item in enumerate(fault.items())})
    again = get_reusable_executor(WORKERS)
    try_again(told, lambda: again.submit(abs, -1).result(), "on" if again is pool else "anew")


def joblib(fault, told):
    """``return_as="generator_unordered"``, so that what is done is had, and ``timeout=``."""
    from joblib import Parallel, delayed

    options = {"n_jobs": WORKERS, "return_as": "generator_unordered", "timeout": fault.timeout}
    try:
        for value in Parallel(**options)(delayed(fault.task)(item) for item in fault.items()):
            told.result(value if isinstance(value, int) else None, value)
    except Exception as error:
        told.error(None, error)
    try_again(told, lambda: Parallel(n_jobs=WORKERS)([delayed(abs)(-1)])[0], "anew")


def pebble(fault, told):
    """``ProcessPool.schedule(timeout=)``, one future a task."""
    from pebble import ProcessPool

    with ProcessPool(WORKERS) as pool:
        futures = {
            pool.schedule(fault.task, args=(item,), timeout=fault.timeout): index
            for index, item in enumerate(fault.items())
        }
        with_futures(told, futures)
        try_again(told, lambda: pool.schedule(abs, args=(-1,)).result())


def mpire(fault, told):
    """``apply_async(task_timeout=)``, one result a task."""
    from mpire import WorkerPool

    with WorkerPool(WORKERS) as pool:
        results = [
            pool.apply_async(fault.task, (item,), task_timeout=fault.timeout) for item in fault.items()
        ]
        for index in [*(index for index in range(len(results)) if index != GUILTY), GUILTY]:
            try:
                told.result(index, results[index].get())
            except Exception as error:
                told.error(index, error)
        try_again(told, lambda: pool.apply_async(abs, (-1,)).get(5))


def dask(fault, told):
    """A local cluster of processes with one thread each, one future a task, two allowed failures."""
    from dask import config
    from dask.distributed import Client, LocalCluster, as_completed

    config.set({"distributed.scheduler.allowed-failures": 1})
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        futures = {client.submit(fault.task, item): index for index, item in enumerate(fault.items())}
        for future in as_completed(list(futures)):
            error = future.exception()
            if error is None:
                told.result(futures[future], future.result())
            else:
                told.error(futures[future], error)
        try_again(told, lambda: client.submit(abs, -1).result(timeout=20))


PEERS = {
    "runwide": (runwide_executor, "runwide"),
    "concurrent.futures": (concurrent_futures, None),
    "multiprocessing.Pool": (multiprocessing_pool, None),
    "loky": (loky, "loky"),
    "joblib": (joblib, "joblib"),
    "pebble": (pebble, "Pebble"),
    "mpire": (mpire, "mpire"),
    "dask": (dask, "distributed"),
}
USUAL = [name for name in PEERS if name != "dask"]


# one cell


def cell(pool: str, fault: str, *, seconds: float = SECONDS) -> str:
    """Let one pool meet one fault, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="pool-faults-") as folder:
        path = Path(folder) / "told"
        path.touch()
        program = subprocess.Popen(
            [sys.executable, __file__, "--cell", pool, fault, str(path)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        hung = False
        try:
            program.wait(seconds)
        except subprocess.TimeoutExpired:
            hung = True
        kill_tree(program.pid)
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        return verdict([json.loads(line) for line in path.read_text().splitlines()], hung=hung)


def verdict(told: list[tuple[str, object]], *, hung: bool) -> str:
    """The words of a cell."""
    innocent = sum(name == "innocent" for name, _ in told)
    wronged = any(name == "wronged" for name, _ in told)
    guilty = next((value for name, value in told if name == "guilty"), None)
    after = next((value for name, value in told if name == "afterwards"), None)
    words = [str(innocent)]
    if guilty:
        which, why, _ = guilty
        words.append(" ".join(["which"] * (which and not wronged) + ["why"] * why) or "unnamed")
    words.append("**hang**" if hung else after or "**crash**")
    return ", ".join(words)


def is_right(words: str) -> bool:
    """Whether nothing is left to wish."""
    return words in (f"{INNOCENT}, which why, on", f"{INNOCENT}, which why, anew")


def versions(pools: list[str]) -> str:
    """What was compared."""
    found = [
        f"{name} {metadata.version(PEERS[name][1])}"
        if PEERS[name][1]
        else f"{name} of Python {python_version()}"
        for name in pools
    ]
    return ", ".join(found)


def markdown(pools: list[str], cells: dict[tuple[str, str], str]) -> str:
    """The table."""
    names = list(dict.fromkeys(fault for _, fault in cells))
    lines = [f"| | {' | '.join(pools)} |", "|---" * (len(pools) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells[pool, name] for pool in pools)} |" for name in names]
    right = [sum(is_right(cells[pool, name]) for name in names) for pool in pools]
    lines.append(f"| nothing left to wish | {' | '.join(f'{number} of {len(names)}' for number in right)} |")
    return "\n".join(lines)


def main() -> None:
    """Fill the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", action="append", choices=PEERS, help="a pool; may be repeated")
    parser.add_argument("--fault", action="append", choices=table(), help="a fault; may be repeated")
    parser.add_argument("--write", type=Path, help="a markdown file with markers")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        pool, fault, path = arguments.cell
        row = table()[fault]
        PEERS[pool][0](row, Told(row, Path(path)))
        return
    pools, faults = arguments.pool or USUAL, arguments.fault or list(table())
    todo = [(pool, fault) for fault in faults for pool in pools]
    with ThreadPoolExecutor(AT_A_TIME) as executor:
        cells = dict(zip(todo, executor.map(lambda pair: cell(*pair), todo), strict=True))
    text = f"{markdown(pools, cells)}\n\n{versions(pools)}; {datetime.now(timezone.utc):%Y-%m-%d}."
    if arguments.write:
        between_markers(arguments.write, "faults", text)
    print(text)


def between_markers(path: Path, name: str, text: str) -> None:
    """Replace what a file has between two comments."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = path.read_text().partition(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
