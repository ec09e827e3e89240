"""A worker is a fresh interpreter that finds what this one finds, and loads little before its first task."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from multiprocessing import resource_tracker, shared_memory

import pytest

import runwide

# Modules that are slow to load, and needed only for logs, displays and errors.
NOT_AT_START = {
    "asyncio",
    "click",
    "cloudpickle",
    "google",
    "kfp",
    "loky",
    "numpy",
    "rich",
    "ssl",
    "structlog",
    "tqdm",
}
NOT_IN_A_WORKER = (NOT_AT_START - {"cloudpickle", "loky"}) | {
    "runwide.host",
    "runwide.job",
    "runwide.pool.scheduler",
    "runwide.store",
}


BARE = "import json, sys; print(json.dumps(list(sys.modules)))"  # site-packages may load modules of their own


def run(program: str) -> object:
    """Return a program's output, parsed as JSON, from a fresh interpreter with a clean environment."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def test_importing_the_pool_loads_nothing_that_is_needed_later_only():
    program = "import json, sys, runwide; runwide.map, runwide.Executor; print(json.dumps(list(sys.modules)))"
    assert (set(run(program)) - set(run(BARE))) & NOT_AT_START == set()


def test_a_fresh_worker_has_loaded_little():
    # `exec` is pickled by its name, so that nothing is loaded for the task itself.
    program = """
import json, runwide
with runwide.Executor(1) as executor:
    print(json.dumps(executor.submit(eval, "list(__import__('sys').modules)").result()))
"""
    assert (set(run(program)) - set(run(BARE))) & NOT_IN_A_WORKER == set()


def test_a_pool_starts_its_workers_and_no_other_process_but_the_trackers():
    program = """
import json, os, runwide
from pathlib import Path
from runwide.pool.process import children
with runwide.Executor(2) as executor:
    list(executor.map(abs, range(100)))
    print(json.dumps([Path(f"/proc/{pid}/cmdline").read_text() for pid in children(os.getpid())]))
"""
    started = run(program)
    trackers = [line for line in started if "resource_tracker" in line]
    assert len(trackers) == 2  # loky's and multiprocessing's
    assert len(started) - len(trackers) in (1, 2)  # the first may have done it all before a second was wanted


