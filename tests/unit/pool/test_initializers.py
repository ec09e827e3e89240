"""Initializers and functions of a program share its globals in each worker, as where multiprocessing runs the program."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "initializers.py"
NOTEBOOK = """
import sys, types
text = open(sys.argv.pop(1)).read()
main = sys.modules["__main__"] = types.ModuleType("__main__")
exec(compile(text, "<cell>", "exec"), vars(main))
"""
ELSEWHERE = """
import sys
exec(open(sys.argv.pop(1)).read(), {"__name__": "__main__"})
"""


def run(*command: str, given: str | None = None, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        input=given,
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_module(folder: Path, *words: str) -> str:
    (folder / "own").mkdir()
    (folder / "own" / "__init__.py").touch()
    (folder / "own" / "program.py").write_text(PROGRAM.read_text())
    return run("-m", "own.program", *words, cwd=folder)


WAYS = {
    "script": lambda folder, *words: run(str(PROGRAM), *words, cwd=folder),
    "-m": as_module,
    "-c": lambda folder, *words: run("-c", PROGRAM.read_text(), *words, cwd=folder),
    "standard input": lambda folder, *words: run("-", *words, given=PROGRAM.read_text(), cwd=folder),
    "notebook": lambda folder, *words: run("-c", NOTEBOOK, str(PROGRAM), *words, cwd=folder),
    "exec": lambda folder, *words: run("-c", ELSEWHERE, str(PROGRAM), *words, cwd=folder),
}
SURFACES = [
    "map with a store", "imap", "imap_unordered", "amap", "Executor.submit", "Executor.map", "Pool.apply", "Pool.map",
    "Pool.map_async", "Pool.imap", "Pool.imap_unordered", "Pool.starmap", "Pool.map with a store",
    "Pool.imap with a store", "joblib", "joblib.parallel_config",
]  # fmt: skip


@pytest.mark.parametrize("cases", ["multiprocessing standard", "map all"])
def test_what_an_initializer_does_to_globals_is_seen_by_functions_as_with_multiprocessing(cases, tmp_path):
    assert json.loads(WAYS["script"](tmp_path, *cases.split())) == {}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "script"])
def test_it_is_so_however_the_program_is_started(way, tmp_path):
    assert json.loads(WAYS[way](tmp_path, "map", "few")) == {}


@pytest.mark.parametrize("surface", SURFACES)
def test_it_is_so_on_every_surface(surface, tmp_path):
    assert json.loads(WAYS["script"](tmp_path, surface, "few")) == {}


def program(folder: Path, text: str, *options: str) -> list[str]:
    (folder / "program.py").write_text(textwrap.dedent(text))
    return run(*options, "program.py", cwd=folder).splitlines()


def test_an_initializer_of_an_imported_module_sets_the_globals_of_that_module(tmp_path):
    (tmp_path / "tools.py").write_text(
        "STATE = None\n"
        "def begin(value):\n    global STATE, MORE\n    STATE = MORE = value\n"
        "def work(x): return x * STATE * MORE\n"
    )
    text = """
        import runwide, tools
        from tools import begin
        def through(x): return tools.work(x)
        options = {"workers": 1, "initializer": begin, "initargs": (3,)}
        print(runwide.map(tools.work, [1, 2], **options), runwide.map(through, [1, 2], **options))
        print(runwide.map(through, [1, 2], store="store", **options))
    """
    assert program(tmp_path, text) == ["[9, 18] [9, 18]", "[9, 18]"]


def test_a_program_that_is_also_imported_by_its_name_is_two_modules_as_it_is_itself(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").touch()
    (tmp_path / "own" / "program.py").write_text(
        textwrap.dedent("""
        import runwide
        STATE = None
        def begin(value):
            global STATE
            STATE = value
        def work(x): return x, STATE
        if __name__ == "__main__":
            from own import program
            for first in (begin, program.begin):
                for run in (work, program.work):
                    print(*runwide.map(run, [1], workers=1, initializer=first, initargs=(3,)))
        """)
    )
    expected = ["(1, 3)", "(1, None)", "(1, None)", "(1, 3)"]
    assert run("-m", "own.program", cwd=tmp_path).splitlines() == expected


def test_functions_nested_in_a_module_that_no_worker_could_import_share_its_globals(tmp_path):
    """As those of a lightweight component do."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "ephemeral.py").write_text(
        textwrap.dedent("""
        TOP = None
        def component(**options):
            import runwide
            model = None
            def begin(value):
                global TOP, MODEL
                nonlocal model
                TOP = MODEL = model = value
            def work(x): return x * TOP * MODEL * model
            return runwide.map(work, [1], workers=1, initializer=begin, initargs=(3,), **options)
        """)
    )
    text = """
        import importlib.util, sys
        about = importlib.util.spec_from_file_location("ephemeral", "hidden/ephemeral.py")
        module = sys.modules["ephemeral"] = importlib.util.module_from_spec(about)
        about.loader.exec_module(module)
        print(module.component(), module.component(store="store"))
    """
    assert program(tmp_path, text) == ["[27] [27]"]


