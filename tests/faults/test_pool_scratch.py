"""With little room for large payloads, items and results wait; a payload for which there can be no room fails by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.faults

PREAMBLE = """
import gc, json, os, threading, time
import numpy as np
import runwide
from runwide.pool import outcomes
from runwide.records import Failure

def array(megabytes, x=0):
    return np.full(megabytes << 17, float(x))

def right(value, x, megabytes):
    return bool(value.shape == (megabytes << 17,) and value[0] == value[-1] == x)

def described(results):
    return [[one.type, one.index, one.exception.item] if isinstance(one, Failure) else "fine" for one in results]

def left():
    return sorted(path for folder, _, names in os.walk(os.environ["RUNWIDE_SCRATCH"]) for path in names)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a program whose scratch is a file system of so many megabytes, and returns what it prints as JSON."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mount = 'mount -t tmpfs -o "size=$1m" tmpfs "$RUNWIDE_SCRATCH" && shift && exec "$@"'

    def inside(megabytes: int, *command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "RUNWIDE_SCRATCH": str(scratch)}
        return subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(megabytes), *command],
            env=env, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip

    if inside(1, "true").returncode:
        pytest.skip("this machine does not allow users to mount small file systems")

    def run(megabytes: int, body: str) -> object:
        program = tmp_path / "program.py"
        main = textwrap.indent(textwrap.dedent(body), "    ")
        program.write_text(f'{PREAMBLE}\nif __name__ == "__main__":\n{main}\n    print(json.dumps(found))\n')
        done = inside(megabytes, sys.executable, str(program))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("events", ["None", "lambda event: None"])
def test_results_wait_until_those_before_them_are_consumed(run, events):
    body = """
    found = []
    for outcome in outcomes(lambda x: array(20, x), range(12), workers=2, on_event={events}):
        time.sleep(0.2)
        found.append(outcome.failure is None and right(outcome.value, outcome.index, 20))
        del outcome
    """
    assert run(50, body.format(events=events)) == [True] * 12


@pytest.mark.parametrize("workers", [2, 5])
def test_results_that_end_at_one_moment_do_not_take_the_room_from_each_other(run, workers):
    body = f"""
    moment = time.time() + 3  # when all have started
    def task(x):
        value = array(20, x)
        time.sleep(max(0, moment - time.time()))
        return value

    found = []
    for outcome in outcomes(task, range({workers}), workers={workers}):
        found.append(str(outcome.failure) if outcome.failure else right(outcome.value, outcome.index, 20))
        del outcome
    """
    assert run(30, body) == [True] * workers


def test_a_result_that_is_written_slowly_has_no_other_given_up(run):
    body = """
    moment = time.time() + 3  # when all have started
    def task(x):
        write = os.pwrite
        def slowly(*arguments):
            written = write(*arguments)
            time.sleep(2)
            return written
        os.pwrite = slowly
        value = array(20, x)
        time.sleep(max(0, moment - time.time()))
        return value

    found = []
    for outcome in outcomes(task, range(4), workers=4):
        found.append(str(outcome.failure) if outcome.failure else right(outcome.value, outcome.index, 20))
        del outcome
    """
    assert run(30, body) == [True] * 4


def test_waiting_for_room_is_no_part_of_a_timeout(run):
    body = """
    found = []
    for outcome in outcomes(lambda x: array(20, x), range(6), workers=2, timeout=2,
                            initializer=__import__, initargs=("numpy",)):
        time.sleep(1.2)
        found.append(str(outcome.failure) if outcome.failure else right(outcome.value, outcome.index, 20))
        del outcome
    """
    assert run(30, body) == [True] * 6


def test_who_dies_of_writing_a_result_is_given_up_after_two_deaths(run):
    body = """
    def task(x):
        def watch():
            while not any("-out" in name for _, _, names in os.walk(os.environ["RUNWIDE_SCRATCH"]) for name in names):
                pass
            os._exit(5)

        if x == 2:
            threading.Thread(target=watch, daemon=True).start()
            return bytes(100 << 20)
        return x

    found = described(runwide.map(task, range(4), workers=2, on_error="return"))
    """
    assert run(200, body) == ["fine", "fine", ["WorkerDied", 2, 2], "fine"]


