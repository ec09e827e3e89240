"""The program's state that workers have or lack, and what becomes of what their tasks leave open: as docs/pool.md says."""

from __future__ import annotations

import decimal
import functools
import logging
import random
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import runwide
from runwide.pickling.functions import function_pickle


def leave_open(path):
    """Write to a file that stays open, and in its buffer."""

    def task(x):
        kept = vars(sys).setdefault("files_left_open", [])  # for as long as the worker lives
        kept.append(Path(f"{path}/{x}").open("w"))  # noqa: SIM115 - that is the point
        kept[-1].write(f"item {x}")
        return x

    return task


def by_joblib(task, items):
    from joblib import Parallel, delayed, parallel_config

    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=2):
        return Parallel()(delayed(task)(item) for item in items)


def by_a_closed_pool(task, items):
    pool = runwide.Pool(2)
    found = pool.map(task, items)
    pool.close()
    pool.join()
    return found


def by_executor(task, items):
    with runwide.Executor(2) as executor:
        return list(executor.map(task, items))


async def awaited(task, items):
    return await runwide.amap(task, items, workers=2)


def by_amap(task, items):
    import asyncio

    return asyncio.run(awaited(task, items))


ENDS = {
    "map": lambda task, items: runwide.map(task, items, workers=2),
    "a stored map": lambda task, items: runwide.map(task, items, workers=2, store="memory://flushed"),
    "imap": lambda task, items: list(runwide.imap(task, items, workers=2)),
    "amap": by_amap,
    "a worker that is replaced": lambda task, items: runwide.map(task, items, workers=1, max_tasks=2),
    "Executor": by_executor,
    "Pool, closed and joined": by_a_closed_pool,
    "joblib": by_joblib,
}


@pytest.mark.parametrize("surface", ENDS)
def test_a_file_that_a_task_leaves_open_is_flushed_when_its_worker_leaves(surface, tmp_path):
    assert ENDS[surface](leave_open(str(tmp_path)), range(4)) == [0, 1, 2, 3]
    assert [(tmp_path / str(x)).read_text() for x in range(4)] == [f"item {x}" for x in range(4)]


def test_a_terminated_pool_flushes_nothing_as_the_standard_one(tmp_path):
    for turn in range(5):  # its thread may look at any moment
        folder = tmp_path / str(turn)
        folder.mkdir()
        with runwide.Pool(1) as pool:
            pool.map(leave_open(str(folder)), range(2))
        assert (folder / "0").read_text() == ""


def test_what_a_task_prints_without_an_end_of_line_comes_out(capfd):
    runwide.map(lambda x: print("half a line", end=""), [0], workers=1)
    assert "half a line" in capfd.readouterr().out


def test_a_thread_that_a_task_leaves_behind_delays_no_call_and_files_are_flushed_all_the_same(tmp_path):
    def task(x):
        import atexit

        threading.Thread(target=time.sleep, args=(3600,)).start()
        atexit.register((tmp_path / "exited").touch)
        return leave_open(str(tmp_path))(x)

    began = time.monotonic()
    runwide.map(task, [0], workers=1)
    assert (tmp_path / "0").read_text() == "item 0"
    runwide.shutdown()
    assert (tmp_path / "exited").exists()
    assert time.monotonic() - began < 60  # and not an hour


def test_a_task_that_never_lets_its_worker_leave_is_killed(tmp_path):
    def task(x):
        import atexit

        atexit.register(time.sleep, 3600)
        return x

    assert runwide.map(task, [0], workers=1) == [0]
    runwide.shutdown()


def test_workers_have_no_logging_context_filters_or_recursion_limit_of_the_program(monkeypatch):
    def told(_):
        root = logging.getLogger()
        return decimal.getcontext().prec, len(root.handlers), root.level, sys.getrecursionlimit(), warned()

    def warned():
        with warnings.catch_warnings(record=True) as seen:
            warnings.warn("mine", UserWarning, stacklevel=1)
        return len(seen)

    limit, root = sys.getrecursionlimit(), logging.getLogger()
    handler = logging.NullHandler()
    monkeypatch.setattr(root, "level", logging.DEBUG)
    root.addHandler(handler)
    try:
        sys.setrecursionlimit(limit + 777)
        with warnings.catch_warnings(), decimal.localcontext() as context:  # which is a ContextVar's
            warnings.simplefilter("ignore")
            context.prec = 50
            found = runwide.map(told, [0], workers=1)
    finally:
        sys.setrecursionlimit(limit)
        root.removeHandler(handler)
    assert found == [(28, 0, logging.WARNING, 1000, 1)]


