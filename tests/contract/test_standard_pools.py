"""The standard library's own tests of its pools pass with `runwide.Executor` and `runwide.Pool`.

The tests are those of this interpreter, or of Debian's package of its version, unchanged. Some are excluded below by name,
each with its reason; tests at the end of this file show what runwide does instead.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

import runwide
from runwide.errors import WorkerDied

HERE = Path(__file__).parent
SECONDS = 280  # a class takes less than 30 on an idle machine

spec = importlib.util.spec_from_file_location("standard_library", HERE / "standard_library.py")
standard_library = importlib.util.module_from_spec(spec)
spec.loader.exec_module(standard_library)

STARTS_LATER = (
    "workers are started when there is something to do, by another thread, so none is there at once"
)
NOT_BROKEN = "asks for a pool that is broken as a whole: here the one task fails, with what was wrong with it"
NO_EXIT = (
    "asks for the SystemExit: here it would end the caller's program, so it is an error that names the task"
)

EXCLUDED = {
    "ProcessPoolExecutorTest": {
        "test_killed_child": f"{NOT_BROKEN}, and only after a second try",
        "test_saturation": STARTS_LATER,
        "test_max_tasks_per_child_defaults_to_spawn_context": "looks at a context, and there is none",
        "test_python_finalization_error": "breaks the start of threads, and looks for the second of the standard executor",
    },
    "ProcessPoolShutdownTest": {
        "test_processes_terminate": STARTS_LATER,
        "test_cancel_futures": f"asks that some of the futures that are cancelled at once have begun; {STARTS_LATER}",
    },
    "ExecutorDeadlockTest": {
        "test_error_at_task_unpickle": NOT_BROKEN,
        "test_exit_at_task_unpickle": NOT_BROKEN,
        "test_error_during_result_unpickle_in_result_handler": NOT_BROKEN,
        "test_exit_during_result_unpickle_in_result_handler": NOT_BROKEN,
        "test_exit_during_func_exec_on_worker": NO_EXIT,
        "test_exit_during_result_pickle_on_worker": NO_EXIT,
    },
    "WaitTests": {},
    "AsCompletedTests": {},
    "InitializerMixin": {},
    "FailingInitializerMixin": {
        "test_initializer": "asks for a pool that stays broken: here later calls try the initializer again",
    },
    "_TestPool": {
        "test_imap_handle_iterable_exception": "asks that items of the chunk with the error are dropped: here they are done",
        "test_resource_warning": "sets the pool's state, and asks for the words of the warning",
    },
    "_TestPoolWorkerErrors": {
        "test_unpickleable_result": "its result is a lambda, which here can be returned",
    },
    "_TestPoolWorkerLifetime": {
        "test_pool_worker_lifetime": f"looks at the workers of a new pool; {STARTS_LATER}",
    },
}

# Tests of only some versions of Python.
NOT_EVERYWHERE = {
    "test_max_tasks_per_child_defaults_to_spawn_context",
    "test_python_finalization_error",
}
ELSEWHERE = {"Windows-only process limit"}


@pytest.mark.parametrize("name", [name for name in EXCLUDED if name != "FailingInitializerMixin"])
def test_the_standard_librarys_own_tests_pass(name):
    excluded = EXCLUDED[name]
    answer = run(name, excluded)
    assert answer["failed"] == {}, "\n".join(answer["failed"].values())
    assert answer["passed"]
    assert set(answer["skipped"].values()) <= ELSEWHERE
    assert set(answer["unknown"]) <= NOT_EVERYWHERE, "the list of excluded tests has names that do not exist"
    assert answer["threads"] == ["MainThread"], "threads of a pool have outlived it"


def test_a_failing_test_is_reported():
    (failed,) = run("FailingInitializerMixin", {})["failed"].values()
    assert "executor not broken" in failed or "has no attribute '_broken'" in failed


def run(name, excluded):
    """Return the outcome of each test of a class of the standard library."""
    module = standard_library.POOL if name.startswith("_") else standard_library.EXECUTOR
    try:
        folder = standard_library.folder(module)
    except standard_library.Unavailable as error:
        if os.environ.get("RUNWIDE_REQUIRE_DOCKER") == "1" and error.fetchable:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    path = os.pathsep.join(str(part) for part in (folder, os.environ.get("PYTHONPATH")) if part)
    ended = subprocess.run(
        [sys.executable, str(HERE / "standard_run.py"), name, json.dumps(list(excluded))],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


# Behaviour that the excluded tests contradict


def test_a_worker_that_is_killed_breaks_no_other_future():
    with runwide.Executor(max_workers=2) as executor:
        futures = [executor.submit(lambda x: time.sleep(1) or x, x) for x in range(4)]
        pid = executor.submit(os.getpid).result(timeout=60)
        os.kill(pid, signal.SIGTERM)
        assert [future.result(timeout=60) for future in futures] == [0, 1, 2, 3]
        assert executor.submit(pow, 2, 8).result(timeout=60) == 256


def test_an_initializer_that_failed_once_is_tried_again(tmp_path):
    def prepare():
        if not (tmp_path / "tried").exists():
            (tmp_path / "tried").touch()
            raise LookupError("no licence")

    with runwide.Executor(max_workers=1, initializer=prepare) as executor:
        assert isinstance(executor.submit(abs, -1).exception(timeout=60), BrokenExecutor)
        assert executor.submit(abs, -1).result(timeout=60) == 1


def test_a_task_that_exits_is_reported_and_does_not_end_the_callers_program():
    with runwide.Executor(max_workers=1) as executor:
        error = executor.submit(sys.exit, 1).exception(timeout=60)
    assert isinstance(error, WorkerDied)
    assert "sys.exit(1)" in str(error)


def test_imap_gives_all_that_came_before_its_input_failed():
    def items():
        yield from range(7)
        raise LookupError("no more")

    with runwide.Pool(2) as pool:
        for method in (pool.imap, pool.imap_unordered):
            arriving, seen = method(abs, items(), chunksize=4), []
            with pytest.raises(LookupError, match="no more"):
                seen.extend(arriving)
            assert sorted(seen) == list(range(7))
            assert pool.map(abs, [-1]) == [1]
    seen = []
    with pytest.raises(LookupError, match="no more"):
        seen.extend(runwide.imap(abs, items()))
    assert seen == list(range(7))


def test_an_executor_takes_its_input_at_once_so_its_error_is_raised_at_once():
    def items():
        yield 1
        raise LookupError("no more")

    with runwide.Executor(max_workers=1) as executor:
        with pytest.raises(LookupError, match="no more"):
            executor.map(abs, items())
        assert executor.submit(abs, -1).result(timeout=60) == 1


def test_a_lambda_can_be_a_result():
    with runwide.Pool(1) as pool:
        assert pool.apply(lambda: lambda: 42)() == 42


def test_the_workers_of_a_pool_are_replaced_and_all_results_are_right():
    with runwide.Pool(3, maxtasksperchild=10) as pool:
        results = pool.map(lambda x: (x * x, os.getpid()), range(100), chunksize=1)
    assert [value for value, _ in results] == [x * x for x in range(100)]
    pids = [pid for _, pid in results]
    assert max(pids.count(pid) for pid in set(pids)) <= 10


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunksize_below_one_is_refused_everywhere_and_breaks_no_pool(size):
    with runwide.Executor(max_workers=1) as executor, runwide.Pool(1) as pool:
        for surface in (executor.map, pool.map, pool.imap, pool.imap_unordered, runwide.map, runwide.imap):
            with pytest.raises(ValueError, match=r"(?i)chunksize"):
                list(surface(abs, [-1, -2], chunksize=size))
        assert list(executor.map(abs, [-1])) == pool.map(abs, [-1]) == [1]


def test_a_pool_that_was_left_can_be_joined_and_not_entered_again():
    with runwide.Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1]
    pool.join()
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_results_that_were_consumed_and_dropped_are_freed():
    class Large:
        alive = 0

        def __init__(self, _):
            Large.alive += 1

        def __setstate__(self, state):
            Large.alive += 1

        def __getstate__(self):
            return {"made": True}

        def __del__(self):
            Large.alive -= 1

    with runwide.Executor(max_workers=1) as executor:
        for found in executor.map(Large, range(5), chunksize=1, buffersize=1):
            assert found is not None
            del found
            assert Large.alive <= 1


PROGRAM = """
import atexit, sys, time
import runwide

