"""Workers stay for the next call, and are replaced or end when they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from processes import is_alive

import runwide
from runwide.pool import resources
from runwide.pool.process import children


def pid(_=None):
    return os.getpid()


@pytest.fixture
def pids(meeting):
    """Pids of the workers that a map of so many workers runs on."""

    def seen(workers=2, **options):
        return set(runwide.map(meeting(workers), range(workers), workers=workers, chunksize=1, **options))

    return seen


def workers_of(pid):
    """Children that are workers, and neither trackers nor what wider fixtures have started."""
    found = []
    for one in children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
            if b"popen_loky" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def run(program, cwd=None, **variables):
    """Return a program's output, parsed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True,
        check=True, timeout=120,
    )  # fmt: skip
    assert not done.stderr
    return json.loads(done.stdout)


def by_imap():
    return set(runwide.imap(pid, range(4), workers=2))


def by_imap_unordered():
    return set(runwide.imap_unordered(pid, range(4), workers=2))


def by_executor():
    with runwide.Executor(2) as executor:
        return {executor.submit(pid).result(), *executor.map(pid, range(4))}


def by_joblib():
    import joblib

    runwide.register_joblib()
    with joblib.parallel_config(backend="runwide", n_jobs=2):
        return set(joblib.Parallel()(joblib.delayed(pid)() for _ in range(4)))


def by_map():
    return set(runwide.map(pid, range(4), workers=2))


def by_map_with_a_store():
    return set(runwide.map(pid, range(4), workers=2, store="memory://warm"))


@pytest.mark.parametrize(
    "surface", [by_map, by_map_with_a_store, by_imap, by_imap_unordered, by_executor, by_joblib]
)
def test_the_next_call_finds_the_workers_of_the_last(surface, pids):
    first = pids()
    assert surface() <= first
    assert pids() == first
    assert set(workers_of(os.getpid())) == first


def test_an_executor_leaves_its_workers_for_the_next_call(pids):
    seen = by_executor()
    assert seen <= pids()


def test_a_pool_has_workers_of_its_own_which_end_with_it(pids):
    first = pids()
    with runwide.Pool(2) as pool:
        own = set(pool.map(pid, range(4)))
    pool.join()
    assert own.isdisjoint(first)
    assert set(workers_of(os.getpid())) == first


def test_modules_stay_loaded_and_functions_too(tmp_path, monkeypatch):
    (tmp_path / "loaded_once.py").write_text("import os\nopen(os.environ['LOADS'], 'a').write('x')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LOADS", str(tmp_path / "loads"))

    class Model:
        def __setstate__(self, state):
            import loaded_once  # noqa: F401

            with Path(os.environ["LOADS"]).with_name("loads-model").open("a") as file:
                file.write("x")

        def __getstate__(self):
            return {"weights": 1}

        def __call__(self, x):
            return x

    model = Model()
    for _ in range(3):
        assert runwide.map(model, [1], workers=1) == [1]
    assert (tmp_path / "loads").read_text() == "x"
    assert (tmp_path / "loads-model").read_text() == "x"


GLOBALS = """
import json, runwide
LIMIT = 1
def over(x):
    return x > LIMIT
def other(x):
    return x, LIMIT
found = []
for LIMIT in (1, 5, 1):
    found.append(runwide.map(over, [0, 3, 9], workers=1))
    found.append(runwide.map(other, [0], workers=1))
print(json.dumps(found))
"""


def test_a_function_that_is_kept_has_the_programs_globals_as_they_are_now():
    assert run(GLOBALS) == [
        [False, True, True], [[0, 1]], [False, False, True], [[0, 5]], [False, True, True], [[0, 1]],
    ]  # fmt: skip


def test_workers_end_after_an_idle_time(monkeypatch, pids, until):
    monkeypatch.setenv("RUNWIDE_IDLE_SECONDS", "0.3")
    first = pids()
    until(lambda: not any(map(is_alive, first)))
    assert pids().isdisjoint(first)


def test_however_short_they_stay_each_call_gets_some(monkeypatch):
    monkeypatch.setenv("RUNWIDE_IDLE_SECONDS", "0.0001")
    assert [runwide.map(abs, [-x], workers=1) for x in range(30)] == [[x] for x in range(30)]


