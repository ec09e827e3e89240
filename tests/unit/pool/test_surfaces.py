"""The other ways in: asyncio, joblib, use inside a worker, progress."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

import runwide


def test_amap_leaves_the_event_loop_free():
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        results = await runwide.amap(lambda x: time.sleep(0.1) or x, range(6), workers=2)
        ticking.cancel()
        return results, ticks

    results, ticks = asyncio.run(main())
    assert results == list(range(6))
    assert ticks > 5


def test_cancelling_amap_stops_the_workers():
    async def main():
        task = asyncio.create_task(runwide.amap(time.sleep, [3600, 3600], workers=2))
        await asyncio.sleep(1)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_amap_raises_the_tasks_own_exception():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(runwide.amap(lambda x: 1 / x, [0], workers=1))


def test_joblib_runs_on_it(meeting):
    from joblib import Parallel, delayed, parallel_config

    runwide.register_joblib()
    task = delayed(meeting(2))
    with parallel_config(backend="runwide", n_jobs=2):
        pids = Parallel()(task() for _ in range(8))
    assert len(set(pids)) == 2
    assert os.getpid() not in pids


def test_joblib_raises_the_tasks_own_exception_and_is_usable_afterwards():
    from joblib import Parallel, delayed, parallel_config

    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=2):
        with pytest.raises(ZeroDivisionError):
            Parallel()(delayed(divmod)(1, x) for x in [1, 0, 1])
        assert Parallel()(delayed(abs)(x) for x in [-1]) == [1]


def test_scikit_learn_searches_a_grid_on_it():
    import numpy as np
    from joblib import parallel_config
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    y = x @ np.arange(5) + rng.normal(size=200)
    grid = {"alpha": [0.01, 0.1, 1.0, 10.0]}
    alone = GridSearchCV(Ridge(), grid).fit(x, y)
    runwide.register_joblib()
    with parallel_config(backend="runwide"):
        wide = GridSearchCV(Ridge(), grid, n_jobs=-1).fit(x, y)
    assert wide.best_params_ == alone.best_params_
    np.testing.assert_allclose(wide.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_every_surface_runs_in_place_inside_a_worker():
    def nested(_):
        import concurrent.futures as cf
        import threading

        with runwide.Pool(4) as pool:
            pids = set(pool.map(lambda _: os.getpid(), range(4)))
            pids |= set(pool.imap(lambda _: os.getpid(), range(4)))
            pids.add(pool.apply(os.getpid))
        with runwide.Executor(4) as executor:
            futures = [executor.submit(os.getpid) for _ in range(4)]
            pids |= {future.result() for future in cf.as_completed(futures)}
            pids |= set(executor.map(lambda _: os.getpid(), range(4)))
            # from several threads at once
            seen = []
            threads = [
                threading.Thread(target=lambda: seen.append(executor.submit(abs, -1).result()))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        failed = runwide.map(lambda x: 1 / x, [1, 0], on_error="return")[1]
        return pids == {os.getpid()}, seen, failed.type

    assert runwide.map(nested, [0, 1], workers=2) == [(True, [1] * 8, "ZeroDivisionError")] * 2


def test_retries_hold_in_place_too():
    def nested(_):
        tries = []

        def flaky(x):
            tries.append(x)
            if len(tries) < 3:
                raise OSError
            return len(tries)

        # in place, items and results are passed as they are, but the function is a copy as in a worker
        return runwide.map(flaky, [1], retries=2)

    assert runwide.map(nested, [0], workers=1) == [[3]]


def test_inside_a_worker_of_another_pool_it_runs_in_place():
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:  # its workers may not have children
        assert pool.apply(runwide.map, (abs, [-1, -2])) == [1, 2]
