"""Processes and threads that tasks start through joblib fill the cores in all workers together, and no more."""

from __future__ import annotations

import os
import time

import pytest

import runwide
from runwide.host import cores, threads


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)


def nested(_):
    """Return the number of joblib's processes that run a task's own tasks, and the number that joblib allows."""
    import joblib
    from joblib.externals.loky import get_reusable_executor

    def who(_):
        time.sleep(0.01)
        return os.getpid()

    many = range(4 * (os.cpu_count() or 1))
    pids = joblib.Parallel(n_jobs=-1)(joblib.delayed(who)(one) for one in many)
    if pids[0] != os.getpid():
        get_reusable_executor().shutdown()  # or the worker waits for them at its end
    return len(set(pids)), joblib.effective_n_jobs(-1)


def by_map(workers):
    return runwide.map(nested, range(workers), workers=workers)


def by_imap(workers):
    return list(runwide.imap(nested, range(workers), workers=workers))


def by_pool(workers):
    with runwide.Pool(workers) as pool:
        return pool.map(nested, range(workers))


def by_executor(workers):
    with runwide.Executor(workers) as executor:
        return list(executor.map(nested, range(workers)))


def by_joblib(workers):
    from joblib import Parallel, delayed, parallel_config

    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=workers):
        return Parallel()(delayed(nested)(one) for one in range(workers))


SURFACES = [by_map, by_imap, by_pool, by_executor, by_joblib]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
def test_joblib_in_each_worker_takes_its_share_of_the_cores(surface):
    workers = 2  # joblib's own answer to one is to run it here
    share = threads.per_worker(workers, cores())
    for processes, counted in surface(workers):
        assert counted == share
        assert processes <= share


def test_one_worker_has_all_cores():
    everything = cores().usable
    ((processes, counted),) = by_map(1)
    assert counted == everything
    assert processes <= everything


def test_a_count_for_the_program_is_none_for_each_worker(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "8")
    assert {counted for _, counted in by_map(2)} == {threads.per_worker(2, cores())}
