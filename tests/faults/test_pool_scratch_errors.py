"""Errors of the files between two processes fail their own tasks, by name, and never the pool."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from contextlib import suppress

import pytest

import runwide
from runwide.records import Failure

pytestmark = pytest.mark.faults

HOLD = """
hold = []
def exhaust():
    try:
        while True:
            hold.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass

def release():
    while hold:
        os.close(hold.pop())
"""

PREAMBLE = (
    """
import glob, json, os, resource, shutil, signal, sys, threading, time
import numpy as np
import runwide
from runwide.pool import outcomes
from runwide.records import Failure

MEGABYTE = 1 << 20

def large(x, megabytes=1):
    return np.full(megabytes << 17, float(x))

def described(results):
    "Each result as a number, each failure as its type and item, and whether its own exception names the item."
    return [[one.type, one.index, one.exception.item] if isinstance(one, Failure)
            else one if isinstance(one, (int, float)) else float(one[-1]) for one in results]

def folders():
    roots = [os.environ["RUNWIDE_SCRATCH"]] if "RUNWIDE_SCRATCH" in os.environ else ["/dev/shm", os.environ["TMPDIR"]]
    return [folder for root in roots for folder in glob.glob(f"{root}/runwide-{POOL}-*")]

def clean():
    "As a cleaner of temporary files does."
    for folder in folders():
        shutil.rmtree(folder, ignore_errors=True)

