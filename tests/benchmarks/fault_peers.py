"""The pools of the fault table, each used as its documentation advises for the best behaviour under faults.

A pool has up to three uses here: tasks one by one (`PEERS`), results as a stream (`STREAMS`), and tasks under a progress
bar (`BARS`). `Reports` writes the results and errors that reach the caller to a file.
"""

from __future__ import annotations

import json
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwide.testing.faults import GUILTY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from runwide.testing.faults import Fault

WORKERS = 2
TASKS = 12


_SAID = {
    "os._exit": ("status 7", "exitcode 7", "EXIT(7)"),
    "sys.exit": ("sys.exit(3)", "SystemExit", "exitcode 3", "EXIT(3)"),
    "SIGSEGV": ("SIGSEGV", "-11"),
    "SIGABRT": ("SIGABRT", "-6"),
    "SIGKILL": ("SIGKILL", "-9"),
    "SIGKILL in the middle of writing 700 MB": ("SIGKILL", "-9"),
}
"""Words of an error that say why, where these are not the message of the exception itself."""


@dataclass(frozen=True)
class Meeting:
    """Twelve tasks for a pool, and how to judge what it gives back.

    Args:
        task: The function to map.
        items: Returns the items.
        index_of: Returns the index of the item of which a value is the result.
        guilty: Index of the task that may fail, or None.
        why: An error has one of these words where it says why.
        timeout: Seconds per task that the pool is given, where it can take any.
    """

    task: Callable[[Any], Any]
    items: Callable[[], Iterable[Any]] = lambda: range(TASKS)
    index_of: Callable[[Any], int | None] = lambda value: value if isinstance(value, int) else None
    guilty: int | None = None
    why: tuple[str, ...] = ()
    timeout: float | None = None

    @classmethod
    def of(cls, fault: Fault) -> Meeting:
        """Take a fault of the shipped table."""
        why = _SAID.get(fault.name, ("imeout", "timed out") if fault.timeout else (fault.message,))
        return cls(fault.task, fault.items, guilty=GUILTY, why=why, timeout=fault.timeout)


class Reports:
    """The reports of a pool to its caller, written at once, since the process may have to be killed.

    Args:
        meeting: The tasks of the pool.
        path: File to write to.
    """

    def __init__(self, meeting: Meeting, path: Path) -> None:
        self._meeting = meeting
        self._path = path

    def result(self, index, value):
        """Write the result of a task; if the pool gives no index, it is found from the value."""
        found = self._meeting.index_of(value)
        if found is not None and index in (found, None):
            self._say("result", found)

    def error(self, index, error):
        """Write the error of a task or, without an index, of the whole call."""
        text = " ".join(_chain(error))
        if index is None or index == self._meeting.guilty:
            which = index is not None or getattr(error, "item", None) == GUILTY
            self._say("guilty", [which, any(word in text for word in self._meeting.why), text[:300]])
        else:
            self._say("wronged", [index, text[:300]])

    def words(self, words):
        """Write the words of a row that counts something else."""
        self._say("words", words)

    def afterwards(self, state):
        """Write whether the pool ran another task."""
        self._say("afterwards", state)

    def _say(self, name, value):
        with self._path.open("a") as file:
            file.write(json.dumps([name, value]) + "\n")


def _chain(error):
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        if getattr(error, "exitcode", None) is not None:  # pebble reports it there
            yield f"exitcode {error.exitcode}"
        error = error.__cause__


def with_futures(reports, futures):
    """Report on futures as they end."""
    for future in as_completed(futures):
        index = futures[future]
        error = future.exception()
        if error is None:
            reports.result(index, future.result())
        else:
            reports.error(index, error)


def try_again(reports, call, state="on"):
    """Have the pool run another task."""
    try:
        reports.afterwards(state if call() == 1 else "dead")
    except Exception:
        reports.afterwards("dead")


# the pools


def runwide_executor(fault, reports):
    """``Executor(timeout=)``, one future a task."""
    import runwide

    with runwide.Executor(max_workers=WORKERS, timeout=fault.timeout) as pool:
        with_futures(
            reports, {pool.submit(fault.task, item): index for index, item in enumerate(fault.items())}
        )
        try_again(reports, lambda: pool.submit(abs, -1).result())


