"""The next pool sweeps the scratch of dead pools, and never that of a live one; also from another PID namespace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

NEW_PIDS = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@cache
def elsewhere() -> tuple[str, ...]:
    """Return the words that run a command in a PID namespace of its own, with the same files."""
    for command in (NEW_PIDS, (*NEW_PIDS, "--map-root-user")):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return pytest.fail("this machine makes no PID namespaces: run this as root")


@pytest.fixture(params=["one directory", "shared memory and a disk"])
def scratch(tmp_path, request):
    """The environment of programs that share scratch, and the directories above it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if request.param == "one directory":
        return {**os.environ, "RUNWIDE_SCRATCH": str(disk)}, [disk]
    return {**os.environ, "TMPDIR": str(disk)}, [Path("/dev/shm"), disk]


LIVE = """
import asyncio, json, sys, time
from pathlib import Path
import joblib
import numpy as np
import runwide

WORD, STORE = Path(sys.argv[1]), sys.argv[2]
ROUNDS = 3
bias = np.full(1 << 16, 1.0)  # the function has a file, too

def pools():
    "How many pools the other one has had."
    return len(WORD.read_bytes()) if WORD.exists() else 0

def items():
    "Large ones, until the other has had some more pools."
    first, x = pools(), 0
    while x < 8 or pools() < first + ROUNDS:
        time.sleep(0.02)
        yield np.full(1 << 16, float(x))
        x += 1

def task(item):
    return item + bias

def right(results):
    results = list(results)
    return len(results) >= 8 and [one[0] for one in results] == [x + 1.0 for x in range(len(results))]

def by_executor():
    with runwide.Executor(2) as executor:
        return [future.result() for future in [executor.submit(task, item) for item in items()]]

def by_pool():
    with runwide.Pool(2) as pool:
        return pool.map(task, items())

def by_joblib():
    runwide.register_joblib()
    with joblib.parallel_config(backend="runwide", n_jobs=2):
        return joblib.Parallel()(joblib.delayed(task)(item) for item in items())

surfaces = {
    "map": lambda: runwide.map(task, items(), workers=2),
    "imap": lambda: runwide.imap(task, items(), workers=2),
    "imap_unordered": lambda: sorted(runwide.imap_unordered(task, items(), workers=2), key=lambda one: one[0]),
    "amap": lambda: asyncio.run(runwide.amap(task, items(), workers=2)),
    "map with a store": lambda: runwide.map(task, items(), workers=2, store=STORE),
    "Executor": by_executor,
    "Pool": by_pool,
    "joblib": by_joblib,
}
if __name__ == "__main__":
    wrong = {}
    for name, surface in surfaces.items():
        try:
            if not right(surface()):
                wrong[name] = "wrong results"
        except Exception as error:
            wrong[name] = repr(error)
    print(json.dumps(wrong))
"""

OTHER = """
import sys
from pathlib import Path
import runwide

while not Path(sys.argv[2]).exists():
    assert runwide.map(len, [bytes(1 << 17)] * 2, workers=1) == [1 << 17] * 2
    with open(sys.argv[1], "a") as word:
        word.write(".")
"""


