"""A pool that is interrupted, or lacks a resource, leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.faults


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=280
    )


INTERRUPTED = """
import dis, gc, linecache, os, sys, threading, time, warnings
import runwide
from runwide.pool.process import children

warnings.simplefilter("ignore", ResourceWarning)  # of a pool that was interrupted before its block was entered
HERE = os.path.dirname(runwide.__file__)
LAST = {"_leaked", "_close_all"}  # what the interpreter itself calls, where an interrupt is lost in any case

def once(how):
    if how == "map":
        runwide.map(abs, range(40), workers=1)
    elif how == "pool":
        with runwide.Pool(1) as pool:
            pool.map(abs, range(40))
    else:
        with runwide.Executor(1) as executor:
            executor.submit(abs, -1).result()

def handles_none(frame):
    "Whether Python handles no signal here: at what does nothing, or from the last call in a `with` to its `__exit__`."
    code, line = frame.f_code, frame.f_lineno
    if code.co_code[frame.f_lasti] == dis.opmap["NOP"]:  # of a `try`, say; no handler covers it
        return True
    if not linecache.getline(code.co_filename, line).lstrip().startswith("with "):
        return False
    return frame.f_lasti > min(start for start, _end, of in code.co_lines() if of == line)

def lines_of(how, interrupt_at):
    "Run it, with a KeyboardInterrupt at that line of ours; how many lines there were."
    count = 0
    def trace(frame, event, _argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(HERE) or frame.f_code.co_name in LAST:
            return None
        if event == "line" and not handles_none(frame):
            count += 1
            if count == interrupt_at:
                raise KeyboardInterrupt
        return trace
    sys.settrace(trace)  # of this thread
    try:
        once(how)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return count

def left():
    gc.collect()
    mark = f"-{os.getpid()}-"
    folders = [name for root in ("/dev/shm", "/tmp") for name in os.listdir(root) if mark in name]
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("runwide")]
    return [*folders, *threads, *(pid for pid in children(os.getpid()) if pid not in TRACKERS)]

how, parts = sys.argv[1], int(sys.argv[2])
once(how)
runwide.shutdown()
TRACKERS = children(os.getpid())
before = len(os.listdir("/proc/self/fd"))
number = lines_of(how, 0)
runwide.shutdown()
for turn in range(parts):
    at = 1 + turn * number // parts
    lines_of(how, at)
    runwide.shutdown()
    deadline = time.monotonic() + 60
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    if left():
        sys.exit(f"interrupted at line {at} of {number}: {left()}")
after = len(os.listdir("/proc/self/fd"))
if after != before:
    sys.exit(f"{before} descriptors before, {after} after")
print(number)
"""


@pytest.mark.parametrize("how", ["map", "pool", "executor"])
def test_an_interrupt_at_any_line_leaves_no_thread_process_descriptor_or_file(how):
    done = run(INTERRUPTED, how, "150")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


NO_MORE = """
import os, resource, time
import runwide

def task(x):
    time.sleep(0.05)
    return x

if __name__ == "__main__":
    with runwide.Pool(4) as pool:
        assert pool.map(task, [0]) == [0]
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, 4096))  # enough for one more
        print(pool.map(task, range(20)) == list(range(20)))
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        print(pool.map(task, range(20)) == list(range(20)))
"""


def test_where_no_further_worker_can_be_started_those_that_run_do_all():
    done = run(NO_MORE)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr
    assert "pool.narrowed" in done.stderr
    assert "ResourceWarning" not in done.stderr