def test_an_initializer_sets_them():
    def prepare():
        sys.setrecursionlimit(4321)
        logging.getLogger().setLevel(logging.ERROR)

    def told(_):
        return sys.getrecursionlimit(), logging.getLogger().level

    assert runwide.map(told, [0], workers=1, initializer=prepare) == [(4321, logging.ERROR)]


def test_a_timeout_of_a_map_inside_a_worker_is_the_outer_maps_alone():
    def inner(x):
        time.sleep(0.3)
        return x

    def outer(x):
        return list(runwide.map(inner, [x], timeout=0.01))

    assert runwide.map(outer, [1, 2], workers=1, timeout=60) == [[1], [2]]
    failure = runwide.map(
        lambda x: runwide.map(lambda y: time.sleep(60), [x]), [1], workers=1, timeout=0.5, on_error="return"
    )[0]
    assert failure.type == "TaskTimeout"


def test_imap_of_a_pool_with_a_store_gives_its_first_result_when_all_are_stored(tmp_path):
    def task(x):
        (tmp_path / str(x)).touch()
        return x

    with runwide.Pool(1, store=str(tmp_path / "store")) as pool:
        for form in (pool.imap, pool.imap_unordered):
            arriving = form(task, range(5))
            assert next(arriving) == 0
            assert all((tmp_path / str(x)).exists() for x in range(5))
            assert list(arriving) == [1, 2, 3, 4]


class Simulation:
    def __init__(self, generator):
        self.generator = generator

    def step(self, x):
        return x

    __call__ = step


def generators():
    def inner(x):
        return numpys.random()

    mine, numpys, old = random.Random(3), np.random.default_rng(3), np.random.RandomState(3)
    return {
        "a closure over Python's": lambda x: mine.random(),
        "a closure over numpy's": lambda x: numpys.random(),
        "a default": lambda x, generator=old: generator.rand(),
        "a keyword default": eval("lambda x, *, generator: x"),
        "a partial's argument": functools.partial(lambda generator, x: x, numpys),
        "a partial's keyword": functools.partial(lambda x, generator: x, generator=mine),
        "a bound method's object": Simulation(numpys).step,
        "an object": Simulation(mine),
        "a function in a closure": lambda x: inner(x) + 1,
        "a method of Python's": random.gauss,
        "a method of numpy's": np.random.rand,
    }


@pytest.mark.parametrize("where", sorted(generators()))
def test_a_generator_that_a_function_carries_is_warned_of(where):
    function = generators()[where]
    if where == "a keyword default":
        function.__kwdefaults__ = {"generator": random.Random(3)}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        function_pickle(function)
    (warned,) = seen
    assert warned.category is UserWarning
    assert "the same copy" in str(warned.message)
    assert warned.filename == __file__


def test_it_is_warned_of_once_a_call_on_every_surface_and_the_streams_are_the_same(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        """
import asyncio, random, warnings
import runwide
from runwide.pickling.functions import function_pickle

generator = random.Random(3)

def draw(x):
    return generator.random()

class Holds:
    generator = 1

def looks(x):
    return Holds.generator

def count(call):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    return len(seen)

async def awaited():
    return await runwide.amap(draw, [1], workers=1)

if __name__ == "__main__":
    with runwide.Pool(1) as pool, runwide.Executor(1) as executor:
        print([count(call) for call in (
            lambda: runwide.map(draw, [1], workers=1),
            lambda: runwide.map(draw, [1], workers=1, store="memory://w"),
            lambda: list(runwide.imap(draw, [1], workers=1)),
            lambda: asyncio.run(awaited()),
            lambda: pool.map(draw, [1]),
            lambda: pool.starmap(draw, [(1,)]),
            lambda: list(executor.map(draw, [1])),
            lambda: runwide.map(abs, [1], workers=1, initializer=draw, initargs=(1,)),
            lambda: runwide.map(looks, [1], workers=1),
            lambda: runwide.map(lambda x: random.random(), [1], workers=1),
        )])
    first, second = (runwide.map(draw, [1], workers=1, fresh=True) for _ in range(2))
    print(first == second)
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[1, 1, 1, 1, 1, 1, 1, 1, 0, 0]\nTrue\n"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: random.random(),
        lambda x: np.random.default_rng([3, x]).random(),
        random.SystemRandom,
        abs,
        Simulation(1),
    ],
)
def test_nothing_is_said_of_a_function_that_makes_its_own(function):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function_pickle(function)
