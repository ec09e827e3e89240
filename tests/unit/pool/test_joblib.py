"""joblib on the pool: its own tasks are named, or none; the batches in which it sends them are nobody's business."""

from __future__ import annotations

import os

import pytest
from joblib import Parallel, delayed, parallel_config

import runwide
from runwide.errors import RemoteTraceback, WorkerDied


@pytest.fixture(autouse=True)
def backend():
    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=2):
        yield


def die_at_nine(x):
    if x == 9:
        os._exit(5)
    return x


def divide(x):
    return 1 // (9 - x)


def test_a_task_that_kills_its_worker_is_named_where_it_has_a_batch_of_its_own():
    with pytest.raises(WorkerDied, match=r"^item 9: the worker exited with status 5") as raised:
        Parallel(batch_size=1)(delayed(die_at_nine)(x) for x in range(12))
    assert raised.value.item == 9


def test_a_task_that_kills_its_worker_is_not_named_by_the_number_of_its_batch():
    with pytest.raises(WorkerDied, match=r"^the worker exited with status 5") as raised:
        Parallel(batch_size=4)(delayed(die_at_nine)(x) for x in range(12))
    assert raised.value.item is None


def test_a_second_call_counts_its_own_tasks():
    with Parallel(batch_size=1) as parallel:
        assert parallel(delayed(abs)(x) for x in range(5)) == list(range(5))
        with pytest.raises(WorkerDied) as raised:
            parallel(delayed(die_at_nine)(x) for x in range(12))
        assert raised.value.item == 9
        assert parallel(delayed(abs)(x) for x in range(5)) == list(range(5))


@pytest.mark.parametrize(("batch", "item"), [(1, 9), (4, None)])
def test_the_traceback_of_a_task_that_raises_has_its_number_or_none(batch, item):
    with pytest.raises(ZeroDivisionError) as raised:
        Parallel(batch_size=batch)(delayed(divide)(x) for x in range(12))
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert raised.value.__cause__.item == item


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_a_generator_names_it_too(kind):
    with pytest.raises(WorkerDied, match=r"^item 9: "):
        list(Parallel(batch_size=1, return_as=kind)(delayed(die_at_nine)(x) for x in range(12)))


def test_what_a_task_prints_does_not_begin_with_the_number_of_its_batch(capfd):
    Parallel(batch_size=2)(delayed(print)("hello") for _ in range(4))
    assert capfd.readouterr().out == "hello\n" * 4


def test_one_worker_is_this_process_and_leaves_no_executor_behind():
    assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
