"""Classes and functions of a program arrive in its workers, and come back as themselves."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import runwide
from runwide.errors import ExceptionNotPortable, FunctionNotPicklable, ItemNotPicklable, ResultNotPicklable

PROGRAM = Path(__file__).parent / "programs" / "classes.py"


def run(*command: str, given: str | None = None, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        input=given,
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def as_script(folder: Path) -> str:
    return run(str(PROGRAM), str(folder / "store"), cwd=folder)


def as_module(folder: Path) -> str:
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / "__init__.py").touch()
    (folder / "own" / "program.py").write_text(PROGRAM.read_text())
    return run("-m", "own.program", str(folder / "store"), cwd=folder)


def as_text(folder: Path) -> str:
    return run("-c", PROGRAM.read_text(), str(folder / "store"), cwd=folder)


def from_standard_input(folder: Path) -> str:
    return run("-", str(folder / "store"), given=PROGRAM.read_text(), cwd=folder)


@pytest.mark.parametrize("way", [as_script, as_module, as_text, from_standard_input])
def test_classes_of_a_program_come_back_as_themselves_also_from_an_earlier_run(way, tmp_path):
    assert json.loads(way(tmp_path)) == {}
    assert json.loads(way(tmp_path)) == {}  # the second run finds the stored results of the first


def program(folder: Path, text: str) -> str:
    (folder / "program.py").write_text("import os, runwide\n" + textwrap.dedent(text))
    return run("program.py", cwd=folder)


def test_results_of_another_program_are_not_taken_for_a_class_that_only_has_the_same_name(tmp_path):
    first = """
        class Job:
            def __init__(self): self.a = 1
            def first(self): return self.a
        runwide.map(lambda _: Job(), [1], store="store", name="n", workers=1)
    """
    program(tmp_path, first)
    other = tmp_path / "other.py"
    other.write_text(
        textwrap.dedent("""
        import runwide
        class Job:
            def second(self): return 2
        def same(_): ...
        (job,) = runwide.map(same, [1], store="store", name="n", workers=1, reuse="results")
        print(job.first(), isinstance(job, Job))
    """)
    )
    assert run("other.py", cwd=tmp_path) == "1 False\n"


def test_a_stored_result_is_of_the_class_that_its_program_has_edited_meanwhile(tmp_path):
    text = """
        class Job:
            limit = %d
            def first(self): return self.limit
            %s
        (job,) = runwide.map(lambda _: Job(), [1], store="store", name="n", workers=1, reuse="results")
        print(type(job) is Job, job.first())
    """
    assert program(tmp_path, text % (1, "")) == "True 1\n"
    assert program(tmp_path, text % (2, "def more(self): ...")) == "True 2\n"


def test_instances_of_a_class_that_a_notebook_defines_again_stay_of_the_first_one(tmp_path):
    cells = """
        import sys
        def cell(text): exec(compile(text, "<cell>", "exec"), vars(sys.modules["__main__"]))
        with runwide.Pool(1) as pool:
            cell("class Job:\\n  v = 1\\nfirst = Job")
            before = Job()
            assert type(pool.map(lambda x: x, [before])[0]) is first
            cell("class Job:\\n  v = 2")
            came = pool.map(lambda x: x, [before, Job()])
            print(type(came[0]) is first, type(came[1]) is Job, first.v, Job.v, pool.apply(lambda: Job.v))
    """
    assert program(tmp_path, cells) == "True True 1 2 2\n"


LAZY = """
    import functools
    model, models, ticks = None, {}, []
    def started():
        ticks.append(1)
        return os.getpid(), len(ticks)
    def in_global(_=None):
        global model
        if model is None: model = started()
        return model
    def in_dict(_=None):
        if "m" not in models: models["m"] = started()
        return models["m"]
    @functools.lru_cache
    def cached(): return started()
    def in_cache(_=None): return cached()
    class Holder:
        kept = None
        @classmethod
        def get(cls):
            if cls.kept is None: cls.kept = started()
            return cls.kept
    def in_class(_=None): return Holder.get()
    def in_attribute(_=None):
        if not hasattr(in_attribute, "kept"): in_attribute.kept = started()
        return in_attribute.kept
