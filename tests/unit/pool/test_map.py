"""`runwide.map` and its streams: order, laziness, errors."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

import numpy as np
import pytest

import runwide
from runwide import records
from runwide.errors import (
    FunctionNotPicklable,
    InputError,
    ItemNotPicklable,
    NoItems,
    RemoteTraceback,
    TasksFailed,
)
from runwide.outcomes import raise_or_return
from runwide.pickling.functions import function_pickle
from runwide.pool import outcomes
from runwide.records import Failure, FailureKind, Outcome


def test_results_keep_the_order_of_the_items():
    assert runwide.map(lambda x: time.sleep((x % 3) / 100) or x, range(20), workers=2) == list(range(20))


def test_closures_lambdas_and_nested_functions_run():
    factor = 3

    def nested(x):
        def deeper(y):
            return y * factor

        return deeper(x)

    assert runwide.map(nested, [1, 2, 3], workers=2) == [3, 6, 9]


def test_classes_of_the_caller_come_back_as_themselves():
    class Point:
        def __init__(self, x):
            self.x = x

    (point,) = runwide.map(Point, [5], workers=1)
    assert isinstance(point, Point)
    assert point.x == 5


def test_many_small_tasks_run_in_few_messages_and_all_come_back():
    assert runwide.map(lambda x: -x, range(50_000), workers=2) == [-x for x in range(50_000)]


def test_large_arrays_cross_both_ways():
    arrays = [np.full(500_000, i, dtype="float64") for i in range(4)]
    results = runwide.map(lambda a: a + 1, arrays, workers=2)
    for i, result in enumerate(results):
        assert result[0] == i + 1
        result[0] = 0  # writable


def test_tasks_run_on_as_many_processes_as_workers(meeting):
    pids = runwide.map(meeting(2), range(12), workers=2)
    assert len(set(pids)) == 2
    assert os.getpid() not in pids


def test_an_exception_keeps_its_type_its_traceback_and_its_item():
    def fails(x):
        return {0: 0}[x]

    with pytest.raises(KeyError) as caught:
        runwide.map(fails, [0, 7, 0, 8], workers=2)
    assert caught.value.args == (7,)
    summary = caught.value.__cause__
    assert isinstance(summary, TasksFailed)
    assert [failure.index for failure in summary.failures] == [1, 3]
    assert "item 1: KeyError: 7" in str(summary)
    assert "item 3: KeyError: 8" in str(summary)
    assert summary.results[0] == summary.results[2] == 0
    remote = summary.__cause__
    assert isinstance(remote, RemoteTraceback)
    assert remote.item == 1
    assert "in fails" in remote.traceback
    assert "return {0: 0}[x]" in remote.traceback
    assert "worker.py" not in remote.traceback


def test_failures_can_be_returned_in_place():
    results = runwide.map(lambda x: 1 // x, [1, 0, 1], on_error="return", workers=2)
    assert results[0] == results[2] == 1
    failure = results[1]
    assert isinstance(failure, Failure)
    assert (failure.index, failure.kind, failure.type) == (1, FailureKind.EXCEPTION, "ZeroDivisionError")
    assert isinstance(failure.exception, ZeroDivisionError)


def test_an_exception_is_retried_as_often_as_asked(tmp_path):
    def flaky(x):
        path = tmp_path / str(x)
        tries = len(path.read_text()) if path.exists() else 0
        path.write_text("." * (tries + 1))
        if tries < 2:
            raise OSError(x)
        return tries

    assert runwide.map(flaky, [0, 1], workers=2, retries=2) == [2, 2]
    with pytest.raises(OSError, match="5"):
        runwide.map(flaky, [5], workers=1, retries=1)


def test_nothing_to_map_over_is_a_named_error():
    with pytest.raises(NoItems, match="no items"):
        runwide.map(abs, [])


def test_a_function_that_cannot_be_pickled_is_named_with_the_reason():
    lock = threading.Lock()
    with pytest.raises(FunctionNotPicklable, match="inside the function"):
        runwide.map(lambda _: lock.locked(), [1])


def test_an_item_that_cannot_be_pickled_fails_alone():
    results = runwide.map(repr, [1, threading.Lock(), 3], on_error="return", workers=2)
    assert results[0] == "1"
    assert results[2] == "3"
    assert isinstance(results[1].exception, ItemNotPicklable)
    assert results[1].exception.item == 1


def test_on_error_takes_two_words_only():
    with pytest.raises(InputError, match="ignore"):
        runwide.map(abs, [1], on_error="ignore")


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="colour"):
        runwide.map(abs, [1], colour="red")


def test_on_receives_the_call():
    class Elsewhere:
        def map(self, function, items, **options):
            return [function, list(items), options]

    function, items, options = runwide.map(abs, [1], on=Elsewhere(), workers=3, components=4)
    assert (function, items) == (abs, [1])
    assert options == {"workers": 3, "on_error": "raise", "components": 4}


def test_on_names_a_place():
    with pytest.raises(InputError, match="invalid on=3: expected a place such as Components"):
        runwide.map(abs, [1], on=3)


def test_imap_yields_before_the_input_ends():
    def endless():
        x = 0
        while True:
            yield x
            x += 1

    stream = runwide.imap(lambda x: x * 2, endless(), workers=2)
    assert [next(stream) for _ in range(100)] == [x * 2 for x in range(100)]
    stream.close()


def test_a_lazy_input_is_taken_a_bounded_number_ahead():
    taken = 0

    def counting():
        nonlocal taken
        for x in range(10_000):
            taken += 1
            yield x

    stream = runwide.imap(lambda x: time.sleep(0.2) or x, counting(), workers=2)
    next(stream)
    assert taken < 50
    stream.close()


def test_imap_unordered_yields_the_first_finished_result_first():
    stream = runwide.imap_unordered(lambda x: time.sleep(x) or x, [1.0, 0.0, 0.01], workers=2)
    assert next(stream) in (0.0, 0.01)
    assert max(stream) == 1.0


def test_an_exception_of_the_users_generator_reaches_the_caller():
    def broken():
        yield 1
        raise LookupError("input")

    with pytest.raises(LookupError, match="input"):
        runwide.map(abs, broken(), workers=1)


def test_a_map_inside_a_task_runs_in_place():
    def outer(x):
        return runwide.map(lambda y: (x * y, os.getpid()), [1, 2]), os.getpid()

    for inner, pid in runwide.map(outer, [1, 2], workers=2):
        assert {inner_pid for _, inner_pid in inner} == {pid}


def test_events_tell_of_each_task():
    events = []
    done = list(outcomes(abs, [-1, -2, -3], workers=2, on_event=events.append))
    assert sorted(outcome.value for outcome in done) == [1, 2, 3]
    assert sorted(event.index for event in events if event.name == "task.ended") == [0, 1, 2]
    assert all(event.seconds >= 0 and event.pid != os.getpid() for event in events)


def test_outcomes_are_put_in_order():
    assert raise_or_return([Outcome(1, "b"), Outcome(0, "a")], "raise") == ["a", "b"]


def test_function_pickles_travel_to_another_program():
    import pickle

    base = 40
    assert pickle.loads(function_pickle(lambda x: x + base).data)(2) == 42


@pytest.mark.parametrize("option", [{"timeout": -1}, {"timeout": 0}, {"retries": -1}, {"max_crashes": 0}])
def test_an_invalid_budget_is_rejected(option):
    with pytest.raises(InputError, match=next(iter(option))):
        runwide.map(abs, [1], **option)


def test_each_worker_has_its_own_device(monkeypatch, meeting):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    met = meeting(2)
    seen = runwide.map(lambda _: (met(), os.environ["CUDA_VISIBLE_DEVICES"]), range(6), workers="per-gpu")
    assert {device for _, device in seen} == {"3", "5"}
    assert len(set(seen)) == 2


def test_a_worker_per_device_needs_devices(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="no NVIDIA device"):
        runwide.map(abs, [1], workers="per-gpu")
    with pytest.raises(InputError, match="per-cpu"):
        runwide.map(abs, [1], workers="per-cpu")


def test_workers_share_the_cores_among_their_threads():
    cores = runwide.cores().usable
    (threads,) = set(runwide.map(lambda _: os.environ["OMP_NUM_THREADS"], range(4), workers=1))
    assert int(threads) == cores


def test_tasks_that_turn_slow_after_many_quick_ones_hold_no_result_back(tmp_path):
    def task(x):
        if x < 5_000:
            return x
        (tmp_path / str(x)).touch()
        time.sleep(0.2)
        return x

    arriving = runwide.imap_unordered(task, range(5_600), workers=1, chunksize=5_600)
    assert next(x for x in arriving if x >= 5_000) == 5_000
    assert len(list(tmp_path.iterdir())) < 10  # they were taken up by hundreds
    arriving.close()


@pytest.mark.parametrize("how", ["map", "pool", "executor"])
def test_one_slow_item_does_not_have_an_endless_input_taken_without_bound(tmp_path, how):
    def items():
        for x in range(1_000_000):
            taken.append(x)
            yield x

    def first_is_slow(x):
        while x == 0 and not (tmp_path / "go on").exists():
            time.sleep(0.01)
        return x

    taken = []
    with runwide.Pool(2) as pool, runwide.Executor(2) as executor:
        arriving = {
            "map": lambda: runwide.imap(first_is_slow, items(), workers=2, chunksize=1),
            "pool": lambda: pool.imap(first_is_slow, items(), chunksize=1),
            "executor": lambda: executor.map(first_is_slow, items(), chunksize=1, buffersize=10),
        }[how]()
        timer = threading.Timer(1, (tmp_path / "go on").touch)
        timer.start()
        assert next(arriving) == 0
        assert len(taken) < 1_000
        assert next(arriving) == 1
        arriving.close()
        timer.join()


def test_the_record_of_a_failure_is_found_beside_the_others_too():
    assert records.Failure is Failure
    with pytest.raises(AttributeError, match=r"'runwide\.records' has no attribute 'Success'"):
        records.Success  # noqa: B018 - this is the tested expression


@pytest.mark.parametrize("how", ["map", "Pool.map", "Pool.map_async", "a stream that is left"])
def test_dropped_results_are_freed_without_the_garbage_collector(how):
    """Large results take room in shared memory, which others may be waiting for."""

    def run(pool):
        if how == "map":
            return runwide.map(np.zeros, [100_000] * 4, workers=2)
        if how == "a stream that is left":
            stream = pool.imap(np.zeros, iter([100_000] * 100))
            found = [next(stream)]
            stream.close()
            return found
        found = pool.map_async(np.zeros, [100_000] * 4)
        return found.get() if how == "Pool.map_async" else pool.map(np.zeros, [100_000] * 4)

    gc.collect()
    gc.disable()
    try:
        with runwide.Pool(2) as pool:
            results = run(pool)
            dropped = weakref.ref(results[0])
            del results
            deadline = time.monotonic() + 60  # the pool's thread may be on its way out of the call
            while dropped() is not None and time.monotonic() < deadline:
                time.sleep(0.005)
            assert dropped() is None
    finally:
        gc.enable()