def test_pools_of_another_pid_namespace_sweep_no_live_pool(tmp_path, scratch):
    env, _ = scratch
    word, over, live = tmp_path / "word", tmp_path / "over", tmp_path / "live.py"
    live.write_text(LIVE)
    other = subprocess.Popen(
        [*elsewhere(), sys.executable, "-c", OTHER, str(word), str(over)], env=env, stderr=subprocess.PIPE
    )
    try:
        done = subprocess.run(
            [sys.executable, str(live), str(word), str(tmp_path / "store")],
            env=env, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
    finally:
        over.touch()
        _, noise = other.communicate(timeout=60)
    assert (done.returncode, other.returncode) == (0, 0), (done.stderr, noise)
    assert json.loads(done.stdout) == {}


PRINTED = """
import glob, os, sys
ROOTS = [os.environ["RUNWIDE_SCRATCH"]] if "RUNWIDE_SCRATCH" in os.environ else ["/dev/shm", os.environ["TMPDIR"]]

def found():
    return {folder for root in ROOTS for folder in glob.glob(f"{root}/runwide-{os.getpid()}-*")}

before = found()  # of others, whose process ids are those of another namespace

def folders():
    return found() - before

def tell(*words):
    print(*words, flush=True)
"""

POOL = f"""{PRINTED}
import time, runwide

def task(item):
    open(sys.argv[1], "w").close()
    time.sleep(3600)

def items():
    yield bytes(1 << 17)
    tell(*folders())

if __name__ == "__main__":
    runwide.map(task, items(), workers=2, chunksize=1)
"""

# Starts a pool, which sweeps.
NEXT = "import runwide; assert runwide.map(len, [bytes(1 << 17)], workers=1) == [1 << 17]"


def run(*command: str, env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def sweeps(until):
    """Starts pools until they have swept directories whose users were killed just now."""

    def sweeps(folders: list[Path], env: dict[str, str], *before: str) -> None:
        def gone() -> bool:
            run(*before, sys.executable, "-c", NEXT, env=env)
            return not any(folder.exists() for folder in folders)

        until(gone)

    return sweeps


def start(*command: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def kill(program: subprocess.Popen[str]) -> None:
    """Kill a program and all that it started, at once, so that none of them cleans up."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.communicate(timeout=60)


@pytest.mark.parametrize(
    "places", ["here, here", "here, elsewhere", "elsewhere, here", "elsewhere, elsewhere"]
)
def test_a_killed_pool_is_swept_by_the_next(tmp_path, scratch, until, sweeps, places):
    env, roots = scratch
    killed, swept = [elsewhere() if place == "elsewhere" else () for place in places.split(", ")]
    program, running = tmp_path / "program.py", tmp_path / "running"
    program.write_text(POOL)
    pool = start(*killed, sys.executable, str(program), str(running), env=env)
    folders = [Path(word) for word in pool.stdout.readline().split()]
    until(running.exists)
    assert len(folders) == len(roots)
    assert all(folder.exists() for folder in folders)
    kill(pool)
    assert all(folder.exists() for folder in folders if is_swept_by_nobody_else(folder))
    sweeps(folders, env, *swept)


def is_swept_by_nobody_else(folder: Path) -> bool:
    """Pools of other tests share this machine's memory, and may come first there."""
    return not folder.is_relative_to("/dev/shm")


ALONE = f"""{PRINTED}
import multiprocessing, signal, subprocess
from runwide.pool.scratch import Scratch, roots

def by_fork():
    pid = os.fork()
    if not pid:
        signal.pause()
    return pid

def by_multiprocessing():
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    return child.pid

def by_starting_a_program():
    return subprocess.Popen(["sleep", "3600"], close_fds=False).pid

Scratch.create(*roots())
tell(globals()[sys.argv[1]](), *folders())
"""
CHILDREN = ["by_fork", "by_multiprocessing", "by_starting_a_program"]


def alone(how: str, env: dict[str, str], *, then: str) -> tuple[subprocess.Popen[str], int, list[Path]]:
    """Start a program that makes scratch and a child, then runs a line; return it, the child and the directories."""
    program = start(sys.executable, "-c", f"{ALONE}\n{then}", how, env=env)
    child, *folders = program.stdout.readline().split()
    assert folders
    return program, int(child), [Path(folder) for folder in folders]


@pytest.mark.parametrize("how", CHILDREN)
def test_a_child_that_outlives_its_program_keeps_no_scratch(scratch, sweeps, how):
    env, _ = scratch
    program, child, folders = alone(how, env, then="os.kill(os.getpid(), signal.SIGKILL)")
    try:
        assert program.wait(timeout=60) == -signal.SIGKILL
        assert all(folder.exists() for folder in folders if is_swept_by_nobody_else(folder))
        sweeps(folders, env)
        os.kill(child, 0)  # it lives
    finally:
        kill(program)


@pytest.mark.parametrize("how", CHILDREN)
def test_a_child_that_ends_does_not_unlock_the_scratch_of_its_program(scratch, how):
    env, _ = scratch
    program, child, folders = alone(how, env, then="tell(os.waitpid(int(input()), 0)[0]); input()")
    try:
        os.kill(child, signal.SIGTERM)
        program.stdin.write(f"{child}\n")
        program.stdin.flush()
        assert program.stdout.readline() == f"{child}\n"
        run(sys.executable, "-c", NEXT, env=env)
        assert all(folder.exists() for folder in folders)
    finally:
        kill(program)


def test_what_a_worker_makes_again_after_a_cleaner_is_kept_for_it(scratch, sweeps):
    env, _ = scratch
    maker = f"{PRINTED}\nfrom runwide.pool.scratch import Scratch, roots\n"
    pool = start(
        sys.executable, "-c", f"{maker}\nscratch = Scratch.create(*roots())\ntell(*scratch.directories)\ninput()",
        env=env,
    )  # fmt: skip
    folders = pool.stdout.readline().split()
    shutil.rmtree(folders[0])
    worker = start(
        sys.executable, "-c", f"{maker}\ntell(Scratch(tuple(sys.argv[1:])).write([bytes(100)])[0])\ninput()", *folders,
        env=env,
    )  # fmt: skip
    try:
        path = Path(worker.stdout.readline().strip())
        assert str(path.parent) == folders[0]
        run(sys.executable, "-c", NEXT, env=env)
        assert path.read_bytes() == bytes(100)
    finally:
        kill(worker)
        kill(pool)
    sweeps([Path(folder) for folder in folders], env)


STORM = """
import os, sys
from runwide.pool.scratch import Scratch

for turn in range(150):
    scratch = Scratch.create(sys.argv[1])
    (folder,) = scratch.directories
    made = os.stat(folder).st_ino
    path, _ = scratch.write([bytes(10)])
    assert os.stat(folder).st_ino == made and os.path.exists(path), "it was swept"
    scratch.remove()
    assert not os.path.exists(folder)
"""


def test_pools_that_start_at_one_time_sweep_nothing_of_each_other(tmp_path):
    (tmp_path / "disk").mkdir()
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", STORM, str(tmp_path / "disk")], stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    assert [program.communicate(timeout=200)[1] for program in programs] == [""] * 6
    assert list((tmp_path / "disk").iterdir()) == []


# As a sandbox does, and as a file system without locks answers.
NO_LOCKS = """
import ctypes, errno, os, platform, struct

NUMBER = {"x86_64": 73, "aarch64": 32}[platform.machine()]  # of flock
LOAD, EQUAL, RETURN, ERRNO, ALLOW = 0x20, 0x15, 0x06, 0x00050000, 0x7FFF0000
CODE = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, NUMBER), (RETURN, 0, 0, ERRNO | errno.ENOTSUP), (RETURN, 0, 0, ALLOW)]

class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

code = b"".join(struct.pack("HBBI", *line) for line in CODE)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(Filter(len(CODE), code)), 0, 0) == 0  # PR_SET_SECCOMP
"""


@pytest.mark.parametrize("sweeper", ["with locks", "without locks"])
def test_where_there_are_no_locks_a_pool_works_and_is_not_swept(tmp_path, scratch, until, sweeper):
    env, _ = scratch
    program, running = tmp_path / "program.py", tmp_path / "running"
    program.write_text(f"{NO_LOCKS}\n{POOL}")
    pool = start(sys.executable, str(program), str(running), env=env)
    try:
        folders = [Path(word) for word in pool.stdout.readline().split()]
        until(running.exists)
        run(sys.executable, "-c", NEXT if sweeper == "with locks" else f"{NO_LOCKS}\n{NEXT}", env=env)
        assert folders
        assert all(folder.exists() for folder in folders)
    finally:
        kill(pool)
        for folder in folders:  # it is never swept
            shutil.rmtree(folder)


def test_a_pool_that_starts_without_a_free_descriptor_is_not_swept(scratch):
    env, _ = scratch
    body = """
import resource, subprocess
from runwide.pool.scratch import Scratch, roots

places = roots()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))  # the standard ones
scratch = Scratch.create(*places)
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
tell(*scratch.directories)
input()
path, _ = scratch.write([bytes(100)])
tell(path)
scratch.remove()
"""
    program = start(sys.executable, "-c", f"{PRINTED}{body}", env=env)
    try:
        folders = [Path(word) for word in program.stdout.readline().split()]
        run(sys.executable, "-c", NEXT, env=env)
        assert folders
        assert all(folder.exists() for folder in folders)
        written, _ = program.communicate("\n", timeout=60)
        assert Path(written.strip()).parent in folders
        assert not any(folder.exists() for folder in folders)
    finally:
        kill(program)