def test_workers_of_an_open_executor_wait_for_it(monkeypatch):
    monkeypatch.setenv("RUNWIDE_IDLE_SECONDS", "0.1")
    with runwide.Executor(1) as executor:
        first = executor.submit(pid).result()
        time.sleep(1.5)  # longer than it looks for idle workers
        assert executor.submit(pid).result() == first


def test_with_no_idle_seconds_no_worker_is_kept(monkeypatch, pids):
    monkeypatch.setenv("RUNWIDE_IDLE_SECONDS", "0")
    first = pids()
    assert not any(map(is_alive, first))


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_wrong_idle_time_is_one_clear_error(text, monkeypatch):
    monkeypatch.setenv("RUNWIDE_IDLE_SECONDS", text)
    with pytest.raises(ValueError, match=r"RUNWIDE_IDLE_SECONDS='.*' is not a number of seconds"):
        runwide.map(pid, [1], workers=1)


def test_workers_end_with_the_program_and_close_what_tasks_have_opened(tmp_path):
    program = f"""
import json, os, runwide
def task(x):
    global FILE
    FILE = open({str(tmp_path / "written")!r}, "w")
    FILE.write("all of it")
    return os.getpid()
print(json.dumps(runwide.map(task, [1], workers=1)))
"""
    (worker,) = run(program)
    assert not is_alive(worker)
    assert (tmp_path / "written").read_text() == "all of it"


