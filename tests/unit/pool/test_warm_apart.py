"""Of workers that stay, one user neither waits for another, nor finds what another has changed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import runwide
from runwide.pool import leases
from runwide.pool.scheduler import running
from runwide.pool.worker_setup import Sources


def same(x):
    return x


def pid(_):
    return os.getpid()


def run(program, **how):
    """Return a program's output, parsed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, **how
    )
    return json.loads(done.stdout)


@pytest.fixture
def fail_if_it_hangs():
    """A program that waits for itself has all its threads shown, and ends."""
    import faulthandler

    faulthandler.dump_traceback_later(100, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


# Callbacks run on the scheduler's thread


def nested_in_an_event(depth):
    found = []

    def listen(_):
        if depth > 0 and not found:
            found.extend(nested_in_an_event(depth - 1))

    return runwide.map(same, [depth], workers=1, on_event=listen) + found


@pytest.mark.usefixtures("fail_if_it_hangs")
def test_a_listener_may_map_and_its_listener_too():
    assert nested_in_an_event(2) == [2, 1, 0]


@pytest.mark.usefixtures("fail_if_it_hangs")
def test_a_callback_of_a_future_may_map():
    found = []
    with runwide.Executor(1) as executor:
        future = executor.submit(same, 3)
        future.add_done_callback(lambda done: found.append(runwide.map(same, [done.result()], workers=1)))
    assert found == [[3]]


@pytest.mark.usefixtures("fail_if_it_hangs")
def test_a_callback_finds_the_workers_of_the_last_one():
    found = []
    with runwide.Executor(1) as executor:
        for number in range(3):
            executor.submit(same, number).add_done_callback(
                lambda _: found.append(runwide.map(pid, [0], workers=1)[0])
            )
    assert len(found) == 3
    assert len(set(found)) == 1


@pytest.mark.usefixtures("fail_if_it_hangs")
def test_joblibs_iterable_may_map():
    from joblib import Parallel, delayed

    runwide.register_joblib()
    tasks = (delayed(same)(runwide.map(same, [number], workers=1)[0]) for number in range(12))
    assert Parallel(n_jobs=2, backend="runwide")(tasks) == list(range(12))


# Executors


@pytest.mark.usefixtures("fail_if_it_hangs")
def test_tasks_of_two_executors_may_wait_for_each_other(tmp_path):
    def meet(mine, other):
        (tmp_path / mine).touch()
        while not (tmp_path / other).exists():
            time.sleep(0.01)
        return mine

    with runwide.Executor(2) as first, runwide.Executor(2) as second:
        waiting = [first.submit(meet, f"a{number}", f"b{number}") for number in range(2)]
        waiting += [second.submit(meet, f"b{number}", f"a{number}") for number in range(2)]
        assert [future.result(60) for future in waiting] == ["a0", "a1", "b0", "b1"]


@pytest.mark.usefixtures("fail_if_it_hangs")
def test_a_map_beside_an_executor_waits_for_none_of_its_tasks(gate):
    with runwide.Executor(2) as executor:
        waiting = [executor.submit(gate) for _ in range(2)]
        runwide.map(lambda _: gate.open(), [0], workers=1)
        assert [future.result(60) for future in waiting] == [None, None]


def test_an_executor_takes_over_the_workers_of_a_map_and_leaves_them_for_the_next():
    (first,) = runwide.map(pid, [0], workers=1)
    with runwide.Executor(1) as executor:
        assert executor.submit(pid, 0).result() == first
        (beside,) = runwide.map(pid, [0], workers=1)
        assert beside != first
    assert runwide.map(pid, [0], workers=1)[0] in {first, beside}


def test_a_busy_worker_is_sent_nothing_of_another_call_and_that_comes_next():
    """Tasks sent in advance would begin even if their call ended meanwhile."""
    runwide.map(same, [0], workers=1)
    (kept,) = [scheduler for scheduler in running if scheduler.is_kept]
    (slot,) = kept._workers.slots.values()
    maps, ended = [], []

    def others():
        while not ended:
            maps.append(runwide.map(lambda _: time.sleep(0.005), range(100), workers=1, chunksize=1))

    with ThreadPoolExecutor(1) as threads:
        beside = threads.submit(others)
        for number in range(20):
            with contextlib.closing(runwide.imap(same, [number], workers=1)) as stream:
                found = threading.Thread(target=next, args=(stream,))
                found.start()
                while found.is_alive():
                    assert len({chunk.call for chunk in tuple(slot.chunks)}) <= 1
                    time.sleep(0.0005)
        ended.append(True)
        beside.result()
    assert len(maps) < 10, "each of the 20 has waited for a whole map"


# What workers find


GLOBALS = """
import json, runwide
X = 1
class Reader:
    def read(self): return X
def read(reader): return reader.read()
def first(_): return X
def second(_): return X
found = []
with runwide.Executor(1) as executor:
    for X, function in ((1, first), (2, second), (1, first), (2, first), (1, second)):
        found.append([X, executor.submit(function, 0).result()])
for X, function, item in ((1, read, Reader()), (2, second, 0), (1, read, Reader()), (3, first, 0), (1, read, Reader())):
    found.append([X, runwide.map(function, [item], workers=1)[0]])
print(json.dumps(found))
"""


def test_a_name_that_was_changed_and_changed_back_has_the_programs_value():
    assert all(expected == found for expected, found in run(GLOBALS))


KEPT = """
import json, runwide
SEEN, X = [], 1
def first(x):
    SEEN.append(x)
    return len(SEEN), X
def second(x):
    SEEN.append(x)
    return len(SEEN), X
with runwide.Executor(1) as executor:
    print(json.dumps([executor.submit((first, second)[x % 2], x).result()[0] for x in range(6)]))
"""


def test_what_tasks_have_put_into_a_list_stays_while_the_program_changes_nothing():
    assert run(KEPT) == [1, 2, 3, 4, 5, 6]


def test_a_module_that_was_changed_while_a_task_ran_is_loaded_anew(tmp_path, until):
    (tmp_path / "mine.py").write_text("VALUE = 1\n")
    program = """
import json, os, runwide, sys, time
sys.path.insert(0, os.getcwd())
def value(waits):
    import mine
    open("loaded", "w").close()
    while waits and not os.path.exists("written"):
        time.sleep(0.01)
    return mine.VALUE
time.sleep(0.1)  # the file is older than what follows
found = runwide.map(value, [True], workers=1) + runwide.map(value, [False], workers=1)
print(json.dumps(found + [runwide.map(lambda _: os.getpid(), [0], workers=1) for _ in range(2)]))
"""
    with ThreadPoolExecutor(1) as threads:
        told = threads.submit(run, program, cwd=tmp_path)
        until((tmp_path / "loaded").exists)
        (tmp_path / "mine.py").write_text("VALUE = 2222\n")
        (tmp_path / "written").touch()
        *values, first, second = told.result()
    assert values == [1, 2222]
    assert first == second  # one new worker is enough


def test_sources_that_were_written_before_the_last_look_are_as_they_were_loaded(tmp_path, monkeypatch):
    (tmp_path / "mine_too.py").write_text("")
    old = time.time() - 10
    os.utime(tmp_path / "mine_too.py", (old, old))
    monkeypatch.syspath_prepend(tmp_path)
    sources = Sources()
    __import__("mine_too")
    sources.note()
    assert not sources.look()
    del sys.modules["mine_too"]
    os.utime(tmp_path / "mine_too.py")
    assert sources.look()


def test_workers_that_found_another_environment_are_not_kept(tmp_path, monkeypatch, gate):
    def where(_=None):
        return str(Path.cwd()), os.environ.get("CHANGED")

    monkeypatch.chdir(tmp_path)
    here = where()
    assert runwide.map(where, [0], workers=1) == [here]
    with runwide.Executor(2) as executor, contextlib.ExitStack() as changed:
        executor.submit(gate)
        (tmp_path / "other").mkdir()
        patch = changed.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(tmp_path / "other")
        patch.setenv("CHANGED", "yes")
        assert executor.submit(where).result(60) == where()  # a second worker, which is started now
        gate.open()
    runwide.shutdown()  # waits for these too
    assert not any(scheduler.thread.is_alive() for scheduler in running)
    assert set(runwide.map(where, range(8), workers=2)) == {here}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_workers_are_on_the_cpus_that_the_program_may_use_now():
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert runwide.map(lambda _: os.sched_getaffinity(0), [0], workers=1) == [{min(mine)}]
    finally:
        os.sched_setaffinity(0, mine)
    assert runwide.map(lambda _: os.sched_getaffinity(0), [0], workers=1) == [mine]


def test_a_new_start_method_reaches_the_tasks():
    program = """
import json, multiprocessing, runwide
def method(_):
    return multiprocessing.get_start_method()
found = []
for wanted in ("spawn", "forkserver"):
    multiprocessing.set_start_method(wanted, force=True)
    found += runwide.map(method, [0], workers=1)
print(json.dumps(found))
"""
    assert run(program) == ["spawn", "forkserver"]


def test_shutdown_may_come_at_any_moment_between_two_looks():
    class Changing(leases.Leases):
        """Another thread ends the scheduler right after its idle time was read."""

        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name == "_idle_seconds" and found is not None:
                super().__getattribute__("keep_no_longer")()
            return found

    assert Changing(60.0, lambda: None).patience() == leases.LOOK_SECONDS


def test_where_no_further_worker_starts_those_that_there_are_go_on(tmp_path, monkeypatch, until, gate):
    """A larger map beside it may find no room: that ends neither."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import os\nif os.path.exists({str(tmp_path / 'broken')!r}): os._exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def wait(x):
        (tmp_path / f"begun-{x}").touch()
        gate()
        return x

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(runwide.map, wait, [1], workers=1)
        until((tmp_path / "begun-1").exists)
        (tmp_path / "broken").touch()
        second = threads.submit(runwide.map, wait, [2, 3, 4], workers=3)
        time.sleep(2)  # workers of the second have tried to start
        gate.open()
        assert first.result() == [1]
        assert second.result() == [2, 3, 4]
