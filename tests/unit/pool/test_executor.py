"""`runwide.Executor` is a `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures as cf
import operator
import os
import threading
import time

import pytest

import runwide
from runwide.errors import ItemNotPicklable, PoolClosed


@pytest.fixture
def executor():
    with runwide.Executor(max_workers=2) as made:
        yield made


def test_submit_returns_a_future_of_the_result(executor):
    future = executor.submit(pow, 2, exp=10)
    assert isinstance(future, cf.Future)
    assert future.result(timeout=30) == 1024


def test_an_exception_of_the_call_is_the_futures(executor):
    error = executor.submit(operator.truediv, 1, 0).exception(timeout=30)
    assert isinstance(error, ZeroDivisionError)
    assert "ZeroDivisionError" in str(error.__cause__)


def test_map_zips_and_keeps_order(executor):
    assert list(executor.map(pow, [2, 3, 4], [3, 2, 1])) == [8, 9, 4]


def test_map_computes_without_being_consumed(tmp_path):
    with runwide.Executor(max_workers=2) as executor:
        executor.map(lambda x: (tmp_path / str(x)).touch(), range(20))
    assert len(list(tmp_path.iterdir())) == 20


def test_map_with_a_buffer_takes_no_more_than_that_ahead(executor):
    taken = []
    results = executor.map(lambda x: x, (taken.append(x) or x for x in range(100)), buffersize=5)
    assert next(results) == 0
    assert len(taken) <= 6
    assert list(results) == list(range(1, 100))


def test_map_times_out(executor):
    with pytest.raises(TimeoutError):
        list(executor.map(time.sleep, [0, 5], timeout=0.5))


def test_as_completed_and_wait_take_its_futures(executor):
    futures = [executor.submit(lambda x: x, x) for x in range(5)]
    assert sorted(future.result() for future in cf.as_completed(futures, timeout=30)) == [0, 1, 2, 3, 4]
    done, pending = cf.wait(futures, timeout=30)
    assert len(done) == 5
    assert not pending


def test_callbacks_are_called(executor):
    seen = []
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda done: seen.append(done.result()))
    future.result(timeout=30)
    executor.submit(abs, -2).result(timeout=30)
    assert seen == [1]


def test_what_has_not_started_can_be_cancelled(executor, gate):
    blockers = [executor.submit(gate) for _ in range(2)]
    later = [executor.submit(abs, -1) for _ in range(10)]
    assert later[-1].cancel()
    gate.open()
    assert cf.wait(blockers + later, timeout=30).not_done == set()
    assert later[-1].cancelled()
    assert later[0].result() == 1


def test_shutdown_finishes_what_was_submitted():
    executor = runwide.Executor(max_workers=1)
    futures = [executor.submit(lambda x: time.sleep(0.05) or x, x) for x in range(5)]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == [0, 1, 2, 3, 4]


def test_shutdown_can_cancel_what_has_not_started(gate):
    executor = runwide.Executor(max_workers=1)
    futures = [executor.submit(gate) for _ in range(20)]
    futures[-1].add_done_callback(lambda _: gate.open())
    executor.shutdown(cancel_futures=True)
    assert sum(future.cancelled() for future in futures) >= 10
    assert all(future.done() for future in futures)


def test_a_closed_executor_takes_nothing(executor):
    executor.shutdown()
    with pytest.raises(PoolClosed):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError):  # what the standard library raises
        executor.submit(abs, 1)


def test_the_initializer_runs_once_in_each_worker():
    def prepare(value):
        os.environ["PREPARED"] = value

    with runwide.Executor(max_workers=2, initializer=prepare, initargs=("yes",)) as executor:
        assert set(executor.map(lambda _: os.environ["PREPARED"], range(6))) == {"yes"}


def test_a_failing_initializer_fails_the_futures_with_its_reason():
    def prepare():
        raise LookupError("no licence")

    with runwide.Executor(max_workers=1, initializer=prepare) as executor:
        error = executor.submit(abs, 1).exception(timeout=60)
    assert isinstance(error, cf.process.BrokenProcessPool)
    assert "no licence" in str(error)


def test_workers_are_replaced_after_so_many_tasks():
    with runwide.Executor(max_workers=1, max_tasks_per_child=2) as executor:
        pids = list(executor.map(lambda _: os.getpid(), range(6)))
    assert len(set(pids)) == 3


def test_an_item_that_cannot_be_pickled_fails_its_future_only(executor):
    bad, good = executor.submit(repr, threading.Lock()), executor.submit(repr, 1)
    assert isinstance(bad.exception(timeout=30), TypeError)
    assert isinstance(bad.exception().__cause__, ItemNotPicklable)
    assert good.result(timeout=30) == "1"


def test_an_executor_that_is_not_closed_warns_and_leaves_nothing():
    executor = runwide.Executor(max_workers=1)
    lease = executor._lease
    executor.submit(abs, 1).result(timeout=30)
    with pytest.warns(ResourceWarning, match="not closed"):
        del executor
    assert lease.ended.wait(30)


def test_two_calls_that_need_each_other_run_at_once_however_quick_those_before_were(executor, tmp_path):
    def meet(own, other):
        (tmp_path / own).touch()
        deadline = time.monotonic() + 60
        while not (tmp_path / other).exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        return (tmp_path / other).exists()

    for future in [executor.submit(abs, -1) for _ in range(200)]:
        future.result(timeout=60)
    futures = [executor.submit(meet, "a", "b"), executor.submit(meet, "b", "a")]
    assert [future.result(timeout=90) for future in futures] == [True, True]