POOL = os.getpid()
"""
    + HOLD
)


@pytest.fixture(params=["one directory", "shared memory and a disk"])
def run(tmp_path, request):
    """Runs a program, with its scratch in one directory or in two, and returns what it prints as JSON."""
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    if request.param == "one directory":
        env["RUNWIDE_SCRATCH"] = str(tmp_path / "tmp")

    def run(body: str, *wrapper: str) -> object:
        program = tmp_path / "program.py"
        main = textwrap.indent(textwrap.dedent(body), "    ")
        program.write_text(f'{PREAMBLE}\nif __name__ == "__main__":\n{main}\n    print(json.dumps(found))\n')
        done = subprocess.run(
            [*wrapper, sys.executable, str(program)],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        assert "Exception in thread" not in done.stderr
        assert list((tmp_path / "tmp").glob("runwide-*")) == []
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_directory_that_a_cleaner_has_removed_is_made_again(run):
    body = """
    with runwide.Pool(2) as pool:
        found = [described(pool.map(lambda a: a + 1, [large(x) for x in range(4)]))]
        clean()
        found.append(len(folders()))
        found.append(described(pool.map(lambda a: a + 1, [large(x) for x in range(4)])))
        clean()
        found.append(described(pool.map(lambda x: large(x), range(4))))
        clean()
        bias = large(7)
        found.append(described(pool.map(lambda x: bias + x, range(4))))
    """
    right = [1.0, 2.0, 3.0, 4.0]
    assert run(body) == [right, 0, right, [0.0, 1.0, 2.0, 3.0], [7.0, 8.0, 9.0, 10.0]]


def test_a_directory_that_vanishes_while_tasks_run_is_made_again_by_them(run):
    body = """
    def task(x):
        if x == 3:
            clean()
        return large(x)

    found = [described(runwide.map(task, range(6), workers=2))]
    found.append(described(runwide.imap(task, range(6), workers=2)))
    with runwide.Executor(2) as executor:
        found.append(described([future.result() for future in [executor.submit(task, x) for x in range(6)]]))
    """
    assert run(body) == [[float(x) for x in range(6)]] * 3


@pytest.mark.parametrize("made", ["before", "never"])
def test_the_directory_that_the_environment_names_is_made_for_the_next_pool(made, tmp_path, monkeypatch):
    scratch = tmp_path / "ours" / "scratch"
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(scratch))
    items = [bytes([x]) * (1 << 17) for x in range(3)]
    if made == "before":
        assert runwide.map(len, items, workers=1) == [1 << 17] * 3
        runwide.shutdown()
        scratch.rmdir()
    assert runwide.map(len, items, workers=1) == [1 << 17] * 3
    with runwide.Executor(1) as executor:
        assert executor.submit(len, items[0]).result() == 1 << 17
    store = runwide.map(bytes.upper, items, workers=1, store=tmp_path / "store")
    assert store == [item.upper() for item in items]


def test_workers_start_after_a_directory_was_removed(run):
    body = """
    def task(x):
        if x == 2 and not os.path.exists(os.environ["TMPDIR"] + "/once"):
            open(os.environ["TMPDIR"] + "/once", "w").close()
            clean()
            os._exit(3)
        return x

    found = described(runwide.map(task, range(6), workers=2))
    """
    assert run(body) == list(range(6))


@pytest.mark.parametrize("items", [[2], [0, 1, 2, 3, 4, 5]], ids=["alone", "among others"])
def test_a_function_whose_file_was_removed_is_there_for_the_next_worker(items, run):
    """It is there also for the item that was running when it went, whatever deaths that item has left."""
    body = """
    items = %s
    bias = large(7)
    def task(x):
        if x == 2 and not os.path.exists(os.environ["TMPDIR"] + "/once"):
            open(os.environ["TMPDIR"] + "/once", "w").close()
            clean()
            os._exit(3)
        return float(bias[0]) + x

    found = described(runwide.map(task, items, workers=1))
    """
    assert run(body % items) == [7.0 + x for x in items]


def test_a_function_whose_file_was_removed_costs_no_item_one_of_its_deaths(run):
    body = """
    bias = large(7)
    def task(x):
        if x == 2:
            clean()
        return float(bias[0]) + x

    found = described(runwide.map(task, range(6), workers=1, max_tasks=1, max_crashes=1))
    """
    assert run(body) == [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]


def test_an_initializer_whose_file_was_removed_is_there_for_the_next_worker(run):
    body = """
    def prepare(values):
        os.environ["PREPARED"] = str(values[0])

    def task(x):
        if x == 2 and not os.path.exists(os.environ["TMPDIR"] + "/once"):
            open(os.environ["TMPDIR"] + "/once", "w").close()
            clean()
            os._exit(3)
        return float(os.environ["PREPARED"]) + x

    found = described(runwide.map(task, range(6), workers=1, initializer=prepare, initargs=(large(7),)))
    """
    assert run(body) == [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]


def test_a_cleaner_that_removes_files_on_their_way_costs_those_tasks_at_most(run):
    body = """
    removed = []
    over = threading.Event()
    def remove():
        while not over.is_set():
            for folder in folders():
                for path in glob.glob(f"{folder}/*"):
                    if not path.endswith(".status"):
                        try:
                            os.unlink(path)
                            removed.append(path)
                        except OSError:
                            pass

    with runwide.Executor(2) as executor:
        cleaner = threading.Thread(target=remove)
        cleaner.start()
        rounds = 0
        wrong, named = [], set()
        while len(removed) < 40 and rounds < 300:
            rounds += 1
            futures = [executor.submit(lambda a: a + 1, large(x)) for x in range(8)]
            for x, future in enumerate(futures):
                error = future.exception()
                if error is None and future.result()[-1] != x + 1:
                    wrong.append(x)
                elif error is not None:
                    named.add(type(error).__name__)
        over.set()
        cleaner.join()
        after = [float(executor.submit(lambda a: a + 1, large(x)).result()[-1]) for x in range(4)]
    found = [len(removed) >= 40, wrong, sorted(named), after]
    """
    struck, wrong, named, after = run(body)
    assert struck
    assert wrong == []
    assert set(named) <= {"ScratchError"}
    assert after == [1.0, 2.0, 3.0, 4.0]


def test_a_payload_larger_than_the_limit_on_files_fails_by_name(run):
    body = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MEGABYTE, resource.RLIM_INFINITY))
    def task(item):
        return large(item, 3 if item == 2 else 1) if isinstance(item, int) else float(item[0])

    items = [0, 1, 2, large(3), large(4, 3), 5]
    found = [described(runwide.map(task, items, workers=2, on_error="return"))]
    found.append(described(runwide.imap(task, items, workers=2, on_error="return")))
    with runwide.Executor(2) as executor:
        futures = [executor.submit(task, item) for item in items]
        found.append([type(future.exception()).__name__ for future in futures])
        message = str(futures[4].exception())
        found.append("File too large" in message and "ulimit -f" in message and os.environ["TMPDIR"] in message)
        much = large(0, 3)
        try:
            list(executor.map(lambda x: much, range(2)))
        except runwide.RunwideError as error:
            found.append(type(error).__name__)
        found.append(executor.submit(abs, -1).result())
    """
    each = [0.0, 1.0, ["ScratchError", 2, 2], 3.0, ["ScratchError", 4, 4], 5.0]
    types = ["NoneType", "NoneType", "ScratchError", "NoneType", "ScratchError", "NoneType"]
    assert run(body) == [each, each, types, True, "ScratchError", 1]


