"""The state that a worker takes over from the program that starts it, and the state that it does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import runwide


def run(program, *, loky=None, **how):
    """Return a program's output, parsed as JSON, and its standard error."""
    path = [str(loky)] if loky else []
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120,
        **{"env": env, **how},
    )  # fmt: skip
    return json.loads(done.stdout), done.stderr


ALL_AT_ONCE = """
import json, os, time, runwide
def descriptors(folder):
    open(f"{folder}/{os.getpid()}", "w").close()
    while len(os.listdir(folder)) < 3:
        time.sleep(0.01)
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass
    return os.getpid(), found
mine, theirs = os.pipe()
os.set_inheritable(mine, True)
found = runwide.map(descriptors, [os.getcwd()] * 3, workers=3, chunksize=1)
print(json.dumps([os.readlink(f"/proc/self/fd/{mine}"), found]))
"""


def test_workers_share_no_descriptors_but_those_of_the_trackers(tmp_path):
    (of_program, told), _ = run(ALL_AT_ONCE, cwd=tmp_path)
    assert len({pid for pid, _ in told}) == 3
    opened = [set(found.values()) for _, found in told]
    shared = (opened[0] & opened[1]) | (opened[0] & opened[2]) | (opened[1] & opened[2])
    assert of_program not in shared
    pipes = {one for one in shared if one.startswith("pipe:")}
    assert len(pipes) <= 2  # loky's tracker's and multiprocessing's
    assert not {one for one in shared if one.startswith("socket:")}


SIGNALS = """
import json, runwide, signal, subprocess
def described(_):
    child = subprocess.run(["sh", "-c", "exit 3"]).returncode
    blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    return [child, blocked, signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL]
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM])
print(json.dumps(runwide.map(described, [0], workers=1)[0]))
"""


def test_signals_that_the_program_ignores_or_blocks_are_a_workers_own_again():
    found, _ = run(SIGNALS)
    assert found == [3, [], True]


@pytest.mark.parametrize(
    "streams", ["sys.stdout = sys.stderr = None", "sys.stdout.close()", "sys.stderr.close()"]
)
def test_workers_start_whatever_the_programs_streams_are(streams):
    program = f"""
import os, sys, runwide
copy = os.dup(1)
{streams}
found = runwide.map(lambda x: x + 1, [1, 2], workers=2)
os.write(copy, str(found).encode())
"""
    found, _ = run(program)
    assert found == [2, 3]


def test_what_a_worker_writes_before_its_streams_are_the_pools_is_seen(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nprint('an early word', file=sys.stderr)\n")
    program = "import runwide; print(runwide.map(abs, [-1], workers=1))"
    found, words = run(program, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert found == [1]
    assert words.count("an early word") == 4  # the program, the two trackers, the worker


def test_the_trackers_end_with_the_program(until):
    program = """
import json, os, runwide
from pathlib import Path
from runwide.pool.process import children
runwide.map(abs, [-1], workers=1)
print(json.dumps([pid for pid in children(os.getpid()) if "resource_tracker" in Path(f"/proc/{pid}/cmdline").read_text()]))
"""
    trackers, words = run(program)
    assert len(trackers) == 2
    assert not words
    until(lambda: not any(Path(f"/proc/{pid}/cwd").is_dir() for pid in trackers))


def test_a_killed_program_takes_workers_and_trackers_with_it(until):
    program = """
import json, os, signal, runwide
from runwide.pool.process import children
runwide.map(abs, [-1], workers=1)
print(json.dumps(children(os.getpid())), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    pids = json.loads(done.stdout)
    assert len(pids) == 3
    until(lambda: not any(Path(f"/proc/{pid}/cwd").is_dir() for pid in pids))


def test_workers_are_no_children_that_a_program_waits_for():
    program = """
import json, multiprocessing, os, runwide
first = runwide.map(lambda _: os.getpid(), [0], workers=1)
print(json.dumps([[process.name for process in multiprocessing.active_children()],
                  first == runwide.map(lambda _: os.getpid(), [0], workers=1)]))
"""
    assert run(program) == ([[], True], "")


@pytest.mark.parametrize("how", ["spawn", "fork", "forkserver"])
def test_a_task_starts_processes_of_multiprocessing_as_the_program_would(how):
    program = f"""
import json, multiprocessing, runwide
def task(x):
    with multiprocessing.get_context({how!r}).Pool(1) as pool:
        return pool.map(abs, [-x]), multiprocessing.get_start_method(allow_none=True)
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    print(json.dumps(runwide.map(task, [3], workers=1)))
"""
    assert run(program)[0] == [[[3], "spawn"]]


def test_in_a_daemonic_process_tasks_run_in_place():
    program = """
import json, multiprocessing, os, runwide
def work(queue):
    with runwide.Executor(2) as executor:
        queue.put([runwide.map(lambda _: os.getpid(), [0, 1]), executor.submit(os.getpid).result(), os.getpid()])
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,), daemon=True)
    process.start()
    print(json.dumps(queue.get(timeout=60)))
    process.join()
"""
    (mapped, submitted, pid), _ = run(program)
    assert mapped == [pid, pid]
    assert submitted == pid


def test_a_directory_that_is_gone_is_gone_for_workers_too(tmp_path):
    program = """
import json, os, runwide
os.rmdir(os.getcwd())
def where(_):
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "gone"
found = runwide.map(where, range(4), workers=2)
print(json.dumps([found, where(0)]))
"""
    (tmp_path / "here").mkdir()
    assert run(program, cwd=tmp_path / "here")[0] == [["gone"] * 4, "gone"]


def test_a_program_that_is_kept_from_its_directory_starts_workers_that_are(tmp_path):
    for name in ("pickle", "argparse", "loky", "cloudpickle"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the directory was loaded')\n")
    program = """
import json, runwide, sys
print(json.dumps(runwide.map(lambda _: [sys.flags.isolated, "PYTHONSAFEPATH" in __import__("os").environ], [0], workers=1)))
"""
    runtime = str(Path(runwide.__file__).parents[1])
    program = f"import sys; sys.path.insert(0, {runtime!r})\n{program}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if sys.version_info >= (
        3,
        11,
    ):  # before, nothing keeps an interpreter from its directory while loky starts it
        assert (done.stdout, done.stderr) == ("[[1, false]]\n", "")


def lowest_loky():
    found = re.search(r'"loky>=([\d.]+)"', (Path(__file__).parents[3] / "pyproject.toml").read_text())
    return found[1]


def test_the_lowest_loky_that_is_asked_for_does(tmp_path):
    """The highest is that of the lock, with which all other tests run."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, f"loky=={lowest_loky()}.*"],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    program = """
import json, loky, os, runwide
def die_once(x):
    if x == 3 and not os.path.exists("died"):
        open("died", "w").close()
        os._exit(7)
    return x * x
here = os.getpid()
def described(_):
    import multiprocessing
    return [loky.__version__, multiprocessing.parent_process().pid == here, multiprocessing.parent_process().is_alive()]
found = [runwide.map(die_once, range(6), workers=2), runwide.map(described, [0], workers=1)[0]]
print(json.dumps(found))
"""
    (squares, (version, *of_parent)), words = run(program, loky=tmp_path, cwd=tmp_path)
    assert squares == [0, 1, 4, 9, 16, 25]
    assert version.startswith(lowest_loky())
    assert of_parent == [True, True]
    assert "Traceback" not in words
