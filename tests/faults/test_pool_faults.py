"""Each fault is pinned to its task with its cause; neighbours go on, and so does the pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from processes import is_alive

import runwide
from runwide.errors import PoolClosed, TooManyFailures, WorkerDied
from runwide.options.record import RunOptions
from runwide.pool import outcomes
from runwide.pool import workers as crew
from runwide.pool.base import Base, dump_function, in_order, stream_outcomes
from runwide.pool.policy import Budget
from runwide.pool.scratch import Scratch
from runwide.pool.workers import Timing
from runwide.records import FailureKind
from runwide.testing import faults

pytestmark = pytest.mark.faults

TABLE = faults.table()


@pytest.mark.parametrize("name", TABLE)
def test_the_guilty_is_named_and_the_innocent_finish(name):
    fault = TABLE[name]
    with runwide.Executor(max_workers=2, timeout=fault.timeout) as executor:
        futures = [executor.submit(fault.task, item) for item in fault.items()]
        for index, future in enumerate(futures):
            if index != faults.GUILTY:
                assert future.result(timeout=60) == index
        error = futures[faults.GUILTY].exception(timeout=60)
        if (
            name == "result that fails to pickle"
        ):  # what pickling raised is raised, as by the standard executor
            error = error.__cause__
        assert type(error) is fault.error
        assert error.item == faults.GUILTY
        assert fault.message in str(error)
        assert executor.submit(abs, -1).result(timeout=60) == 1


@pytest.mark.parametrize("name", ["os._exit", "endless loop", "result that fails to load"])
def test_a_map_brings_every_innocent_result_in_order(name):
    fault = TABLE[name]
    results = runwide.map(fault.task, fault.items(), workers=2, timeout=fault.timeout, on_error="return")
    guilty = results.pop(faults.GUILTY)
    assert guilty.index == faults.GUILTY
    assert results == [index for index in range(12) if index != faults.GUILTY]


def test_a_death_in_a_long_chunk_loses_no_other_task_of_it():
    def task(x):
        if x == 70_000:
            os._exit(1)
        return x

    results = runwide.map(task, range(100_000), workers=2, on_error="return")
    assert [x for x, result in enumerate(results) if result != x] == [70_000]
    assert results[70_000].kind is FailureKind.CRASH
    assert results[70_000].attempts == 2


def test_a_death_that_does_not_recur_is_forgiven(tmp_path):
    def once(x):
        marker = tmp_path / str(x)
        if x % 10 == 3 and not marker.exists():
            marker.touch()
            os._exit(1)
        return x

    assert runwide.map(once, range(40), workers=2) == list(range(40))


def test_a_worker_died_tells_exit_code_attempts_and_last_words():
    def task(_):
        sys.stderr.write("the last straw\n")
        time.sleep(1)  # long enough for its memory to be seen
        os.kill(os.getpid(), signal.SIGABRT)

    (failure,) = runwide.map(task, [0], workers=1, on_error="return")
    error = failure.exception
    assert isinstance(error, WorkerDied)
    assert (error.exitcode, error.attempts, error.item) == (-signal.SIGABRT, 2, 0)
    assert "the last straw" in error.stderr
    assert error.peak_rss > 1_000_000


def test_exceptions_and_crashes_have_separate_budgets(tmp_path):
    def task(_):
        tries = len(list(tmp_path.iterdir()))
        (tmp_path / str(tries)).touch()
        if tries == 0:
            os._exit(1)
        if tries == 1:
            raise OSError("busy")
        return tries

    assert runwide.map(task, [0], workers=1, retries=1) == [2]


def test_max_failures_stops_a_hopeless_map():
    with pytest.raises(TooManyFailures) as caught:
        runwide.map(lambda x: 1 / (x // 1000), range(10_000), workers=2, max_failures=3, chunksize=1)
    assert len(caught.value.failures) == 4
    assert len(caught.value.results) < 10_000


def test_a_task_that_forks_does_not_bring_its_child_into_the_pool(tmp_path):
    def task(x):
        if os.fork() == 0:
            return "from the child"  # comes back into the worker's loop
        return x

    assert runwide.map(task, range(6), workers=2) == list(range(6))


def test_threads_left_running_do_not_hold_up_the_end():
    def task(x):
        threading.Thread(target=time.sleep, args=(3600,)).start()  # not a daemon: the interpreter would wait
        return x

    started = time.monotonic()
    with runwide.Executor(max_workers=2) as executor:
        assert list(executor.map(task, range(4))) == list(range(4))
    assert time.monotonic() - started < 60


def test_children_of_a_killed_worker_are_killed_with_it():
    def task(_):
        subprocess.Popen(["sleep", "3600"])
        time.sleep(3600)

    (failure,) = runwide.map(task, [0], workers=1, timeout=1, on_error="return")
    assert failure.kind is FailureKind.TIMEOUT  # and the fixture that all tests share finds no `sleep`


def test_a_flood_of_output_neither_blocks_nor_mixes_lines(capfd):
    def task(x):
        for _ in range(2000):
            print(x, "y" * 500)
        return x

    assert runwide.map(task, range(8), workers=2) == list(range(8))
    out = capfd.readouterr().out
    assert len(out) > 8_000_000
    lines = out.splitlines()
    assert len(lines) == 16_000
    assert {line.rpartition(" ")[2] for line in lines} == {"y" * 500}
    assert {line.split(" ")[0] for line in lines} == {f"{x}" for x in range(8)}


def test_a_worker_that_grows_is_replaced():
    def task(_):
        held.append(bytearray(50 << 20))
        time.sleep(0.3)
        return os.getpid()

    held = []
    pids = runwide.map(task, range(6), workers=1, max_memory=150 << 20, chunksize=1)
    assert len(set(pids)) > 1


def test_no_worker_that_starts_is_an_error_with_its_last_words():
    def die():
        sys.stderr.write("no such licence\n")
        sys.stderr.flush()
        os._exit(4)

    with pytest.raises(WorkerDied, match="no worker starts: the last one exited with status 4") as caught:
        runwide.map(abs, [1], workers=1, initializer=die)
    assert "no such licence" in caught.value.stderr


def test_a_function_that_cannot_be_loaded_fails_its_tasks_by_name():
    class Broken:
        def __reduce__(self):
            return faults._explode, ()

        def __call__(self, x):
            return x

    (failure,) = runwide.map(Broken(), [1], workers=1, on_error="return")
    assert failure.type == "FunctionNotLoadable"
    assert "it does not load" in failure.message


def test_leaving_a_stream_early_stops_its_tasks():
    stream = runwide.imap_unordered(lambda x: time.sleep(x) or x, [0, 3600, 3600], workers=2)
    assert next(stream) == 0
    started = time.monotonic()
    stream.close()
    assert time.monotonic() - started < 30


def test_stopping_outcomes_from_another_thread_ends_the_wait():
    arriving = outcomes(time.sleep, [3600], workers=1)
    timer = threading.Timer(1, arriving.stop)
    timer.start()
    with pytest.raises(PoolClosed):
        list(arriving)
    timer.join()


# What becomes of the workers when something happens to their parent


def script(body: str, tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(body))
    return path


def start(path: Path, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def pids_from(directory: Path, number: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(names := [path.name for path in directory.iterdir() if path.name.isdigit()]) < number:
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.02)
    return [int(name) for name in names]


def gone(pids: list[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(map(is_alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


BUSY = """
    import ctypes, os, pathlib, sys, time
    import runwide

    def task(x):
        pathlib.Path({folder!r}, str(os.getpid())).touch()
        {work}
        return x

    if __name__ == "__main__":
        print(runwide.map(task, range(4), workers=2), flush=True)
