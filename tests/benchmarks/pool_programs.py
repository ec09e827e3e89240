"""Rows of the speed table about a program as a whole: how it begins, calls again, and goes on after a death.

Each is measured in a fresh interpreter, which has loaded nothing of a pool: ``pool_programs.py ROW PEER WORKERS SIZES``,
with the sizes as JSON. It prints the row's value.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from pool_peers import CALLS, POOLS, REVIVALS, STREAMS, chunksize_for
from pool_tasks import die_once, nothing, with_pandas

LATER_ITEMS = 4
ITEMS = 100


def first_result(workers, name, _workers, _size):
    """Seconds to the first result of as many tasks as there are workers."""
    began = time.perf_counter()
    results = STREAMS[name](nothing, range(workers), workers)
    next(results)
    seconds = time.perf_counter() - began
    results.close()
    return seconds


def later_maps(name, workers, size):
    """Median of the milliseconds of a map, all but the program's first."""
    seconds = []
    for _ in range(1 + size["later"]):
        began = time.perf_counter()
        found = CALLS[name](with_pandas, range(LATER_ITEMS), workers)
        seconds.append(time.perf_counter() - began)
        assert found == [1] * LATER_ITEMS
    return 1000 * statistics.median(seconds[1:])


def maps(name, workers, size):
    """Seconds for many small maps, each a call that opens or finds its workers."""
    began = time.perf_counter()
    for _ in range(size["maps"]):
        CALLS[name](nothing, range(ITEMS), workers)
    return time.perf_counter() - began


def maps_in_one_pool(name, workers, size):
    """The same in a pool that the program opens first."""
    began = time.perf_counter()
    with POOLS[name](workers) as run:
        for _ in range(size["maps"]):
            run(nothing, range(ITEMS), chunksize_for(ITEMS, workers))
        return time.perf_counter() - began


def replaced(name, _workers, _size, *, without_import=False):
    """Seconds from the death of a worker to the next result, with or without what its import of pandas takes."""
    REVIVALS[name](with_pandas, 1)
    with tempfile.TemporaryDirectory() as folder:
        died = Path(folder) / "died"
        took = REVIVALS[name](die_once, str(died))
        seconds = time.monotonic() - float(died.read_text())
    return seconds - took if without_import else seconds


PROGRAMS = {
    "cold-2": partial(first_result, 2),
    "cold-8": partial(first_result, 8),
    "later": later_maps,
    "maps": maps,
    "maps-one-pool": maps_in_one_pool,
    "replaced": replaced,
    "replaced-alone": partial(replaced, without_import=True),
}


if __name__ == "__main__":
    _, row, peer, number, sizes = sys.argv
    print(json.dumps(PROGRAMS[row](peer, int(number), json.loads(sizes))))