def test_a_process_that_multiprocessing_has_spawned_runs_maps_over_functions_of_the_program(tmp_path):
    text = """
        import multiprocessing, runwide
        STATE = None
        class Job:
            def __init__(self, x): self.x = x
        def begin(value):
            global STATE
            STATE = value
        def work(x): return Job(x * STATE)
        def child():
            (job,) = runwide.map(work, [2], workers=1, initializer=begin, initargs=(3,))
            print(__name__, job.x, type(job) is Job, flush=True)
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
    """
    assert program(tmp_path, text) == ["__mp_main__ 6 True"]


def test_what_the_program_changes_between_two_calls_reaches_workers_and_nothing_else_is_set_again(tmp_path):
    text = """
        import runwide
        STATE, OTHER, LARGE = None, 1, list(range(100_000))
        def begin(value):
            global STATE, MODEL, LARGE
            STATE = MODEL = value
            LARGE = [value]
        def work(x):
            model = MODEL if "MODEL" in globals() else None
            return x, STATE, OTHER, model, len(LARGE)
        with runwide.Executor(1, initializer=begin, initargs=(3,)) as executor, runwide.Pool(1, begin, (3,)) as pool:
            def show():
                found = executor.submit(work, 1).result()
                assert found == pool.apply(work, (1,)) == list(executor.map(work, [1]))[0] == pool.map(work, [1])[0]
                print(*found)
            show()
            OTHER = 2
            show()
            STATE = 10
            show()
            MODEL = 20
            show()
            del MODEL
            show()
            LARGE.append(1)
            show()
    """
    assert program(tmp_path, text) == [
        "1 3 1 3 1", "1 3 2 3 1", "1 10 2 3 1", "1 10 2 20 1", "1 10 2 None 1", "1 10 2 None 100001",
    ]  # fmt: skip


def test_a_variable_that_a_task_has_set_gives_way_to_one_that_the_program_gets_later(tmp_path):
    text = """
        import runwide
        def work(x):
            global MODEL
            try: return MODEL
            except NameError: MODEL = "the task's"
        def outer():
            state = None
            def begin(value):
                nonlocal state
                state = value
            def change(value):
                nonlocal state
                state = value
            return begin, change, lambda _: state
        begin, change, read = outer()
        with runwide.Executor(1, initializer=begin, initargs=(3,)) as executor:
            print(executor.submit(work, 1).result(), executor.submit(work, 1).result())
            MODEL = "the program's"
            print(executor.submit(work, 1).result(), executor.submit(read, 1).result())
            change(4)
            print(executor.submit(read, 1).result())
    """
    assert program(tmp_path, text) == ["None the task's", "the program's 3", "4"]


def test_a_stored_map_of_one_program_sees_what_it_has_changed_since_the_last_one(tmp_path):
    text = """
        import runwide
        STATE, OTHER = None, 1
        def begin(value):
            global STATE
            STATE = value
        def work(x): return x, STATE, OTHER
        for OTHER in (1, 2):
            print(*runwide.map(work, [1], workers=1, initializer=begin, initargs=(3,), store="store"))
    """
    assert program(tmp_path, text) == ["(1, 3, 1)", "(1, 3, 2)"]


def test_an_initializer_runs_for_a_function_that_lies_in_the_store(tmp_path):
    text = """
        import runwide
        from runwide.job import rerun, scatter
        STATE = None
        def begin(value):
            global STATE
            STATE = value
        def work(x): return x * STATE
        job = scatter(work, [1, 2], store="store", shards=1)
        print(*runwide.gather(job, rerun(job, workers=1, initializer=begin, initargs=(3,))))
    """
    assert program(tmp_path, text) == ["3 6"]