def task(seconds):
    time.sleep(seconds)
    return "done"

def late():
    try:
        executor.submit(task, 0)
    except RuntimeError:
        print("refused")

def finished(future):
    print(future.result())
    sys.stdout.flush()

executor = runwide.Executor(max_workers=1)
executor.submit(task, 0.3).add_done_callback(finished)
{then}
"""


@pytest.mark.parametrize(
    "then", ["", "executor.submit(task, 0).result()", "executor.shutdown(wait=False)", "del executor"]
)
def test_a_program_that_ends_with_an_executor_open_ends_when_the_work_is_done(then):
    ended = program(PROGRAM.format(then=then))
    assert ended.stdout.split() == ["done"]
    assert ended.returncode == 0


def test_nothing_is_submitted_after_the_executor_ended_with_its_program():
    # Functions registered first are called last, so this comes before the import of runwide.
    ended = program("import atexit\natexit.register(lambda: late())\n" + PROGRAM.format(then=""))
    assert ended.stdout.split() == ["done", "refused"]


def program(text):
    """Run a separate program to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=60, check=False
    )


def test_tasks_of_an_executor_are_done_after_its_last_reference_is_gone():
    executor = runwide.Executor(max_workers=1, fresh=True)
    thread = executor._lease.scheduler.thread
    results, future = executor.map(abs, [-1, -2]), executor.submit(pow, 2, 3)
    with pytest.warns(ResourceWarning, match="not closed"):
        del executor
    thread.join(60)
    assert not thread.is_alive()
    assert thread not in threading.enumerate()
    assert list(results) == [1, 2]
    assert future.result(timeout=0) == 8