def test_a_worker_finds_modules_where_this_process_finds_them_and_has_its_arguments(tmp_path, monkeypatch):
    (tmp_path / "found_only_here.py").write_text("def answer(x):\n    return 42 + x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["program", "--fast"])
    import found_only_here

    assert runwide.map(found_only_here.answer, [0, 1], workers=1) == [42, 43]
    assert runwide.map(lambda _: sys.argv, [0], workers=1) == [["program", "--fast"]]


def test_a_worker_finds_what_was_imported_before_this_program_changed_its_directory(tmp_path, monkeypatch):
    (tmp_path / "beside_the_notebook.py").write_text("def answer(x):\n    return 42 + x\n")
    monkeypatch.chdir(tmp_path)
    program = """
import json, os, beside_the_notebook, runwide, runwide.pool
os.mkdir("deeper")
os.chdir("deeper")
print(json.dumps(runwide.map(beside_the_notebook.answer, [0, 1], workers=1)))
"""
    assert run(program) == [42, 43]


def test_a_cached_function_of_a_program_itself_runs_also_where_it_calls_itself():
    program = """
import functools, json, runwide
@functools.lru_cache(maxsize=100)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
def outer(n):
    @functools.cache
    def inner(x):
        return fibonacci(x)
    return inner(n), fibonacci.cache_parameters()["maxsize"]
print(json.dumps([runwide.map(fibonacci, [10, 80], workers=1), runwide.map(outer, [80], workers=1)]))
"""
    assert run(program) == [[55, 23416728348467685], [[23416728348467685, 100]]]


def test_objects_with_slots_of_a_program_itself_come_back():
    program = """
import abc, dataclasses, json, runwide
@dataclasses.dataclass(slots=True)
class Point:
    x: int
    y: int = 2
class Base(abc.ABC):
    __slots__ = ("base", "__weakref__")
class Slotted(Base):
    __slots__ = {"own": "its doc"}
    def __init__(self, own):
        self.own, self.base = own, -own
    def sum(self):
        return self.own + self.base
class Mixed:
    __slots__ = ("a", "__dict__")
def moved(point):
    point.x += 1
    return point
mixed = Mixed()
mixed.a, mixed.b = 1, 2
(point, made, slotted, back) = (
    *runwide.map(moved, [Point(1)], workers=1), *runwide.map(Point, [5], workers=1),
    *runwide.map(Slotted, [7], workers=1), *runwide.map(lambda x: x, [mixed], workers=1))
assert runwide.map(moved, [Point(1)], workers=1, store="memory://slots") == [Point(2)]
assert point == Point(2) and made == Point(5)
print(json.dumps([hasattr(point, "__dict__"), slotted.base, slotted.sum(), back.a, back.b]))
"""
    assert run(program) == [False, -7, 0, 1, 2]


def test_a_worker_reads_nothing_from_this_programs_standard_input():
    assert runwide.map(lambda _: sys.stdin.read(), [0], workers=1) == [""]


def test_a_worker_is_one_of_this_programs_processes_for_multiprocessing():
    with multiprocessing.get_context("spawn").Manager() as manager:
        shared = manager.list()

        def add(x):
            shared.append(x)
            return multiprocessing.current_process().name

        assert runwide.map(add, [1, 2], workers=1) == ["runwide-worker-0"] * 2
        assert sorted(shared) == [1, 2]


def test_shared_memory_outlives_the_workers_that_were_shown_it():
    segment = shared_memory.SharedMemory(create=True, size=4)

    def write(x):
        shown = shared_memory.SharedMemory(name=segment_name)
        shown.buf[x] = x + 1
        shown.close()

    segment_name = segment.name
    try:
        runwide.map(write, range(4), workers=2)
        assert bytes(segment.buf[:4]) == bytes([1, 2, 3, 4])
    finally:
        segment.close()
        segment.unlink()  # raises if a worker has done so


def test_what_a_worker_holds_is_not_inherited_by_programs_that_its_tasks_start():
    def task(_):
        shown = subprocess.run(
            ["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True
        )
        return [line for line in shown.stdout.splitlines() if "socket:" in line]

    assert runwide.map(task, [0], workers=1) == [[]]


def test_a_worker_that_cannot_even_start_tells_why(tmp_path):
    (tmp_path / "encodings").mkdir()
    (tmp_path / "encodings" / "__init__.py").write_text("raise ImportError('no such codec')")
    program = f"""
import json, os, runwide
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
try:
    runwide.map(abs, [1], workers=1)
except runwide.RunwideError as error:
    print(json.dumps([type(error).__name__, error.stderr]))
"""
    name, words = run(program)
    assert name == "WorkerDied"
    assert "no such codec" in words


def test_without_pidfds_a_death_is_detected_by_the_end_of_a_pipe(monkeypatch, descriptors):
    monkeypatch.delattr(os, "pidfd_open")
    resource_tracker.ensure_running()  # this module uses shared memory: the first pool would start it
    runwide.shutdown()
    before = descriptors()

    def die_at_three(x):
        if x == 3:
            os._exit(7)
        return x

    results = runwide.map(die_at_three, range(6), workers=2, on_error="return")
    assert results.pop(3).exception.exitcode == 7
    assert results == [0, 1, 2, 4, 5]
    runwide.shutdown()
    assert not descriptors() - before


GONE = """
import json, os, sys, tempfile
{before}
here = tempfile.mkdtemp()
os.chdir(here)
{after}
os.rmdir(here)
import runwide
def double(x):
    return 2 * x
def directory(_):
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "gone"
with runwide.Executor(1) as executor:
    print(json.dumps([
        runwide.map(double, [1, 2], workers=2), list(runwide.imap(double, [3], workers=1)),
        executor.submit(double, 4).result(), runwide.map(directory, [0], workers=1),
        runwide.map(double, [5], workers=1, store="memory://gone")]))
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("import runwide", ""), ("import runwide", "runwide.map(abs, [1], workers=1)")],
)
@pytest.mark.parametrize("form", ["-c", "script"])
def test_workers_start_in_a_directory_that_was_removed(before, after, form, tmp_path):
    program = GONE.format(before=before, after=after)
    words = ["-c", program]
    if form == "script":
        (tmp_path / "program.py").write_text(program)
        words = [str(tmp_path / "program.py")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [[2, 4], [6], 8, ["gone"], [10]]


def test_workers_start_where_the_program_began_in_a_directory_that_is_gone(tmp_path):
    (tmp_path / "gone").mkdir()
    program = "import runwide; print(runwide.map(lambda x: x + 1, [1, 2], workers=2))"
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", sys.executable, "-c", program],
        cwd=tmp_path / "gone", capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "[2, 3]\n"


FLAGS = """
import json, sys, warnings, runwide
def described(_):
    assert_runs = False
    try:
        assert False
    except AssertionError:
        assert_runs = True
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags)
             if not name.startswith(("_", "n_", "hash_", "count", "index"))}
    return [assert_runs, bool(described.__doc__), flags, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode]