def test_a_fork_has_no_workers_and_leaves_its_parents(pids):
    first = pids()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            own = runwide.map(pid, [1], workers=1)
            runwide.shutdown()
            os.write(writing, json.dumps(own).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        own = set(json.loads(file.read()))
    os.waitpid(child, 0)
    assert own.isdisjoint(first)
    assert pids() == first


def test_another_environment_has_other_workers(monkeypatch, pids, until):
    first = pids()
    monkeypatch.setenv("OF_THE_PROGRAM", "new")
    assert runwide.map(lambda _: os.environ["OF_THE_PROGRAM"], [1], workers=1) == ["new"]
    until(lambda: not any(map(is_alive, first)))


def prepare(number):
    os.environ["PREPARED"] = str(number)


def test_another_initializer_has_other_workers_and_the_same_one_has_the_same(pids, until):
    first = pids()
    second = pids(initializer=prepare, initargs=(2,))
    until(lambda: not any(map(is_alive, first)))
    assert pids(initializer=prepare, initargs=(2,)) == second
    third = pids(initializer=prepare, initargs=(3,))
    assert third.isdisjoint(second)
    assert pids().isdisjoint(third)


def test_for_a_larger_number_the_rest_is_started_and_for_a_smaller_one_it_stays(pids):
    one = pids(1)
    two = pids(2)
    assert one < two
    three = pids(3)
    assert two < three
    assert pids(1) < three
    assert set(workers_of(os.getpid())) == three
    assert pids(3) == three


def test_a_call_runs_on_no_more_workers_than_it_asked_for(pids, tmp_path):
    pids(3)

    def task(_):
        mine = tmp_path / str(os.getpid())
        mine.touch()
        time.sleep(0.01)
        together = len([one for one in tmp_path.iterdir() if one.is_file()])
        mine.unlink()
        return together

    assert max(runwide.map(task, range(40), workers=1)) == 1
    assert max(runwide.map(task, range(40), workers=2)) <= 2
    assert max(runwide.imap(task, range(40), workers=1)) == 1


def test_fewer_workers_have_more_threads_each(pids):
    threads = lambda _: os.environ["OMP_NUM_THREADS"]
    pids(2)
    few, many = (runwide.cores().usable // workers or 1 for workers in (1, 2))
    assert runwide.map(threads, [0], workers=2) == [str(many)]
    assert runwide.map(threads, [0], workers=1) == [str(few)]
    assert runwide.map(threads, [0], workers=2) == [str(many)]


def test_max_tasks_holds_over_several_calls():
    seen = [runwide.map(pid, [0], workers=1, max_tasks=2)[0] for _ in range(4)]
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_a_worker_that_has_grown_is_replaced(until):
    def grow(_):
        import builtins

        builtins.held = bytes(range(256)) * (1 << 20)
        return os.getpid()

    def stay(_):
        time.sleep(0.5)  # so that its size is seen, at the latest in one of the next calls
        return os.getpid()

    limit = 200 << 20
    first = runwide.map(grow, [0], workers=1, max_memory=limit)
    until(lambda: runwide.map(stay, [0], workers=1, max_memory=limit) != first)


def test_workers_end_where_memory_is_short_for_others(pids, until, monkeypatch):
    monkeypatch.setenv("RUNWIDE_IDLE_SECONDS", "3600")
    first = pids()
    monkeypatch.setattr(resources, "IDLE_SHARE", 1.0)  # as if nearly all of it were wanted
    until(lambda: not any(map(is_alive, first)))
    assert pids().isdisjoint(first)


def test_shutdown_ends_the_workers_at_once(pids):
    first = pids()
    runwide.shutdown()
    assert not any(map(is_alive, first))
    assert pids().isdisjoint(first)
    runwide.shutdown()
    runwide.shutdown()


def test_shutdown_leaves_what_runs(tmp_path, until, gate):
    begun = tmp_path / "begun"

    def task(x):
        begun.touch()
        gate()
        return x

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(runwide.map, task, [1], workers=1)
        until(begun.exists)
        runwide.shutdown()
        gate.open()
        assert running.result() == [1]
    until(lambda: not workers_of(os.getpid()))


@pytest.mark.parametrize("surface", ["map", "imap", "Executor"])
def test_fresh_workers_are_new_and_end_with_the_call(surface, pids):
    first = pids()
    if surface == "map":
        own = set(runwide.map(pid, [0, 1], workers=1, fresh=True))
    elif surface == "imap":
        own = set(runwide.imap(pid, [0, 1], workers=1, fresh=True))
    else:
        with runwide.Executor(1, fresh=True) as executor:
            own = {executor.submit(pid).result()}
    assert own.isdisjoint(first)
    assert not any(map(is_alive, own))
    assert pids() == first


def test_a_module_that_was_changed_is_loaded_anew(tmp_path, monkeypatch):
    module = tmp_path / "edited.py"
    module.write_text("def answer(x):\n    return 'old'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import edited

    assert runwide.map(edited.answer, [0], workers=1) == ["old"]
    assert runwide.map(edited.answer, [0], workers=1) == ["old"]
    module.write_text("def answer(x):\n    return 'the new one'\n")
    assert runwide.map(edited.answer, [0], workers=1) == ["the new one"]
    (tmp_path / "edited.py").write_text("def answer(x):\n    return 'the newest one'\n")
    with runwide.Executor(1) as executor:
        assert executor.submit(edited.answer, 0).result() == "the newest one"


def test_a_module_that_only_a_task_has_loaded_and_was_changed_is_loaded_anew(tmp_path, monkeypatch):
    package = tmp_path / "of_tasks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def task(_):
        from of_tasks import inner

        return inner.VALUE

    assert runwide.map(task, [0], workers=1) == [1]
    (package / "inner.py").write_text("VALUE = 22\n")
    assert runwide.map(task, [0, 0, 0], workers=1) == [22] * 3


def test_another_search_path_has_other_workers(tmp_path, monkeypatch):
    (tmp_path / "found_later.py").write_text("VALUE = 7\n")

    def task(_):
        import found_later

        return found_later.VALUE

    with pytest.raises(ModuleNotFoundError):
        runwide.map(task, [0], workers=1)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert runwide.map(task, [0], workers=1) == [7]


def test_another_directory_has_other_workers(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert runwide.map(lambda _: str(Path.cwd()), [0], workers=1) == [str(tmp_path / name)]


def test_two_maps_at_once_share_the_workers(tmp_path):
    met = threading.Barrier(2)

    def some(_):
        time.sleep(0.02)
        return os.getpid()

    def go():
        met.wait()
        return set(runwide.map(some, range(30), workers=2))

    with ThreadPoolExecutor(2) as threads:
        first, second = (one.result() for one in [threads.submit(go), threads.submit(go)])
    assert len(first | second) <= 2


def test_a_small_map_beside_a_large_one_begins_within_a_chunk(tmp_path, until):
    begun = tmp_path / "begun"

    def large(x):
        begun.touch()
        time.sleep(0.05)
        return time.monotonic()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(runwide.map, large, range(200), workers=2)
        until(begun.exists)
        (ended,) = runwide.map(lambda _: time.monotonic(), [0], workers=2)
        ends = sorted(running.result())
    assert sum(1 for one in ends if one > ended) > 100


def test_one_item_starts_one_worker():
    runwide.map(pid, [0])
    assert len(workers_of(os.getpid())) == 1


def test_as_many_workers_start_at_a_time_as_there_are_cores(tmp_path, monkeypatch, until, pids):
    gate = tmp_path / "gate"
    wait = "import os, time\nwhile not os.path.exists(os.environ['GATE']):\n    time.sleep(0.01)\n"
    (tmp_path / "sitecustomize.py").write_text(wait)
    monkeypatch.setenv("GATE", str(gate))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    cores = runwide.cores().usable
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(pids, cores + 3)
        until(lambda: len(workers_of(os.getpid())) >= cores)
        time.sleep(0.3)  # if more are to start, they do now
        started = len(workers_of(os.getpid()))
        gate.touch()
        assert len(running.result()) == cores + 3
    assert started == cores


def test_what_tasks_have_printed_is_there_when_the_map_returns():
    program = """
import json, runwide
def task(x):
    print("task", x, end="")
for x in range(3):
    runwide.map(task, [x], workers=1)
    print("program", x, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines() == [f"task {x}program {x}" for x in range(3)]


def test_a_map_that_fails_leaves_the_workers_for_the_next(pids):
    first = pids()
    with pytest.raises(ZeroDivisionError):
        runwide.map(lambda x: 1 / x, [0, 0], workers=2)
    assert pids() == first


def test_the_rest_of_a_stopped_map_disturbs_no_other(pids):
    first = pids()
    running = runwide.imap(lambda x: time.sleep(x) or x, [0, 60, 60], workers=2)
    assert next(running) == 0
    running.close()
    after = pids()
    assert len(after) == 2
    assert len(after & first) <= 1


def test_items_that_are_larger_than_those_of_the_last_call_are_not_sent_together():
    """Those of the last call were short, and small: several are sent to an idle worker at once."""
    events = []
    for items in ([b""] * 100, [bytes(3 << 20)] * 12):
        events.clear()
        assert sum(runwide.map(len, items, workers=2, on_event=events.append)) == len(items) * len(items[0])
    chunks = Counter(event.queued for event in events)
    assert sum(chunks.values()) == 12
    assert max(chunks.values()) <= 2


def test_items_that_take_longer_than_those_of_the_last_call_are_shared_out(pids, tmp_path, until, gate):
    """One worker is not sent in advance what takes microseconds by the pace of before."""
    pids(2)  # both are ready
    begun = tmp_path / "begun"
    begun.mkdir()

    def task(wait):
        if wait:
            (begun / str(os.getpid())).touch()
            gate()

    for _ in range(2):
        runwide.map(task, [False] * 400, workers=2)
    events = []
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(runwide.map, task, [True] * 100, workers=2, on_event=events.append)
        until(lambda: len(list(begun.iterdir())) == 2)
        time.sleep(0.3)  # if more is to be sent before anything has ended, it is now
        opened = time.time()
        gate.open()
        running.result()
    assert len({event.queued for event in events if event.queued < opened}) == 2  # a chunk for each


def test_leaving_one_map_does_not_stop_another(tmp_path, until, gate):
    begun = tmp_path / "begun"

    def task(x):
        begun.touch()
        gate()
        return os.getpid()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(runwide.map, task, [1], workers=2, retries=0, max_crashes=1)
        until(begun.exists)
        stream = runwide.imap(lambda x: time.sleep(60 * x), [0, 1], workers=2)
        next(stream)
        stream.close()
        gate.open()
        assert is_alive(running.result()[0])


def test_events_of_a_call_are_those_of_its_own_tasks():
    first, second = [], []
    runwide.map(pid, range(5), workers=1, on_event=first.append)
    runwide.map(pid, range(3), workers=1)
    runwide.map(pid, range(2), workers=1, on_event=second.append)
    assert sorted(event.index for event in first) == [0, 1, 2, 3, 4]
    assert sorted(event.index for event in second) == [0, 1]


def test_what_one_map_leaves_behind_is_there_in_the_next_and_not_with_fresh_workers():
    def leave(x):
        import builtins

        builtins.left = getattr(builtins, "left", 0) + 1
        return builtins.left

    assert [runwide.map(leave, [0], workers=1)[0] for _ in range(3)] == [1, 2, 3]
    assert runwide.map(leave, [0], workers=1, fresh=True) == [1]