"""


@pytest.mark.parametrize("work", ["time.sleep(3600)", "ctypes.PyDLL(None).sleep(3600)", "while True: pass"])
def test_no_worker_outlives_a_killed_parent(tmp_path, work):
    program = start(script(BUSY.format(folder=str(tmp_path), work=work), tmp_path))
    workers = pids_from(tmp_path, 2)
    program.kill()
    program.communicate(timeout=30)
    assert gone(workers, within=60)


def test_scratch_is_removed_when_the_parent_was_killed(tmp_path):
    work = "time.sleep(3600)"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = script(BUSY.format(folder=str(tmp_path), work=work), tmp_path)
    program = start(path, env={**os.environ, "RUNWIDE_SCRATCH": str(scratch)})
    pids_from(tmp_path, 2)
    program.kill()
    program.communicate(timeout=30)
    Scratch.create(str(scratch)).remove()  # the next pool sweeps the files that were left
    assert list(scratch.iterdir()) == []


def test_ctrl_c_leaves_no_process_and_no_noise_from_workers(tmp_path):
    path = script(BUSY.format(folder=str(tmp_path), work="time.sleep(3600)"), tmp_path)
    program = start(path, start_new_session=True)
    workers = pids_from(tmp_path, 2)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = program.communicate(timeout=30)
    assert gone(workers, within=60)
    assert program.returncode == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1


def test_sigterm_lets_running_tasks_end_and_exits_with_143(tmp_path):
    body = """
    import os, pathlib, time
    import runwide

    def task(x):
        pathlib.Path({folder!r}, str(os.getpid())).touch()
        pathlib.Path({began!r}, str(x)).touch()
        time.sleep(1)
        return x

    if __name__ == "__main__":
        for value in runwide.imap_unordered(task, range(1000), workers=2):
            print(value, flush=True)
    """
    workers_in, began = tmp_path / "workers", tmp_path / "began"
    workers_in.mkdir()
    began.mkdir()
    program = start(script(body.format(folder=str(workers_in), began=str(began)), tmp_path))
    workers = pids_from(workers_in, 2)
    before = len(list(began.iterdir()))
    program.terminate()
    out, errors = program.communicate(timeout=60)
    assert program.returncode == 143
    assert sorted(out.split()) == sorted(path.name for path in began.iterdir())
    assert len(out.split()) <= before + 2  # each worker may begin one more until the signal has arrived
    assert errors == ""
    assert gone(workers, within=60)


def test_sigterm_gives_up_on_tasks_that_outlast_the_grace(tmp_path):
    body = """
    import os, pathlib, time
    import runwide

    def task(x):
        pathlib.Path({folder!r}, str(os.getpid())).touch()
        time.sleep(3600)

    if __name__ == "__main__":
        runwide.map(task, range(4), workers=2, grace=1)
    """
    program = start(script(body.format(folder=str(tmp_path)), tmp_path))
    workers = pids_from(tmp_path, 2)
    program.terminate()
    program.communicate(timeout=30)
    assert program.returncode == 143
    assert gone(workers, within=60)


def test_workers_have_names(tmp_path):
    names = runwide.map(lambda _: Path("/proc/self/comm").read_text().strip(), range(4), workers=1)
    assert set(names) == {"runwide-w0"}


# Patience: the pool is given less of it than by default, so that tests need little


def run_in(pool: Base, function, items) -> list:
    arriving = stream_outcomes(pool, dump_function(function), items, Budget())
    return [outcome.value for outcome in in_order(arriving)]


def test_a_worker_that_hangs_at_its_start_is_replaced(tmp_path, monkeypatch):
    hung = tmp_path / "hung"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, time\nif not os.path.exists({str(hung)!r}):\n"
        f"    open({str(hung)!r}, 'w').close()\n    time.sleep(3600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(crew, "TIMING", Timing(start_seconds=5))
    with Base(RunOptions(workers=1, fresh=True)) as pool:
        assert run_in(pool, abs, [-1]) == [1]
    assert hung.exists()


def test_an_initializer_may_take_longer_than_a_start(monkeypatch):
    monkeypatch.setattr(crew, "TIMING", Timing(start_seconds=5))
    with Base(RunOptions(workers=1, initializer=time.sleep, initargs=(6,), fresh=True)) as pool:
        assert run_in(pool, abs, [-1]) == [1]


def test_a_worker_that_hangs_at_its_exit_is_killed(monkeypatch):
    def task(_):
        import atexit

        atexit.register(time.sleep, 3600)
        return os.getpid()

    monkeypatch.setattr(crew, "TIMING", Timing(exit_seconds=0.5))
    with Base(RunOptions(workers=1, fresh=True)) as pool:
        (pid,) = run_in(pool, task, [0])
        pool._end(kill=False)
    assert gone([pid], within=60)