def test_where_there_are_no_more_descriptors_large_values_fail_by_name_and_the_pool_goes_on(run):
    body = """
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 4096))
    with runwide.Pool(1) as pool:
        found = [pool.map(abs, [-1])]
        items = [large(1), 2]
        exhaust()
        async_results = [pool.map_async(len, items[:1]), pool.map_async(abs, [-2]), pool.map_async(large, [3])]
        for result in async_results:
            result.wait()
        release()
        for result in async_results:
            try:
                found.append(result.get())
            except runwide.RunwideError as error:
                found.append([type(error).__name__, error.item, "Too many open files" in str(error)])
        found.append(described(pool.map(large, [3, 4])))
    """
    assert run(body) == [[1], ["ScratchError", 0, True], [2], ["ScratchError", 0, True], [3.0, 4.0]]


def test_a_worker_that_dies_where_there_are_no_more_descriptors_costs_its_task(run):
    body = """
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 4096))
    with runwide.Executor(1) as executor:
        found = [executor.submit(abs, -1).result()]
        exhaust()
        died = executor.submit(os._exit, 3)
        died.exception()
        release()
        found += [type(died.exception()).__name__, executor.submit(abs, -2).result()]
    """
    assert run(body) == [1, "WorkerDied", 2]


def test_a_file_instead_of_the_directory_is_named(run):
    body = """
    with runwide.Pool(1) as pool:
        found = [described(pool.map(lambda x: large(x), [1]))]
        for folder in folders():
            shutil.rmtree(folder)
            open(folder, "w").close()
        for attempt in (lambda: pool.map(lambda x: large(x), [1, 2]), lambda: pool.map(len, [large(1), large(2)])):
            try:
                attempt()
            except runwide.RunwideError as error:
                found.append([type(error).__name__, error.item, "Not a directory" in str(error)])
        found.append(pool.map(abs, [-1]))
        for folder in folders():
            os.unlink(folder)
        found.append(described(pool.map(lambda x: large(x), [1])))
    """
    named = ["ScratchError", 0, True]
    assert run(body) == [[1.0], named, named, [1], [1.0]]


MOUNTED = ("unshare", "--map-root-user", "--mount")


