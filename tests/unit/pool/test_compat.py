"""`runwide.Pool` has the methods and meanings of `multiprocessing.Pool`."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import pytest

import runwide


@pytest.fixture
def pool():
    with runwide.Pool(processes=2) as made:
        yield made


def test_apply_takes_arguments_and_keywords(pool):
    assert pool.apply(int, ("ff",), {"base": 16}) == 255


def test_map_and_starmap_keep_order(pool):
    assert pool.map(abs, [-3, -2, -1]) == [3, 2, 1]
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert pool.map(abs, (-x for x in range(5)), chunksize=2) == [0, 1, 2, 3, 4]


def test_map_over_nothing_is_an_empty_list(pool):
    assert pool.map(abs, []) == []


def test_imap_and_imap_unordered_stream(pool):
    assert list(pool.imap(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
    assert sorted(pool.imap_unordered(abs, range(-5, 0))) == [1, 2, 3, 4, 5]


def test_threads_may_share_an_imap(pool):
    arriving, seen = pool.imap(abs, iter(range(1000))), []
    threads = [threading.Thread(target=lambda: seen.extend(arriving)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(seen) == list(range(1000))


def test_leaving_an_imap_stops_what_it_runs(pool, tmp_path, until):
    def task(x):
        (tmp_path / str(x)).touch()
        time.sleep(3600 if x else 0)

    arriving = pool.imap(task, [0, 1], chunksize=1)
    assert next(arriving) is None
    until((tmp_path / "1").exists)
    arriving.close()
    with pytest.raises(StopIteration):
        next(arriving)
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_async_results_are_ready_successful_and_gettable(pool):
    result = pool.map_async(abs, [-1])
    assert result.get(timeout=30) == [1]
    assert result.ready()
    assert result.successful()
    failed = pool.apply_async(divmod, (1, 0))
    failed.wait(30)
    assert not failed.successful()
    with pytest.raises(ZeroDivisionError):
        failed.get()


def test_a_result_that_is_not_there_times_out(pool, gate):
    result = pool.apply_async(gate)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.05)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    gate.open()
    result.wait()


def test_callbacks_get_the_value_or_the_error(pool):
    values, errors = [], []
    pool.apply_async(abs, (-1,), callback=values.append).wait(30)
    pool.starmap_async(divmod, [(1, 0)], callback=values.append, error_callback=errors.append).wait(30)
    assert values == [1]
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_close_and_join_finish_the_work():
    pool = runwide.Pool(1)
    results = [pool.apply_async(time.sleep, (0.05,)) for _ in range(3)]
    with pytest.raises(ValueError, match=r"^Pool is still running$"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match=r"^Pool not running$"):
        pool.map(abs, [1])
    pool.join()
    assert all(result.ready() for result in results)


def test_an_unconsumed_imap_is_finished_by_close_and_join(tmp_path):
    pool = runwide.Pool(2)
    pool.imap(lambda x: (tmp_path / str(x)).touch(), range(50))
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 50


def test_terminate_stops_at_once_and_tells_those_who_wait():
    pool = runwide.Pool(1)
    result = pool.apply_async(time.sleep, (60,))
    started = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - started < 30
    with pytest.raises(runwide.RunwideError, match="closed"):
        result.get(timeout=0)


def test_initializer_and_maxtasksperchild():
    def prepare(value):
        os.environ["PREPARED"] = value

    with runwide.Pool(1, prepare, ("yes",), maxtasksperchild=2) as pool:
        seen = pool.map(lambda _: (os.environ["PREPARED"], os.getpid()), range(4), chunksize=1)
    assert {value for value, _ in seen} == {"yes"}
    assert len({pid for _, pid in seen}) == 2