described.__doc__ = described.__doc__
print(json.dumps([described(0), runwide.map(described, [0], workers=1)[0]]))
"""


@pytest.mark.parametrize(
    "flags",
    [
        ["-O"], ["-OO"], ["-W", "error"], ["-W", "ignore::DeprecationWarning"], ["-X", "dev"], ["-X", "utf8"],
        ["-X", "utf8=0"], ["-B"], ["-E"], [], ["-s"], ["-I"], ["-b"], ["-bb"], ["-X", "faulthandler"], ["-O", "-X", "dev"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_interpreters_flags_reach_the_workers(flags):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, *flags, "-c", FLAGS], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    here, there = json.loads(done.stdout)
    assert there == here


def test_all_workers_of_a_program_agree_on_the_hash_of_a_text():
    program = """
import json, os, tempfile, time, runwide
def described(folder):
    open(f"{folder}/{os.getpid()}", "w").close()
    while len(os.listdir(folder)) < 2:
        time.sleep(0.01)
    return [os.getpid(), hash("a text"), list({"a", "b", "c", "d"})]
with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
    with runwide.Pool(2) as pool:
        found = pool.map(described, [first] * 2, chunksize=1)
    found += runwide.map(described, [second] * 2, workers=2, chunksize=1)
print(json.dumps(found))
"""
    told, other = run(program), run(program)
    assert len({pid for pid, *_ in told}) == 4
    assert len({(known, *order) for _, known, order in told}) == 1
    assert other[0][1] != told[0][1]  # another program has a seed of its own


def test_a_programs_own_hash_seed_is_the_workers():
    program = 'import runwide; print(hash("a") == runwide.map(lambda _: hash("a"), [0], workers=1)[0])'
    for seed in ("0", "7"):
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == "True\n"


def test_a_worker_is_a_child_of_the_program_for_multiprocessing(meeting):
    meet = meeting(2)

    def described(_):
        meet()
        current, parent = multiprocessing.current_process(), multiprocessing.parent_process()
        return current._identity, parent.pid, parent.name, parent.is_alive()

    found = runwide.map(described, range(8), workers=2, chunksize=1)
    numbers = {identity for identity, *_ in found}
    assert len(numbers) == 2
    assert all(len(number) == 1 and number[0] > 0 for number in numbers)
    assert {tuple(rest) for _, *rest in found} == {
        (os.getpid(), multiprocessing.current_process().name, True)
    }
    again = {identity for identity, *_ in runwide.map(described, range(2), workers=1, fresh=True)}
    assert numbers.isdisjoint(again)  # as of the standard library's processes, no two have the same