def test_a_result_waits_for_the_room_that_a_running_task_has(run):
    body = """
    def task(item):
        if isinstance(item, int):
            time.sleep(0.2)
            return array(25, item)
        time.sleep(2.5)
        return "the other is done"

    results = runwide.map(task, [array(25), 7], workers=2)
    found = [results[0], right(results[1], 7, 25)]
    """
    assert run(40, body) == ["the other is done", True]


def test_a_result_does_not_wait_for_the_room_of_its_own_item(run):
    body = """
    found = []
    for value in runwide.imap(lambda value: value, (array(20, x) for x in range(4)), workers=1, chunksize=1):
        found.append(right(value, len(found), 20))
        del value
    """
    assert run(32, body) == [True] * 4


def test_what_never_fits_fails_by_name_and_the_pool_goes_on(run):
    body = """
    with runwide.Executor(2) as executor:
        def task(x):
            time.sleep(0.1)
            return array(200 if x == 2 else 1, x)
        futures = [executor.submit(task, x) for x in range(6)]
        failed = futures[2].exception()
        found = [type(failed).__name__, failed.item, str(failed).split(",")[0]]
        found += [right(future.result(), x, 1) for x, future in enumerate(futures) if x != 2]
        del futures, failed
        found.append(executor.submit(abs, -1).result())
    """
    assert run(50, body) == ["ScratchFull", 2, "item 2: no room for a payload of 209", *[True] * 5, 1]


def test_results_that_are_all_kept_fill_the_room_and_the_rest_fails_soon(run):
    body = """
    started = time.monotonic()
    results = runwide.map(lambda x: array(20, x), range(8), workers=2, on_error="return")
    found = [described(results), time.monotonic() - started]
    """
    results, seconds = run(50, body)
    assert results.count("fine") == 2
    assert [one for x, one in enumerate(results) if one != "fine"] == [
        ["ScratchFull", x, x] for x, one in enumerate(results) if one != "fine"
    ]
    assert seconds < 60


def test_several_results_that_fit_one_by_one_only_come_one_by_one(run):
    body = """
    def task(x):
        return array(6, x)

    found = []
    for outcome in outcomes(task, range(12), workers=1, chunksize=12):
        found.append(outcome.failure is None and right(outcome.value, outcome.index, 6))
        del outcome
    """
    assert run(10, body) == [True] * 12


def test_items_wait_until_results_are_consumed(run):
    body = """
    found = []
    arriving = outcomes(lambda value: value + 1, (array(20, x) for x in range(6)), workers=2)
    for outcome in arriving:
        time.sleep(0.3)
        found.append(outcome.failure is None and right(outcome.value, outcome.index + 1, 20))
        del outcome
    runwide.shutdown()
    found.append(left())
    """
    assert run(45, body) == [True] * 6 + [[]]


def test_nothing_is_left_in_scratch_when_a_worker_is_killed_while_its_result_waits(run):
    body = """
    import signal, threading
    from pathlib import Path
    from runwide.pool.process import children

    def kill():
        time.sleep(1.5)
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill).start()
    found = []
    with runwide.Pool(2) as pool:
        for value in pool.imap_unordered(lambda x: array(20, x), range(6)):
            time.sleep(1)
            found.append(value[0])
            del value
        found = [sorted(found), [name for name in left() if name != "turn" and not name.endswith(".status")]]
    """
    assert run(45, body) == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], []]


def test_unread_results_do_not_keep_a_pool_from_ending(run):
    body = """
    with runwide.Executor(2) as executor:
        unread = executor.map(lambda x: array(20, x), range(4))
    found = []
    try:
        for value in unread:
            found.append(value[0])
    except runwide.RunwideError as error:
        found.append([type(error).__name__, error.item])
    """
    *values, failed = run(50, body)
    assert values == [float(x) for x in range(len(values))]
    assert failed == ["ScratchFull", len(values)]