"""


@pytest.mark.parametrize("function", ["in_global", "in_dict", "in_cache", "in_class", "in_attribute"])
def test_what_a_function_loads_lazily_is_loaded_once_in_each_worker(function, tmp_path):
    text = f"""
    from joblib import Parallel, delayed, parallel_config
    f = {function}
    with runwide.Executor(1) as executor:
        print(len({{executor.submit(f, i).result() for i in range(4)}}))
        print(len({{executor.submit(lambda: f(1)).result() for i in range(4)}}))
        print(len({{executor.submit(functools.partial(f, 1)).result() for i in range(4)}}))
    with runwide.Pool(1) as pool:
        print(len({{pool.apply(f, (i,)) for i in range(4)}}), len({{tuple(pool.map(f, [1])) for i in range(4)}}))
        print(len({{tuple(pool.imap(f, [1])) for i in range(4)}}), len({{pool.starmap(f, [(1,)])[0] for i in range(4)}}))
    runwide.register_joblib()
    with parallel_config(backend="runwide", n_jobs=2):
        made = Parallel(batch_size=1)(delayed(f)(i) for i in range(8))
    print(max(count for _, count in made))
    """
    assert program(tmp_path, textwrap.dedent(LAZY) + textwrap.dedent(text)).split() == ["1"] * 8


def test_a_global_that_the_program_has_changed_reaches_the_workers(tmp_path):
    text = """
    class Limits:
        high = 1
    config, calls = {"a": 1}, 0
    def read():
        global calls
        calls += 1
        return config["a"], Limits.high, helper(), calls
    def helper(): return "old"
    with runwide.Executor(1) as executor:
        print(*executor.submit(read).result())
        config["a"] = 2
        print(*executor.submit(read).result())
        Limits.high = 3
        config = {"a": 4}
        print(*executor.submit(read).result())
        def helper(): return "new"
        print(*executor.submit(read).result())
        calls = 10
        print(*executor.submit(read).result())
    """
    expected = ["1 1 old 1", "2 1 old 2", "4 3 old 3", "4 3 new 4", "4 3 new 11"]
    assert program(tmp_path, text).splitlines() == expected


class Cache:
    def __init__(self) -> None:
        self.lock = threading.RLock()


class Job:
    def __init__(self) -> None:
        self.caches = {"main": [1, Cache()]}


def holds_a_lock(*, job: object = None) -> object:
    return Job()


def closes_over():
    kept = Job()
    return lambda _: kept


WHERE = r"Job\.caches\['main'\]\[1\]\.lock of a Cache, of class _thread\.RLock"


@pytest.mark.parametrize("store", [False, True])
def test_what_cannot_be_pickled_is_named_by_class_and_attribute_path(store, tmp_path):
    place = {"store": tmp_path} if store else {}
    with pytest.raises(ItemNotPicklable, match=WHERE):
        runwide.map(str, [Job()], **place)
    with pytest.raises(ResultNotPicklable, match=WHERE):
        runwide.map(lambda _: Job(), [1], workers=1, **place)
    with pytest.raises(FunctionNotPicklable, match=r"→ kept\.caches\['main'\]\[1\]\.lock of a Cache"):
        runwide.map(closes_over(), [1], **place)
    with pytest.raises(
        FunctionNotPicklable, match=r"holds_a_lock → job\.caches\['main'\]\[1\]\.lock of a Cache"
    ):
        runwide.map(functools.partial(holds_a_lock, job=Job()), [1], **place)


def fails_with_a_lock(_):
    error = ValueError("no")
    error.job = Job()  # type: ignore[attr-defined]
    raise error


def test_an_exception_that_cannot_be_pickled_says_which_part(tmp_path):
    for place in ({}, {"store": tmp_path}):
        (failure,) = runwide.map(fails_with_a_lock, [1], on_error="return", workers=1, **place)
        assert isinstance(failure.exception, ExceptionNotPortable)
        assert "ValueError.job.caches['main'][1].lock of a Cache" in failure.message


def test_a_class_that_was_made_in_a_worker_is_built_once_in_the_program(tmp_path):
    text = """
    def made(x):
        class Local: pass
        one = Local()
        one.x = x
        return [one, Local()]
    with runwide.Pool(1) as pool:
        (first, second), = pool.map(made, [1])
        print(type(first) is type(second), first.x)
    """
    assert program(tmp_path, text) == "True 1\n"


def test_the_same_function_gives_the_same_bytes_in_each_run(tmp_path):
    text = """
    import dataclasses, enum, hashlib
    from runwide.pickling.functions import function_pickle
    @dataclasses.dataclass
    class Row: n: "int | None" = None
    class Color(enum.Enum): RED = 1
    def f(x): return Row(x), Color.RED
    print(hashlib.sha256(function_pickle(f).data).hexdigest())
    """
    assert program(tmp_path, text) == program(tmp_path, text)


def test_a_nested_map_in_a_worker_uses_the_functions_that_are_there(tmp_path):
    text = """
    ticks = []
    def inner(x):
        ticks.append(x)
        return len(ticks)
    def outer(x):
        return runwide.map(inner, [x, x])
    with runwide.Pool(1) as pool:
        print(pool.map(outer, [1, 2]), ticks)
    """
    assert program(tmp_path, text) == "[[1, 2], [3, 4]] []\n"


def test_in_a_worker_main_is_a_module_that_has_no_file():
    said = runwide.map(
        lambda _: (
            os.getpid(),
            sys.modules["__main__"].__name__,
            hasattr(sys.modules["__main__"], "__file__"),
        ),
        [1],
    )
    assert said[0][0] != os.getpid()
    assert said[0][1:] == ("__main__", False)


class Unhashable(type):
    def __eq__(cls, other):
        return cls is other

    __hash__ = None  # type: ignore[assignment]


def test_an_item_of_a_class_that_has_no_hash_fails_alone():
    class Strange(metaclass=Unhashable):
        pass

    one, other = runwide.map(lambda value: [value], [Strange(), 2], on_error="return", workers=1)
    assert isinstance(one.exception, ItemNotPicklable)
    assert other == [2]


def test_a_class_that_cannot_be_loaded_in_a_worker_fails_the_items_that_need_it(tmp_path):
    text = """
    class Bad:
        def __reduce__(self): return divmod, (1, 0)
    class Kills:
        def __reduce__(self): return os._exit, (3,)
    class One: kept = Bad()
    class Other: kept = Kills()
    items = [1, One(), Other(), 2, One()]
    for failure in runwide.map(lambda x: x, items, on_error="return", workers=1):
        print(failure if isinstance(failure, int) else (failure.type, failure.message[:68]))
    """
    loading = "('ItemNotLoadable', 'the item cannot be unpickled in the worker: ZeroDivisionError: integ')"
    died = "('WorkerDied', 'the worker exited with status 3 while it ran this task (2 attempts)')"
    assert program(tmp_path, text).splitlines() == ["1", loading, died, "2", loading]


def test_a_definition_is_pickled_once_for_all_items_of_a_message(tmp_path):
    text = """
    pickled = []
    class Noted:
        def __reduce__(self):
            pickled.append(1)
            return int, ()
    class Row:
        kept = Noted()
    with runwide.Pool(1) as pool:
        pool.map(lambda row: type(row).kept, [Row() for _ in range(1000)], chunksize=1000)
    print(len(pickled) < 20)
    """
    assert program(tmp_path, text) == "True\n"
