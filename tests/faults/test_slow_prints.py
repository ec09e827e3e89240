"""Entries of what tasks print are made beside the scheduler: however long that takes, results go on arriving."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.faults

HEAD = """
import os, sys, threading, time
import runwide, runwide.log
import state

def note(logger, method, event):
    return {**event, "thread": threading.current_thread().name}

def configure(*processors):
    runwide.log.configure(format="json", level="critical", processors=processors)
"""


@pytest.fixture
def program(tmp_path):
    """Runs a program; returns the entries of its standard output, and of standard error."""

    def run(text, code=0, **variables):
        (tmp_path / "program.py").write_text(HEAD + text)
        (tmp_path / "state.py").write_text("import threading\narrived = threading.Event()\n")
        done = subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
            env={**os.environ, **variables},
        )  # fmt: skip
        assert done.returncode == code, done.stderr[-3000:]
        return [[json.loads(line) for line in out.splitlines()] for out in (done.stdout, done.stderr)]

    return run


WAYS = {
    "map": "runwide.map(work, range(6), workers=2)",
    "imap": "list(runwide.imap_unordered(work, range(6), workers=2))",
    "executor": "with runwide.Executor(2) as executor: list(executor.map(work, range(6)))",
    "pool": "with runwide.Pool(2, maxtasksperchild=1) as pool: pool.map(work, range(6))",
    "a death": "runwide.map(dies, range(6), workers=2, on_error='return', retries=0)",
    "no worker": """
    try:
        runwide.map(work, range(6), workers=1, initializer=fails)
    except runwide.RunwideError:
        pass""",
}


@pytest.mark.parametrize("way", WAYS)
def test_no_printed_line_is_made_an_entry_on_the_schedulers_thread(program, way):
    out, error = program(f"""
def work(x):
    print("said", x)
    if x == 0:
        print("{{x=" + "Ab-_9-" * 170_000)
    if x == 5:
        print("half", end="")
    print("error", file=sys.stderr)

def dies(x):
    work(x)
    sys.stdout.flush()
    os._exit(3)

def fails():
    work(1)
    raise ValueError("no")

if __name__ == "__main__":
    configure(note)
    {WAYS[way]}
""")
    assert {line["thread"] for line in out + error} == {"runwide-output"}
    messages = [line["message"] for line in out]
    if way != "no worker":
        assert {f"said {x}" for x in range(6)} <= set(messages)
        assert sum(len(message) > 50_000 for message in messages) == messages.count("said 0")
        assert len(error) >= 6
        assert "half" in messages


MEANWHILE = {
    "results": "pass",
    "a death": "x == 2 and not os.path.exists('died') and (open('died', 'w').close(), os._exit(3))",
    "prints": "print('more', flush=True)",
    "a call's end": "pass",
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_processor_may_wait_for_results_that_come_later(program, meanwhile):
    calls = "runwide.map(abs, [-1], workers=1)" if meanwhile == "a call's end" else "None"
    out, _ = program(f"""
def wait(logger, method, event):
    if event["event"].startswith("first"):
        return {{**event, "waited": state.arrived.wait(100)}}
    return event

def work(x):
    if x == 0:
        print("first")
        return x
    {MEANWHILE[meanwhile]}
    return x

if __name__ == "__main__":
    from runwide.pool import prints
    prints._SECONDS = 1.0
    configure(wait)
    for x in runwide.imap_unordered(work, range(40), workers=2, chunksize=1):
        if x == 39:
            {calls}
            state.arrived.set()
""")
    (first,) = [line for line in out if line["message"] == "first"]
    assert first["waited"] is True
    assert len(out) == (40 if meanwhile == "prints" else 1)


def test_a_processor_that_waits_for_the_end_of_its_call_delays_that_and_no_more(program):
    out, _ = program("""
def wait(logger, method, event):
    return {**event, "waited": state.arrived.wait(100)}

def work(x):
    print("said", x)
    return x

if __name__ == "__main__":
    from runwide.pool import prints
    prints._SECONDS = 0.5
    configure(wait)
    assert runwide.map(work, range(3), workers=1) == [0, 1, 2]
    state.arrived.set()
""")
    assert [(line["message"], line["waited"]) for line in out] == [(f"said {x}", True) for x in range(3)]


def test_lines_that_are_printed_faster_than_written_wait_in_their_worker(program):
    out, _ = program("""
def wait(logger, method, event):
    return {**event, "waited": state.arrived.wait(100)}

def work(x):
    if x == 0:
        for _ in range(1000):
            print("x" * 1000)
        open("printed", "w").close()
    return x

if __name__ == "__main__":
    configure(wait)
    for x in runwide.imap_unordered(work, range(100), workers=2, chunksize=1):
        if x == 99:
            assert not os.path.exists("printed")
            state.arrived.set()
""")
    assert [(len(line["message"]), line["waited"]) for line in out] == [(1000, True)] * 1000


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ("pass", 0),
        ("sys.exit(4)", 4),
        ("raise SystemExit(5)", 5),
        ("threading.Thread(target=more).start()", 0),
    ],
)
def test_all_that_was_printed_is_written_before_the_program_ends(program, ends, code):
    out, _ = program(
        f"""
def slowly(logger, method, event):
    time.sleep(0.001)
    return event

def work(x):
    for number in range(50):
        print("said", number)

def more():
    runwide.map(work, range(10), workers=2)

if __name__ == "__main__":
    configure(slowly)
    executor = runwide.Executor(2)
    for future in [executor.submit(work, x) for x in range(10)]:
        future.result()
    {ends}
""",
        code,
    )
    assert len(out) == (1000 if "more" in ends else 500)


def test_what_waits_when_the_program_forks_is_written_once(program):
    out, _ = program("""
def wait(logger, method, event):
    state.arrived.wait(100)
    return {**event, "pid": os.getpid()}

def work(x):
    print("said", x)
    return x

if __name__ == "__main__":
    configure(wait)
    for x in runwide.imap(work, range(20), workers=2, chunksize=1):
        if x == 19:
            if os.fork() == 0:
                sys.exit(0)
            assert os.wait()[1] == 0
            state.arrived.set()
    print('{"message": "done", "pid": %d}' % os.getpid(), flush=True)
""")
    assert sorted(line["message"] for line in out) == sorted(["done", *(f"said {x}" for x in range(20))])
    assert len({line["pid"] for line in out}) == 1


def test_lines_carry_what_was_bound_when_they_were_printed_however_late_they_are_written(program):
    out, _ = program("""
def slowly(logger, method, event):
    time.sleep(0.01)
    return event

def work(x):
    for number in range(20):
        print("said", x)

if __name__ == "__main__":
    from runwide.pool import prints
    prints._SECONDS = 0.0
    configure(slowly)
    for job in range(5):
        with runwide.log.bound(job=str(job)):
            runwide.map(work, [job], workers=1)
""")
    assert [(line["message"], line["job"]) for line in out] == [
        (f"said {job}", str(job)) for job in range(5) for _ in range(20)
    ]
