"""The pools of Python that are measured beside each other, each used as its users do.

Libraries are loaded where they are used: a cold start includes the import.
"""

from __future__ import annotations

from contextlib import contextmanager

FORKED = ("multiprocessing.Pool", "concurrent.futures", "mpire", "pebble")


def chunksize_for(number, workers):
    """The rule of ``multiprocessing.Pool`` for equal tasks."""
    return max(1, number // (4 * workers))


# open pools: each gives a function (function, items, chunksize) -> list


@contextmanager
def with_runwide(workers):
    import runwide

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


# calls, with no pool that the program keeps: (function, items, workers) -> list


def call_runwide(function, items, workers):
    import runwide

    return runwide.map(function, items, workers=workers)


def call_loky(function, items, workers):
    from loky import get_reusable_executor

    executor = get_reusable_executor(max_workers=workers)
    return list(executor.map(function, items, chunksize=chunksize_for(len(items), workers)))


def call_joblib(function, items, workers):
    from joblib import Parallel, delayed

    return Parallel(n_jobs=workers)(delayed(function)(item) for item in items)


def opened_anew(name):
    def call(function, items, workers):
        with POOLS[name](workers) as run:
            return run(function, items, chunksize_for(len(items), workers))

    return call


CALLS = {
    "runwide": call_runwide,
    "multiprocessing.Pool": opened_anew("multiprocessing.Pool"),
    "concurrent.futures": opened_anew("concurrent.futures"),
    "loky": call_loky,
    "joblib": call_joblib,
}


# streams: (function, items, workers) -> iterator


def stream_runwide(function, items, workers):
    import runwide

    yield from runwide.imap(function, items, workers=workers)


def stream_multiprocessing(function, items, workers):
    from multiprocessing import Pool

    with Pool(workers) as pool:
        yield from pool.imap(function, items)


def stream_futures(function, items, workers):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(function, items)


def stream_loky(function, items, workers):
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(function, items)


STREAMS = {
    "runwide": stream_runwide,
    "multiprocessing.Pool": stream_multiprocessing,
    "concurrent.futures": stream_futures,
    "loky": stream_loky,
}


# one worker that dies in a task, and the result of that task when it is run again: (function, argument) -> result


def revive_runwide(function, argument):
    import runwide

    (result,) = runwide.map(function, [argument], workers=1)
    return result


def revive_loky(function, argument):
    from loky import get_reusable_executor
    from loky.process_executor import TerminatedWorkerError

    while True:
        try:
            return get_reusable_executor(max_workers=1).submit(function, argument).result()
        except TerminatedWorkerError:
            pass


def revive_pebble(function, argument):
    from pebble import ProcessExpired, ProcessPool

    with ProcessPool(max_workers=1) as pool:
        while True:
            try:
                return pool.schedule(function, args=[argument]).result()
            except ProcessExpired:
                pass


REVIVALS = {"runwide": revive_runwide, "loky": revive_loky, "pebble": revive_pebble}
