"""An error inside the pool ends it by its own name, with its cause and with all that had finished."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

import runwide
from runwide.errors import PoolBroken, PoolClosed, WorkerDied
from runwide.pool import outcomes

pytestmark = pytest.mark.faults


@pytest.fixture
def fault(monkeypatch):
    """Has every worker that is started from now on fail in the pool's own code: its program's arguments do not pickle."""

    def strike(*_):
        monkeypatch.setattr(sys, "argv", [threading.Lock()])

    return strike


def double(x):
    return 2 * x


# One worker is replaced after three tasks, which is when the fault strikes.
def options(fault, **more):
    return {"workers": 1, "max_tasks": 3, "chunksize": 1, "on_event": fault, **more}


def check(error, results):
    assert isinstance(error, (BrokenProcessPool, RuntimeError))
    assert isinstance(error.__cause__, TypeError)
    assert "cannot pickle '_thread.lock' object" in str(error)
    assert error.results == results
    assert error.failures == ()


@pytest.mark.parametrize("place", [{}, {"store": "memory://broken"}])
def test_a_map_ends_with_what_had_finished(fault, place):
    with pytest.raises(PoolBroken) as raised:
        runwide.map(double, range(8), **options(fault), **place)
    check(raised.value, [0, 2, 4])
    assert raised.value.results.report()


def test_failures_are_among_what_had_finished(fault):
    with pytest.raises(PoolBroken) as raised:
        runwide.map(lambda x: 1 // x, range(8), on_error="return", **options(fault))
    assert raised.value.results[1:] == [1, 0]
    assert [failure.index for failure in raised.value.failures] == [0]


def test_amap_ends_with_what_had_finished(fault):
    with pytest.raises(PoolBroken) as raised:
        asyncio.run(runwide.amap(double, range(8), **options(fault)))
    check(raised.value, [0, 2, 4])


@pytest.mark.parametrize("surface", [runwide.imap, runwide.imap_unordered])
def test_a_stream_yields_what_had_finished_and_then_raises(fault, surface):
    found = []
    with pytest.raises(PoolBroken) as raised:
        found.extend(surface(double, range(8), **options(fault)))
    check(raised.value, [])
    assert found == [0, 2, 4]


def test_a_stream_in_order_has_what_came_early_in_the_error(fault):
    def task(x):
        if x == 1:
            time.sleep(60)
        return x

    def strike(event):
        if event.index == 4:
            fault()

    found = []
    with pytest.raises(PoolBroken) as raised:
        found.extend(runwide.imap(task, range(8), workers=2, max_tasks=4, chunksize=1, on_event=strike))
    assert found == [0]
    assert raised.value.results[:5] == [None, None, 2, 3, 4]  # and what was on its way


def test_a_pools_map_ends_with_what_had_finished_and_later_calls_are_refused(fault):
    with runwide.Pool(1, maxtasksperchild=3) as pool:
        first = pool.map_async(double, range(2))
        assert first.get(30) == [0, 2]
        fault()
        with pytest.raises(PoolBroken) as raised:
            pool.map_async(double, range(8), chunksize=1).get(30)
        check(raised.value, [0])
        for refused in (pool.map, pool.imap, pool.map_async):
            with pytest.raises(PoolBroken, match="lock"):
                refused(double, [1])
        with pytest.raises(PoolBroken, match="lock"):
            pool.apply_async(double, (1,))


def test_every_pending_future_ends_with_it(fault, tmp_path, until, gate):
    began = tmp_path / "began"

    def first():
        began.touch()
        gate()
        return "first"

    with runwide.Executor(1, max_tasks_per_child=1) as executor:
        running = executor.submit(first)
        futures = [executor.submit(double, x) for x in range(3)]
        until(began.exists)
        fault()
        gate.open()
        assert running.result(30) == "first"
        for future in futures:
            assert isinstance(future.exception(30), PoolBroken)
            assert isinstance(future.exception().__cause__, TypeError)
        with pytest.raises(PoolBroken):
            executor.submit(double, 1)


def test_joblib_raises_it(fault):
    from joblib import Parallel, delayed, parallel_config

    runwide.register_joblib()
    fault()
    with parallel_config(backend="runwide", n_jobs=2), pytest.raises(PoolBroken):
        Parallel()(delayed(double)(x) for x in range(4))


def test_it_pickles_with_its_results():
    error = PoolBroken("ended", results=[1, None], hint="make a new one")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.results) == (str(error), [1, None])


def test_a_closed_pool_is_closed_and_not_broken():
    pool = runwide.Pool(1)
    pool.close()
    pool.join()
    with pytest.raises(PoolClosed):
        pool.map(double, [1])


PROGRAM = """
import sys, threading, time
import runwide

def strike(event):
    sys.argv = [threading.Lock()]

try:
    runwide.map(abs, range(8), workers=1, max_tasks=2, chunksize=1, on_event=strike)
except runwide.RunwideError as error:
    print(type(error).__name__, type(error.__cause__).__name__, error.results)
"""


def test_no_traceback_of_a_thread_is_printed_beside_it():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "PoolBroken TypeError [0, 1]\n"
    assert "Traceback" not in done.stderr
    assert "pool.broken" in done.stderr


def test_where_no_process_can_be_started_calls_fail_and_the_pool_goes_on(monkeypatch):
    with runwide.Pool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/no/such/python")
            with pytest.raises(WorkerDied, match="no worker can be started") as raised:
                pool.map(double, range(3))
            assert isinstance(raised.value.__cause__, FileNotFoundError)
        assert pool.map(double, range(3)) == [0, 2, 4]


class Indices:
    """Numbers of items that raise from the third on; the pool reads them on its own thread."""

    def __len__(self):
        return 8

    def __getitem__(self, place):
        if place.stop > 3:
            raise KeyError("no such number")
        return range(8)[place]


@pytest.mark.parametrize("ordered", [False, True])
def test_whatever_is_raised_on_the_pools_thread_is_the_cause(ordered):
    """Such as the numbers of a shard's items, with which no other surface is called."""
    found = []
    arriving = outcomes(double, range(8), ordered=ordered, workers=1, chunksize=1, indices=Indices())
    with pytest.raises(PoolBroken) as raised:
        found.extend(outcome.value for outcome in arriving)
    assert isinstance(raised.value.__cause__, KeyError)
    assert found == [0, 2, 4][: len(found)]