@pytest.fixture
def mounts():
    if subprocess.run(
        [*MOUNTED, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine does not allow users to mount file systems")


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("run", ["one directory"], indirect=True)
def test_a_file_system_that_becomes_read_only_is_named(run):
    body = """
    root = os.environ["RUNWIDE_SCRATCH"]
    os.system(f"mount -t tmpfs tmpfs {root}")
    with runwide.Executor(1) as executor:
        found = [executor.submit(abs, -1).result()]
        os.system(f"mount -t tmpfs -o ro tmpfs {root}")
        for task, item in ((len, large(1)), (large, 2), (abs, -2)):
            future = executor.submit(task, item)
            error = future.exception()
            found.append(future.result() if error is None else [type(error).__name__, "Read-only" in str(error)])
        died = executor.submit(os._exit, 3)
        found.append(type(died.exception()).__name__)
        found.append(executor.submit(abs, -3).result())  # of a new worker
        os.system(f"umount {root}")
        found.append(described([executor.submit(large, 3).result()]))
    """
    named = ["ScratchError", True]
    assert run(body, *MOUNTED) == [1, named, named, 2, "WorkerDied", 3, [3.0]]


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("run", ["one directory"], indirect=True)
def test_a_disk_that_is_full_to_the_last_block_keeps_no_worker_from_starting(run):
    body = """
    root = os.environ["RUNWIDE_SCRATCH"]
    os.system(f"mount -t tmpfs -o size=1m tmpfs {root}")
    with runwide.Executor(2) as executor:
        with open(f"{root}/filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass
        found = [executor.submit(abs, -1).result(), type(executor.submit(large, 2).exception()).__name__]
        os.unlink(f"{root}/filler")
        found += [executor.submit(abs, -3).result(), len(executor.submit(bytes, MEGABYTE >> 1).result())]
    """
    assert run(body, *MOUNTED) == [1, "ScratchFull", 3, 1 << 19]


EXHAUSTED = """
import json, os, resource, sys
import runwide.pool.mapping, runwide.events.trace
import runwide, runwide.api.stored_pool, runwide.pickling.for_workers  # and nothing that only a failure needs

def task(x):
    return bytes(1 << 20) if x == 1 else x

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
{hold}
{before}
with runwide.Executor(1) as executor:
    {first}
    exhaust()
    error = executor.submit({submitted}).exception()
    release()
    print(json.dumps([type(error).__name__, str(error), executor.submit(abs, -2).result()]))
"""

FIRST = "executor.submit(abs, -1).result()"
LATE_THREAD = """
import signal, time
mask = signal.pthread_sigmask
signal.pthread_sigmask = lambda *words: time.sleep(0.3) or mask(*words)
"""
TOO_MANY = "Too many open files"

EXHAUSTIONS = {  # code before the pool, first code in it; the submitted code; type and words of its error
    "before the first worker": ("", "", "abs, -1", "WorkerDied", TOO_MANY),
    "before the pool's own thread runs": (LATE_THREAD, "", "abs, -1", "WorkerDied", TOO_MANY),
    "before a large item": ("", FIRST, "len, bytes(1 << 20)", "ScratchError", TOO_MANY),
    "before a large result": ("", FIRST, "task, 1", "ScratchError", TOO_MANY),
    "before an exception": ("", FIRST, "divmod, 1, 0", "ZeroDivisionError", ""),
    "before a death": ("", FIRST, "os._exit, 3", "WorkerDied", ""),
}


@pytest.mark.parametrize("moment", EXHAUSTIONS)
def test_no_free_descriptor_at_any_moment_is_reported_by_name_and_ends_no_pool(moment):
    before, first, submitted, kind, words = EXHAUSTIONS[moment]
    program = EXHAUSTED.format(hold=HOLD, before=before, first=first, submitted=submitted)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    name, message, after = json.loads(done.stdout)
    assert (name, after) == (kind, 2)
    assert words in message


def exhaust(item):
    import resource

    import numpy as np

    if item == 5:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        kept = sys.modules.setdefault("kept_by_this_test", [])  # type: ignore[arg-type]
        with suppress(OSError):
            while True:
                kept.append(os.open(os.devnull, os.O_RDONLY))  # type: ignore[attr-defined]
    return np.full(1 << 16, float(item))


def test_a_worker_that_has_no_descriptors_left_is_replaced_before_it_fails_task_after_task():
    outcomes = runwide.map(exhaust, range(30), workers=1, chunksize=1, on_error="return")
    failed = [index for index, one in enumerate(outcomes) if isinstance(one, Failure)]
    assert failed in ([5], [5, 6])  # one may be in its hands already
    assert outcomes[5].exception.errno == errno.EMFILE
