"""Programs on systems without Linux's interfaces, such as macOS, where psutil and pgrep list processes.

These tests need no Mac. A mount namespace that covers ``/proc``, ``/sys`` and ``/dev/shm`` replaces one, for a program and
its children. Names that the interpreter has on Linux only are deleted before the program begins. Only psutil and pgrep read
the real ``/proc``, each in its own way.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

# Gives the program's interpreter, and each that it starts, what one on macOS has.
NO_LINUX = """
import os, select, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)  # its default there
for module, names in (
    (os, "pidfd_open sched_getaffinity sched_setaffinity sendfile splice memfd_create eventfd posix_fadvise O_PATH"),
    (select, "epoll"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
os.process_cpu_count = os.cpu_count
if {without_psutil}:
    sys.modules["psutil"] = None
else:
    import psutil
    psutil.PROCFS_PATH = {proc!r}
"""
COVERED = """
set -e
mount -t tmpfs none "$1/dev"
for name in full null random tty urandom zero; do
    : >"$1/dev/$name"
    mount --bind "/dev/$name" "$1/dev/$name"
done
mount --rbind "$1/dev" /dev
mount --rbind /proc "$1/proc"
mount -t tmpfs none /sys
mount -t tmpfs none /proc
shift
exec "$@"
"""
PGREP = """#!/bin/sh
exec unshare --mount sh -c 'umount /proc && exec {pgrep} "$@"' pgrep "$@"
"""
UNSHARE = ("unshare", "--map-root-user", "--mount")

HELPERS = """
import fcntl, glob, json, os, pathlib, signal, subprocess, sys, time
import numpy as np
import runwide

def linux_left():
    found = [path for path in ("/proc/self", "/sys/devices", "/dev/shm") if os.path.exists(path)]
    return found + [name for name in ("pidfd_open", "sched_getaffinity", "sendfile") if hasattr(os, name)]

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)

def is_held(lock):
    "Whether a process that lives has a lock; one that has ended and waits for its burial has none."
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

HOLD = '''
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
'''
BELOW_A_SHELL = ("sh", "-c", '"$@" & wait', "sh")

def start_holder(lock, *before):
    "Start a child, or a child of an earlier one, that holds a lock while it lives."
    child = subprocess.Popen([*before, sys.executable, "-S", "-c", HOLD, lock], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\\n"
    return child

def start_holders_and_stay(lock):
    start_holder(lock)
    start_holder(lock + "-below", *BELOW_A_SHELL)
    pathlib.Path("up").touch()
    time.sleep(600)

def scratch():
    return set(glob.glob(os.environ["TMPDIR"] + "/runwide-*"))
"""


WITH_EITHER = pytest.mark.parametrize("elsewhere", ["psutil", "pgrep"], indirect=True)


@pytest.fixture
def elsewhere(request, tmp_path):
    """Runs a program where nothing of Linux is left, and returns what it has found; its directory has the helpers."""
    teller = getattr(request, "param", "pgrep")
    machine, temporary = tmp_path / "machine", tmp_path / "tmp"
    for name in ("dev", "proc", "bin", "python"):
        (machine / name).mkdir(parents=True)
    temporary.mkdir()
    command = [*UNSHARE, "sh", "-c", COVERED, "sh", str(machine)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow users to mount file systems")
    if teller == "psutil" and importlib.util.find_spec("psutil") is None:
        pytest.skip("psutil is not installed here, as it is on macOS")
    no_linux = NO_LINUX.format(proc=str(machine / "proc"), without_psutil=teller != "psutil")
    (machine / "python" / "sitecustomize.py").write_text(no_linux)
    (machine / "bin" / "pgrep").write_text(PGREP.format(pgrep=shutil.which("pgrep")))
    (machine / "bin" / "pgrep").chmod(0o755)
    (tmp_path / "helpers.py").write_text(HELPERS)
    path = [str(machine / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        **os.environ,
        "PATH": f"{machine / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path),
        "TMPDIR": str(temporary),
    }

    def run(body: str) -> object:
        program = tmp_path / "program.py"
        program.write_text(f"from helpers import *\n{textwrap.dedent(body)}\nprint(json.dumps(found))\n")
        done = subprocess.run(
            [*command, sys.executable, str(program)],
            env=env, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not list(temporary.glob("runwide-*"))
        return json.loads(done.stdout.splitlines()[-1])

    run.teller = teller
    return run


def test_nothing_of_linux_is_left_for_the_program_and_its_workers(elsewhere):
    found = elsewhere("found = [linux_left(), *runwide.map(lambda _: linux_left(), [1, 2], workers=2)]")
    assert found == [[], [], []]


def test_every_surface_works(elsewhere):
    body = """
    import asyncio
    from joblib import Parallel, delayed, parallel_config
    def square(x):
        return x * x
    async def mapped():
        return await runwide.amap(square, items, workers=2)
    items = [1, 2, 3]
    found = [
        runwide.map(square, items, workers=2), list(runwide.imap(square, items, workers=2)),
        sorted(runwide.imap_unordered(square, items, workers=2)), asyncio.run(mapped()),
        runwide.map(square, items, workers=2, store="store"),
    ]
    with runwide.Executor(2) as executor, runwide.Pool(2) as pool:
        found += [list(executor.map(square, items)), pool.map(square, items), list(pool.imap(square, items))]
    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=2):
        found.append(Parallel()(delayed(square)(x) for x in items))
    job = runwide.scatter(square, items, store="store", shards=2)
    found.append(runwide.gather(job, [runwide.shard(job, index, workers=2) for index in range(2)]))
    """
    assert elsewhere(body) == [[1, 4, 9]] * 10


def test_large_arrays_go_through_files_of_the_temporary_directory(elsewhere):
    body = """
    base = np.ones(1 << 18)
    def added(array):
        array += base
        return array
    results = runwide.map(added, [np.full(1 << 18, float(x)) for x in range(6)], workers=2)
    found = [[one[0], one[-1], one.flags.writeable] for one in results]
    """
    assert elsewhere(body) == [[x + 1.0, x + 1.0, True] for x in range(6)]


def test_a_function_whose_file_a_cleaner_has_removed_is_restored(elsewhere):
    body = """
    base = np.ones(1 << 18)
    def sums(x):
        return float(base[0] + x)
    def clean(x):
        for folder in scratch():
            for path in pathlib.Path(folder).iterdir():
                path.unlink()
        return sums(x)
    with runwide.Pool(1, maxtasksperchild=1) as pool:
        found = pool.map(clean, range(3), chunksize=1)
    """
    assert elsewhere(body) == [1.0, 2.0, 3.0]


def test_a_pool_is_not_swept_by_another_one(elsewhere):
    """No directory of processes tells there whether one lives."""
    body = """
    with runwide.Executor(1) as executor:
        executor.submit(abs, 1).result()
        before = scratch()
        subprocess.run([sys.executable, "-c", "import runwide; runwide.map(abs, [1], workers=1)"], check=True)
        found = [len(before), before == scratch()]
    """
    assert elsewhere(body) == [1, True]


def test_deaths_are_reported(elsewhere):
    body = """
    def end(x):
        if x == 1:
            os._exit(7)
        if x == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if x == 3:
            sys.exit(9)
        return x
    results = runwide.map(end, range(5), workers=2, on_error="return")
    found = [one if isinstance(one, int) else [one.type, one.exception.exitcode] for one in results]
    """
    assert elsewhere(body) == [0, ["WorkerDied", 7], ["WorkerDied", -9], ["WorkerDied", 9], 4]


def test_a_task_that_outlasts_its_time_is_stopped_alone(elsewhere):
    body = """
    results = runwide.map(time.sleep, [600, 0, 0], workers=2, timeout=1, on_error="return")
    found = [results[0].type, *results[1:]]
    """
    assert elsewhere(body) == ["TaskTimeout", None, None]


@WITH_EITHER
def test_a_worker_that_is_killed_takes_along_all_that_its_task_has_started(elsewhere):
    body = """
    with runwide.Pool(1) as pool:
        pool.apply_async(start_holders_and_stay, ["lock"])
        until(lambda: os.path.exists("up"))
        found = [is_held("lock"), is_held("lock-below")]
        pool.terminate()
    until(lambda: not is_held("lock") and not is_held("lock-below"))
    """
    assert elsewhere(body) == [True, True]


@WITH_EITHER
def test_a_tree_of_processes_is_found_and_killed(elsewhere):
    body = """
    from runwide.pool.process import children, kill_tree
    shell = start_holder("lock", *BELOW_A_SHELL)
    found = [is_held("lock"), shell.pid in children(os.getpid()), len(children(shell.pid))]
    kill_tree(shell.pid)
    shell.wait()
    until(lambda: not is_held("lock"))
    found.append(children(shell.pid))
    """
    assert elsewhere(body) == [True, True, 1, []]


@WITH_EITHER
def test_workers_and_what_they_have_started_end_with_a_program_that_is_killed(elsewhere, tmp_path):
    (tmp_path / "killed.py").write_text(
        "from helpers import *\nrunwide.map(start_holders_and_stay, ['lock'], workers=1)\n"
    )
    body = """
    with subprocess.Popen([sys.executable, "killed.py"]) as program:
        until(lambda: os.path.exists("up"))
        found = [is_held("lock"), is_held("lock-below"), len(scratch())]
        program.kill()
    until(lambda: not is_held("lock") and not is_held("lock-below"))
    until(lambda: not scratch())
    """
    assert elsewhere(body) == [True, True, 1]


@WITH_EITHER
def test_cores_and_memory_are_reported_with_their_source(elsewhere):
    body = """
    from runwide.host import memory
    counted, room = runwide.cores(), memory.read()
    steps = {step.name: step.source for step in counted.steps}
    found = {
        "sources": [steps["online"], steps["topology"], counted.decided_by],
        "notes": [problem.instead for problem in counted.problems],
        "counts": [counted.count == counted.physical, counted.logical == os.cpu_count()],
        "memory": [room.limit, bool(room.total), bool(room.available), bool(memory.rss(os.getpid()))],
    }
    """
    found, knows = elsewhere(body), elsewhere.teller == "psutil"
    topology = "psutil.cpu_count(logical=False)" if knows else "one CPU, one core"
    assert found["sources"] == ["os.cpu_count()", topology, "cores"]
    assert found["notes"][-1] == ("used psutil" if knows else "took each CPU for a core")
    assert found["counts"] == [True, True]
    assert found["memory"] == [None, knows, knows, knows]


@WITH_EITHER
def test_the_doctor_finds_nothing_against_a_job(elsewhere):
    body = """
    doctor = [sys.executable, "-m", "runwide.cli", "doctor", "--json"]
    done = subprocess.run(doctor, capture_output=True, text=True)
    checks = json.loads(done.stdout)["checks"]
    found = [done.returncode, [check["name"] for check in checks if check["state"] == "failure"]]
    """
    assert elsewhere(body) == [0, []]


@pytest.mark.parametrize("elsewhere", ["psutil"], indirect=True)
def test_a_worker_that_has_grown_is_replaced(elsewhere):
    body = """
    import itertools
    def grow_once(_):
        if not os.path.exists("grown"):
            runwide.kept = b"x" * (300 << 20)
            pathlib.Path("grown").touch()
        time.sleep(0.05)
        return os.getpid()
    pids = runwide.imap(grow_once, itertools.count(), workers=1, max_memory=200 << 20)
    first = next(pids)
    until(lambda: next(pids) != first)
    pids.close()
    found = "replaced"
    """
    assert elsewhere(body) == "replaced"
