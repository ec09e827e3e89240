"""The pool goes on after any error in the user's code that it calls: callbacks, pickling, exceptions, forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runwide
from runwide.errors import ExceptionNotPortable, ItemNotPicklable, PoolClosed, ResultNotLoadable
from runwide.pool.process import children

pytestmark = pytest.mark.faults


def raise_(error: BaseException):
    raise error


@pytest.mark.parametrize("error", [RuntimeError("called back"), SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_raises_stops_no_task(error, caplog):
    with runwide.Pool(2) as pool:
        for submitted in (
            pool.apply_async(abs, (-3,), callback=lambda _: raise_(error)),
            pool.map_async(abs, [-3], callback=lambda _: raise_(error)),
        ):
            assert submitted.get(30) in (3, [3])
        for failing in (
            pool.apply_async(divmod, (1, 0), error_callback=lambda _: raise_(error)),
            pool.map_async(lambda x: 1 // x, [0], error_callback=lambda _: raise_(error)),
        ):
            with pytest.raises(ZeroDivisionError):
                failing.get(30)
        assert pool.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_futures_callback_that_raises_stops_no_task(error, gate):
    with runwide.Executor(2) as executor:
        future = executor.submit(gate)
        future.add_done_callback(lambda _: raise_(error))
        gate.open()
        assert future.result(30) is None
        assert executor.submit(abs, -2).result(30) == 2


def test_a_future_that_other_code_has_ended_stops_no_task(gate):
    with runwide.Executor(1) as executor:
        running, waiting = executor.submit(gate), executor.submit(abs, -1)
        running.set_result("mine")
        waiting.set_exception(OSError("mine"))
        gate.open()
        assert executor.submit(abs, -2).result(30) == 2
        assert running.result() == "mine"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Closed(Exception):
    """Nothing can be noted on it."""

    def __setattr__(self, name, value):
        raise AttributeError(name)

    @property
    def message(self):
        raise KeyError("message")


class Exits(Exception):
    def __reduce__(self):
        return sys.exit, (3,)


class ExitsWhenPickled(Exception):
    def __reduce__(self):
        sys.exit(3)


@pytest.mark.parametrize("kind", [Mute, Closed, Exits, ExitsWhenPickled])
def test_an_exception_whose_own_code_fails_fails_its_task_alone(kind):
    def task(x):
        if x == 1:
            raise kind
        return x

    results = runwide.map(task, range(3), workers=1, on_error="return")
    failure = results.pop(1)
    assert results == [0, 2]
    assert (failure.index, failure.attempts) == (1, 1)
    assert isinstance(failure.exception, ExceptionNotPortable)
    assert kind.__name__ in failure.message
    assert "raise kind" in failure.traceback or kind is Mute


class ExitsAsItem:
    def __reduce__(self):
        sys.exit(3)


class ExitsAsResult:
    def __reduce__(self):
        return sys.exit, (3,)


def test_pickling_that_exits_fails_its_item_alone():
    with runwide.Pool(1) as pool:
        with pytest.raises(ItemNotPicklable):
            pool.map(id, [ExitsAsItem()])
        with pytest.raises(ResultNotLoadable):
            pool.map(lambda _: ExitsAsResult(), [0])
        assert pool.map(abs, [-1]) == [1]


def test_a_list_that_changes_while_it_is_mapped_was_taken_as_it_was():
    items = list(range(1000))
    with runwide.Pool(1) as pool:
        coming = pool.map_async(abs, items)
        items.clear()
        assert coming.get(30) == list(range(1000))


def test_every_future_ends_whatever_moment_the_executor_is_shut_down_at():
    for kill in (False, True) * 10:
        executor, futures = runwide.Executor(1), []

        def submit(executor=executor, futures=futures):
            try:
                while True:
                    futures.append(executor.submit(abs, -1))
            except PoolClosed:
                pass

        submitting = threading.Thread(target=submit)
        submitting.start()
        while not futures:
            time.sleep(0.001)
        if kill:
            executor.kill()
        else:
            executor.shutdown()
        submitting.join(30)
        assert not submitting.is_alive()
        for future in futures:
            assert isinstance(future.exception(30), (PoolClosed, type(None)))


FORKING = """
import os, signal, sys, time
import runwide
from runwide.errors import PoolClosed

if __name__ == "__main__":
    with runwide.Pool(2) as pool:
        assert pool.map(abs, [-1]) == [1]
        child = os.fork()
        if not child:
            try:
                pool.map(abs, [-2])
            except PoolClosed as error:
                print(error, flush=True)
            print(runwide.map(abs, [-3], workers=1), flush=True)
            sys.exit(4)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, pool.map(abs, [-5]), flush=True)
"""


def test_a_fork_gets_an_error_for_its_parents_pool_and_leaves_it_alone(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FORKING)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-W", "ignore::DeprecationWarning", str(program)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "the pool belongs to the parent of this fork; make a new pool in this process",
        "[3]",
        "4 [5]",
    ]


ORPHANED = """
import ctypes, os, pathlib, sys, time
import runwide

def task(x):
    pathlib.Path(sys.argv[1], str(os.getpid())).touch()
    ctypes.PyDLL(None).sleep(3600)  # keeps the GIL: only the kernel can end it

if __name__ == "__main__":
    with runwide.Pool(1) as pool:
        pool.map_async(task, [0])
        while not os.listdir(sys.argv[1]):
            time.sleep(0.01)
        if not os.fork():
            time.sleep(3600)
            os._exit(0)
        print("forked", flush=True)
        time.sleep(3600)
"""


def test_no_worker_outlives_the_pool_because_a_fork_does(tmp_path):
    folder = tmp_path / "workers"
    folder.mkdir()
    path = tmp_path / "program.py"
    path.write_text(ORPHANED)
    program = subprocess.Popen([sys.executable, str(path), str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout.readline() == "forked\n"
        (worker,) = (int(path.name) for path in folder.iterdir())
        (fork,) = (
            pid
            for pid in children(program.pid)
            if pid != worker and "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text()
        )
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
    deadline = time.monotonic() + 60
    while (alive := Path(f"/proc/{worker}").exists()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(fork, signal.SIGKILL)
    assert not alive
