"""Rows of the speed table that load a pool: each takes its name, the number of workers and the sizes, and returns seconds.

What else one returns, its title in `pool.py` says. Several can be measured in one process, one after another.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from contextlib import contextmanager
from functools import partial

from pool_peers import CALLS, FORKED, POOLS, chunksize_for, with_loky, with_mpire
from pool_tasks import five_milliseconds, make, nothing, pair, touch, who

SHARED = None  # what forked workers inherit

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


def look_up(shared, x):
    return float(shared[x])


def look_up_inherited(x):
    return float(SHARED[x])


def inherit(shared):
    global SHARED  # noqa: PLW0603 - the way of forked workers
    SHARED = shared


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
        seconds, results = timed(run, function, range(number), chunksize_for(number, workers))
    assert results == [None] * number
    return seconds


def no_op(name, workers, size):
    return equal(nothing, size["tasks"], name, workers)


def many(function, name, workers, size):
    """Seconds from opening the pool to the last result, and peak memory; runwide's is `runwide.map` itself."""
    number = size["many"]
    began = time.perf_counter()
    if name == "runwide":
        found = CALLS[name](function, range(number), workers)
    else:
        with POOLS[name](workers) as run:
            found = run(function, range(number), chunksize_for(number, workers))
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
        seconds, found = timed(run, main.double, items, chunksize_for(len(items), workers))
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
    chunksize = chunksize_for(number, workers)
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


LOADS = {
    "no-op": no_op,
    "map-scalars": partial(seconds_of_many, nothing),
    "map-scalars-memory": partial(memory_of_many, nothing),
    "map-tuples": partial(seconds_of_many, pair),
    "map-tuples-memory": partial(memory_of_many, pair),
    "own-class": own_class,
    "5ms": five,
    "skewed": skewed,
    "arguments": arguments,
    "results": results,
    "closure": closure,
}


def values(name, rows, workers, size):
    """Measure rows for one pool, and return their values by name."""
    return {row: LOADS[row](name, workers, size) for row in rows}
