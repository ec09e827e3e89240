"""If a program ignores the ends of its children, a worker's end is still found, and no false status is reported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runwide.causes import Cause
from runwide.pool.policy import cause_of_death
from runwide.pool.process import UNKNOWN

pytestmark = pytest.mark.faults

PROGRAM = """
import ctypes, json, os, signal, sys, threading, time
import runwide

def task(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x

def ignore():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

def do_not_wait():
    "SA_NOCLDWAIT, with a handler of the program's own."
    class Action(ctypes.Structure):
        _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_int),
                    ("restorer", ctypes.c_void_p)]
    ctypes.CDLL(None).sigaction(signal.SIGCHLD, ctypes.byref(Action(None, flags=2)), None)

def reap():
    "Another part of the program waits for all children."
    def wait():
        while True:
            try:
                os.wait()
            except ChildProcessError:
                time.sleep(0.001)
    threading.Thread(target=wait, daemon=True).start()

def nothing():
    pass

if __name__ == "__main__":
    {how}()
    found = []
    results = runwide.map(task, range(6), workers=2, on_error="return")
    failure = results.pop(3)
    found.append([results, failure.type, failure.kind.value, failure.exception.exitcode, str(failure.exception)])
    with runwide.Executor(1) as executor:
        died = executor.submit(task, 3).exception()
        found.append([died.exitcode, executor.submit(task, 4).result()])
    with runwide.Pool(1) as pool:
        found.append([pool.apply(task, (1,)), pool.map(task, range(3))])
    print(json.dumps(found))
"""


INHERITED = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


def run(how: str, *wrapper: str) -> list:
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", PROGRAM.replace("{how}", how)],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    assert "Exception in thread" not in done.stderr
    assert "status 0" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("how", "wrapper"),
    [
        ("ignore", ()),
        ("do_not_wait", ()),
        ("reap", ()),
        ("nothing", (sys.executable, "-c", INHERITED)),
    ],
)
def test_an_unknown_status_is_reported_as_unknown(how, wrapper):
    mapped, submitted, pooled = run(how, *wrapper)
    results, kind, why, exitcode, message = mapped
    assert (results, kind, why) == ([0, 1, 2, 4, 5], "WorkerDied", "crash")
    assert exitcode in (None, -9) if how == "reap" else exitcode is None
    assert "status 0" not in message
    assert exitcode is not None or "an unknown status, since this program ignores SIGCHLD" in message
    assert submitted[0] in (None, -9)
    assert (submitted[1], pooled) == (4, [1, [0, 1, 2]])


def test_a_status_that_is_known_is_said():
    mapped, submitted, _ = run("nothing")
    assert mapped[3] == submitted[0] == -9
    assert "SIGKILL" in mapped[4]


def test_an_oom_kill_is_recognised_by_its_counter_though_the_status_is_unknown():
    assert cause_of_death(UNKNOWN, timed_out=False, oom_credits=1) is Cause.OUT_OF_MEMORY
    assert cause_of_death(UNKNOWN, timed_out=False, oom_credits=0) is Cause.UNKNOWN
    assert cause_of_death(UNKNOWN, timed_out=True, oom_credits=1) is Cause.TIMEOUT
    assert Cause.UNKNOWN.kind.value == "crash"


def test_if_no_worker_starts_an_unknown_status_is_none(tmp_path):
    (tmp_path / "encodings").mkdir()
    (tmp_path / "encodings" / "__init__.py").write_text("raise ImportError('no such codec')")
    program = f"""
import os, signal, runwide
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
try:
    runwide.map(abs, [1], workers=1)
except runwide.RunwideError as error:
    print(type(error).__name__, error.exitcode, "unknown" in str(error), "no such codec" in error.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "WorkerDied None True True\n"
