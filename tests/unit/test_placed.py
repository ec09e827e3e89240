"""Executors and pools on a place: batches of calls become jobs, and futures get results as they are stored."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import subprocess
import sys
import threading
from itertools import count

import pytest

import runwide
from runwide.errors import InputError, PoolClosed, StepFailed
from runwide.job.arrivals import Stream
from runwide.job.manifest import read_job
from runwide.outcomes import check_on_error

_numbers = count()


class Here:
    """A place that runs shards in this process, each after the results of the one before were taken, and counts its jobs."""

    def __init__(self, *, ends_with=None):
        self.jobs = []
        self.options = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.ends_with = ends_with
        self.running = 0

    def stream(self, function, items, *, ordered, on_error, on_event=None, **options):
        check_on_error(on_error)
        assert (ordered, on_error) == (False, "return")
        job = runwide.scatter(function, items, store=f"memory://placed-{next(_numbers)}", shards=2)
        self.jobs.append(read_job(job))
        self.options.append(options)
        return Results(self, job, on_event)


class Results:
    def __init__(self, place, job, on_event):
        self.cancelled = threading.Event()
        self._values = self._of(place, job, on_event)

    def _of(self, place, job, on_event):
        assert not place.running  # one run at a time
        place.running += 1
        try:
            with Stream(read_job(job)) as stream:
                for index in range(read_job(job).shards):
                    place.begun.set()
                    while not place.gate.wait(0.01):
                        if self.cancelled.is_set():
                            raise PoolClosed("the iteration was stopped")
                    if place.ends_with is not None and index:
                        raise place.ends_with
                    runwide.shard(job, index, workers=1, on_event=on_event)
                    for outcome in stream.look():
                        yield outcome.failure or outcome.value
        finally:
            place.running -= 1

    def __iter__(self):
        return self._values

    def close(self):
        self._values.close()

    def stop(self):
        self.cancelled.set()


def fail(x):
    raise KeyError(x)


def test_calls_within_a_short_time_are_one_job_for_any_functions_and_arguments():
    place, events, factor = Here(), [], 3
    with runwide.Executor(on=place, max_workers=2, retries=1, on_event=events.append) as executor:
        futures = [
            executor.submit(pow, 2, 10),
            executor.submit(int, "ff", base=16),
            executor.submit(lambda x, y=1: x * y * factor, 2, y=5),
            executor.submit(fail, 7),
            executor.submit("text".upper),
        ]
        done = set(concurrent.futures.as_completed(futures, timeout=60))
        assert done == set(futures)
        assert [one.result() for one in (*futures[:3], futures[4])] == [1024, 255, 30, "TEXT"]
        with pytest.raises(KeyError, match="7"):
            futures[3].result()
        assert [job.count for job in place.jobs] == [5]
        assert place.options == [{"workers": 2, "retries": 1}]
        assert executor.submit(abs, -1).result(60) == 1
    assert len(place.jobs) == 2
    assert sorted({event.index for event in events}) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(PoolClosed, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)


def test_calls_that_are_submitted_while_a_job_runs_are_the_next_job_and_can_be_cancelled_until_then():
    place = Here()
    with runwide.Executor(on=place) as executor:
        place.gate.clear()
        first = executor.submit(abs, -1)
        assert place.begun.wait(60)
        later = [executor.submit(abs, -number) for number in range(4)]
        assert not first.cancel()
        assert later[2].cancel()
        place.gate.set()
        assert first.result(60) == 1
        assert [later[number].result(60) for number in (0, 1, 3)] == [0, 1, 3]
    assert [job.count for job in place.jobs] == [1, 3]


def test_a_call_that_cannot_be_sent_fails_alone():
    lock = threading.Lock()
    with runwide.Executor(on=Here()) as executor:
        futures = [executor.submit(*call) for call in ((abs, -1), (abs, lock), (lock.acquire,), (abs, -2))]
        assert [futures[0].result(60), futures[3].result(60)] == [1, 2]
        for future in futures[1:3]:
            with pytest.raises(TypeError, match="cannot pickle"):
                future.result(60)


def test_an_error_that_ends_the_run_is_raised_by_futures_without_a_result():
    place = Here(ends_with=StepFailed("shard 1 failed", step="shard 1"))
    with runwide.Executor(on=place) as executor:
        futures = [executor.submit(abs, -number) for number in range(4)]
        concurrent.futures.wait(futures, 60)
    ended = [future.exception() or future.result() for future in futures]
    have = place.jobs[0].items_of(0)
    assert [ended[number] for number in have] == list(have)
    assert {type(ended[number]) for number in range(4) if number not in have} == {StepFailed}


def test_map_yields_results_in_order_in_time_and_takes_a_bounded_number_ahead():
    place = Here()
    with runwide.Executor(on=place) as executor:
        assert list(executor.map(pow, [2, 3, 4], [3, 2, 1], chunksize=2)) == [8, 9, 4]
        assert len(place.jobs) == 1
        taken = []
        numbers = (taken.append(number) or number for number in range(6))
        results = executor.map(abs, numbers, buffersize=2)
        assert taken == [0, 1]
        assert list(results) == [0, 1, 2, 3, 4, 5]
        with pytest.raises(KeyError):
            list(executor.map(fail, [1]))
        place.gate.clear()
        with pytest.raises(TimeoutError):
            next(executor.map(abs, [1, 2], timeout=0))
        place.gate.set()

    async def squared():
        loop = asyncio.get_running_loop()
        with runwide.Executor(on=Here()) as executor:
            return await asyncio.gather(*(loop.run_in_executor(executor, pow, n, 2) for n in range(3)))

    assert asyncio.run(squared()) == [0, 1, 4]


def test_an_executor_that_is_killed_or_shut_down_leaves_nothing_running():
    place = Here()
    place.gate.clear()
    executor = runwide.Executor(on=place)
    sent = executor.submit(abs, -1)
    assert place.begun.wait(60)
    waiting = executor.submit(abs, -2)
    executor.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    assert isinstance(sent.exception(60), PoolClosed)


def test_a_pool_has_all_methods_of_the_standard_one():
    place, called = Here(), []
    with runwide.Pool(2, on=place) as pool:
        assert pool.map(abs, [-1, -2, -3], 2) == [1, 2, 3]
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert pool.apply(int, ("ff",), {"base": 16}) == 255
        assert list(pool.imap(abs, [-1, -2, -3])) == [1, 2, 3]
        assert sorted(pool.imap_unordered(abs, [-1, -2, -3], chunksize=1)) == [1, 2, 3]
        assert len(place.jobs) == 5
        assert pool.map(abs, []) == []
        result = pool.starmap_async(pow, [(2, 2)], callback=called.append)
        assert result.get(60) == [4]
        assert called == [[4]]
        failing = pool.map_async(fail, [1, 2], error_callback=called.append)
        with pytest.raises(KeyError, match="1"):
            failing.get(60)
        assert isinstance(called[1], KeyError)
        results = pool.imap(lambda x: 1 // x, [1, 0, 1])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == [1]
        place.gate.clear()
        late = pool.imap(abs, [-1])
        with pytest.raises(multiprocessing.TimeoutError):
            late.next(timeout=0)
        place.gate.set()
        assert late.next(timeout=60) == 1
        pool.close()
        pool.join()
        with pytest.raises(ValueError, match="Pool not running"):
            pool.apply_async(abs, (1,))


@pytest.mark.parametrize(
    ("surface", "options", "said"),
    [
        ("Executor", {"name": "calls"}, r"Executor\(on=\) does not accept name="),
        ("Executor", {"max_failures": 1}, r"Executor does not accept max_failures="),
        ("Pool", {"store": "memory://x"}, r"Pool\(on=\) does not accept store="),
        ("Pool", {"name": "calls"}, r"Pool\(on=\) does not accept name="),
    ],
)
def test_an_option_that_cannot_be_honoured_is_rejected_by_name(surface, options, said):
    with pytest.raises(InputError, match=said):
        getattr(runwide, surface)(on=Here(), **options)
    with pytest.raises(InputError, match="expected a place such as Components"):
        getattr(runwide, surface)(on=4)


def test_a_subclass_runs_calls_here_or_on_its_place():
    class Doubled(runwide.Executor):
        def __init__(self, workers, **options):
            super().__init__(workers, **options)

        def submit(self, fn, /, *args, **kwargs):
            return super().submit(lambda: fn(*args, **kwargs) * 2)

    for options in ({}, {"on": Here()}):
        with Doubled(1, **options) as executor:
            assert isinstance(executor, (Doubled, runwide.Executor))
            assert executor.submit(abs, -2).result(60) == 4
    with runwide.Pool(1) as pool:
        assert isinstance(pool, runwide.Pool)


def test_neither_loads_the_pool_if_a_place_is_given():
    program = (
        "import sys, runwide\n"
        "class Place:\n    def stream(self, *args, **options): pass\n"
        "runwide.Executor(on=Place()).shutdown(); runwide.Pool(on=Place()).close()\n"
        "print([name for name in sys.modules if name.startswith('runwide.pool')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class OfOnePlace(runwide.Executor):
    def __init__(self, place):
        super().__init__(2, on=place)


class PoolOfOnePlace(runwide.Pool):
    def __init__(self, place):
        super().__init__(2, on=place)


def test_a_subclass_may_give_its_place_itself():
    place = Here()
    with OfOnePlace(place) as executor:
        assert isinstance(executor, OfOnePlace)
        assert executor.submit(pow, 2, 3).result() == 8
    with PoolOfOnePlace(place) as pool:
        assert isinstance(pool, PoolOfOnePlace)
        assert pool.map(abs, [-1, -2]) == [1, 2]
    assert len(place.jobs) == 2
    assert [options["workers"] for options in place.options] == [2, 2]


@pytest.mark.parametrize("surface", [runwide.Executor, runwide.Pool])
def test_two_names_of_one_option_with_two_values_are_rejected(surface):
    for place in ({}, {"on": Here()}):
        with pytest.raises(InputError, match="two names for workers=, and was given two numbers: 3 and 2"):
            surface(2, workers=3, **place)