def concurrent_futures(fault, reports):
    """One future a task; there is no timeout that stops a task."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as pool:
        with_futures(
            reports, {pool.submit(fault.task, item): index for index, item in enumerate(fault.items())}
        )
        try_again(reports, lambda: pool.submit(abs, -1).result())


def multiprocessing_pool(fault, reports):
    """``apply_async``, one result a task, ``get(timeout=)`` where the fault has a timeout; it stops no task."""
    from multiprocessing import Pool

    with Pool(WORKERS) as pool:
        results = [pool.apply_async(fault.task, (item,)) for item in fault.items()]
        others = [index for index in range(len(results)) if index != GUILTY]
        for index in (*others, GUILTY):
            try:
                reports.result(index, results[index].get(fault.timeout and 10 * fault.timeout))
            except Exception as error:
                reports.error(index, error)
        try_again(reports, lambda: pool.apply_async(abs, (-1,)).get(5))


def loky(fault, reports):
    """``get_reusable_executor``, which is made anew when it is broken; there is no timeout that stops a task."""
    from loky import get_reusable_executor

    pool = get_reusable_executor(WORKERS)
    with_futures(reports, {pool.submit(fault.task, item): index for index, item in enumerate(fault.items())})
    again = get_reusable_executor(WORKERS)
    try_again(reports, lambda: again.submit(abs, -1).result(), "on" if again is pool else "anew")


def joblib(fault, reports):
    """``return_as="generator_unordered"``, so that finished results are received, and ``timeout=``."""
    from joblib import Parallel, delayed

    options = {"n_jobs": WORKERS, "return_as": "generator_unordered", "timeout": fault.timeout}
    try:
        for value in Parallel(**options)(delayed(fault.task)(item) for item in fault.items()):
            reports.result(None, value)
    except Exception as error:
        reports.error(None, error)
    try_again(reports, lambda: Parallel(n_jobs=WORKERS)([delayed(abs)(-1)])[0], "anew")


def pebble(fault, reports):
    """``ProcessPool.schedule(timeout=)``, one future a task."""
    from pebble import ProcessPool

    with ProcessPool(WORKERS) as pool:
        futures = {
            pool.schedule(fault.task, args=(item,), timeout=fault.timeout): index
            for index, item in enumerate(fault.items())
        }
        with_futures(reports, futures)
        try_again(reports, lambda: pool.schedule(abs, args=(-1,)).result())


def mpire(fault, reports):
    """``apply_async(task_timeout=)``, one result a task."""
    from mpire import WorkerPool

    with WorkerPool(WORKERS) as pool:
        results = [
            pool.apply_async(fault.task, (item,), task_timeout=fault.timeout) for item in fault.items()
        ]
        for index in [*(index for index in range(len(results)) if index != GUILTY), GUILTY]:
            try:
                reports.result(index, results[index].get())
            except Exception as error:
                reports.error(index, error)
        try_again(reports, lambda: pool.apply_async(abs, (-1,)).get(5))


def dask(fault, reports):
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
                reports.result(futures[future], future.result())
            else:
                reports.error(futures[future], error)
        try_again(reports, lambda: client.submit(abs, -1).result(timeout=20))


# a stream of results


def _futures_map(pool, function, items):
    with pool:
        yield from pool.map(function, items)


def _runwide_stream(function, items):
    import runwide

    return runwide.imap(function, items, workers=WORKERS)


def _concurrent_futures_stream(function, items):
    from concurrent.futures import ProcessPoolExecutor

    return _futures_map(ProcessPoolExecutor(WORKERS), function, items)


def _multiprocessing_stream(function, items):
    from multiprocessing import Pool

    with Pool(WORKERS) as pool:
        yield from pool.imap(function, items)


def _loky_stream(function, items):
    from loky import ProcessPoolExecutor

    return _futures_map(ProcessPoolExecutor(WORKERS), function, items)


def _joblib_stream(function, items):
    from joblib import Parallel, delayed

    options = {"n_jobs": WORKERS, "return_as": "generator", "pre_dispatch": WORKERS, "batch_size": 1}
    return Parallel(**options)(delayed(function)(item) for item in items)


def _pebble_stream(function, items):
    from pebble import ProcessPool

    with ProcessPool(WORKERS) as pool:
        yield from pool.map(function, items).result()


def _mpire_stream(function, items):
    from mpire import WorkerPool

    with WorkerPool(WORKERS) as pool:
        yield from pool.imap(function, items, iterable_len=TASKS, chunk_size=1, max_tasks_active=WORKERS)


# tasks under a progress bar


def _runwide_bar(function, items):
    import runwide

    return runwide.map(function, items, workers=WORKERS, progress=True)


def _joblib_bar(function, items):
    from joblib import Parallel, delayed

    return Parallel(n_jobs=WORKERS, verbose=10, return_as="generator")(
        delayed(function)(item) for item in items
    )


def _mpire_bar(function, items):
    from mpire import WorkerPool

    with WorkerPool(WORKERS) as pool:
        yield from pool.imap(function, items, chunk_size=1, progress_bar=True)


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

STREAMS = {
    "runwide": _runwide_stream,
    "concurrent.futures": _concurrent_futures_stream,
    "multiprocessing.Pool": _multiprocessing_stream,
    "loky": _loky_stream,
    "joblib": _joblib_stream,
    "pebble": _pebble_stream,
    "mpire": _mpire_stream,
}
BARS = {"runwide": _runwide_bar, "joblib": _joblib_bar, "mpire": _mpire_bar}
