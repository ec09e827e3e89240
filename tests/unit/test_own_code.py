"""The program's own code travels as an archive: its files, its limits, and its import elsewhere."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import pytest

import runwide
from runwide.code import archive, finding
from runwide.code.archive import Code, code_of
from runwide.code.finding import asked_for
from runwide.errors import FrameCorrupt, InputError, ResultNotLoadable
from runwide.job import code as job_code
from runwide.pickling import reproducible
from runwide.pickling.functions import NOTHING, Needs
from runwide.pickling.items import Definitions

LOOKS = "from pathlib import Path\nHERE = Path(__file__).parent\n"


def paths(*names, **options):
    return list(finding.reached(names, **options).digests)


def needs(*names):
    return Needs(frozenset(names))


# --- which files


PACKAGE = {
    "shop/__init__.py": "",
    "shop/prices.py": "",
    "shop/unused.py": "",
    "shop/rates.csv": "1",
    "shop/data/deep/x.json": "{}",
    "shop/.env": "SECRET=1",
    "shop/server.pem": "-----BEGIN",
    "shop/service_account.json": "{}",
    "shop/__pycache__/x.pyc": "",
    "shop/other/__init__.py": "",
    "shop/other/theirs.csv": "1",
}


@pytest.mark.parametrize(
    "looks",
    ["__file__", "__path__", "import importlib.resources", "from importlib import resources", "import pkgutil",
     "from importlib.resources import files\nfiles('shop')"],
)  # fmt: skip
def test_data_of_a_package_travels_if_code_looks_for_files(looks, program):
    program({**PACKAGE, "shop/prices.py": f"{looks}\n"})
    assert paths("shop.prices") == [
        "shop/__init__.py",
        "shop/data/deep/x.json",
        "shop/prices.py",
        "shop/rates.csv",
    ]


def test_no_data_travels_if_no_code_looks_for_files(program):
    program(PACKAGE)
    assert paths("shop.prices") == ["shop/__init__.py", "shop/prices.py"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('(HERE / "labels.json").read_text()', ["labels.json"]),
        ('(HERE / "tables" / "small.csv").read_text()', ["tables/small.csv"]),
        ('(HERE / "tables/small.csv").read_text()', ["tables/small.csv"]),
        ('(HERE / "tables" / name)', ["tables/large.csv", "tables/small.csv"]),
        ('(HERE / "tables").glob("*.csv")', ["tables/large.csv", "tables/small.csv"]),
        ('(HERE / ".env").read_text()', []),
        ('(HERE / "elsewhere.json").read_text()', []),
        ('(HERE.parent / "outside.json").read_text()', []),
        ('"/etc/passwd"', []),
        ('"../../../../../../../../etc/passwd"', []),
    ],
)
def test_a_file_beside_a_script_travels_if_a_text_names_it(text, expected, program):
    folder = program({"helper.py": f"{LOOKS}def f(name): return {text}\n", "labels.json": "{}", ".env": "SECRET=1",
                      "notes.txt": "not named", "tables/small.csv": "1", "tables/large.csv": "2"})  # fmt: skip
    (folder.parent / "outside.json").write_text("{}")
    assert paths("helper") == sorted(["helper.py", *expected])


def test_a_module_deeper_in_a_package_finds_files_of_the_packages_above(program):
    program({"shop/__init__.py": "", "shop/deep/__init__.py": "", "config/rates.json": "{}",
             "shop/deep/leaf.py": f'{LOOKS}x = HERE.parents[1] / "config" / "rates.json"\n'})  # fmt: skip
    assert paths("shop.deep.leaf") == [
        "config/rates.json", "shop/__init__.py", "shop/deep/__init__.py", "shop/deep/leaf.py",
    ]  # fmt: skip


def test_large_files_are_left_out_and_named(program, monkeypatch):
    monkeypatch.setattr("runwide.code.data.FILE_BYTES", 10)
    folder = program({**PACKAGE, "shop/prices.py": "__file__", "shop/rates.csv": "1" * 11})
    found = finding.reached(["shop.prices"])
    assert "shop/rates.csv" not in found.files
    assert found.left_out == tuple(
        f"{folder}/shop/{name}" for name in ("rates.csv", "server.pem", "service_account.json")
    )
    assert "shop/rates.csv" in code_of(needs("shop.prices"), whole=["shop"]).files


@pytest.mark.parametrize(
    "text",
    [
        "from importlib import import_module\ndef load(name): return import_module(f'shop.plugins.{name}')",
        "from importlib import import_module\ndef load(name): return import_module('shop.plugins.' + name)",
        "import importlib\nPLUGINS = ['shop.plugins.one', 'shop.plugins.two']\nimportlib.import_module(PLUGINS[0])",
    ],
    ids=["f-string", "sum", "list"],
)
def test_modules_that_are_loaded_by_computed_names_travel(text, program):
    program({"shop/__init__.py": "", "shop/core.py": text, "shop/plugins/__init__.py": "", "shop/plugins/one.py": "",
             "shop/plugins/two.py": ""})  # fmt: skip
    assert {"shop/plugins/one.py", "shop/plugins/two.py"} <= set(paths("shop.core"))


def test_a_package_that_searches_its_modules_has_them_all(program):
    program(
        {
            "shop/__init__.py": "import pkgutil\nNAMES = [m.name for m in pkgutil.iter_modules(__path__)]\n",
            "shop/one.py": "import tools\n",
            "shop/two/__init__.py": "",
            "shop/two/three.py": "",
            "tools.py": "",
        }
    )
    assert {"shop/one.py", "shop/two/three.py", "tools.py"} <= set(paths("shop"))


# --- what must be installed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import numpy.linalg", ("numpy",)),
        ("from google.cloud import storage", ("google.cloud.storage",)),
        ("class A:\n    import numpy", ("numpy",)),
        ("try:\n    import numpy\nexcept ImportError:\n    numpy = None", ()),
        ("try:\n    import numpy\nexcept (KeyError, ModuleNotFoundError):\n    numpy = None", ()),
        ("try:\n    import numpy\nexcept KeyError:\n    numpy = None", ("numpy",)),
        ("def f():\n    import numpy", ()),
        ("import json, sys", ()),
        ("import other", ("numpy",)),
        ("def f():\n    import other", ()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy", ()),
    ],
)
def test_installed_modules_are_required_if_the_code_cannot_run_without_them(text, expected, program):
    program({"start.py": f"{text}\n", "other.py": "import numpy\n"})
    assert finding.reached(["start"]).installed == expected


# --- code=


def test_packages_that_are_asked_for_travel_whole(program, monkeypatch):
    folder = program({**PACKAGE, "labels.json": "{}", "tables/a/b.csv": "1"})
    monkeypatch.chdir(folder)
    found = json.loads(
        code_of(NOTHING, whole=["shop", "labels.json", Path("tables"), str(folder / "tables/a")]).files
    )
    assert {
        "shop/unused.py",
        "shop/other/theirs.csv",
        "shop/rates.csv",
        "labels.json",
        "tables/a/b.csv",
    } <= found.keys()


def test_a_folder_without_modules_is_data(program, monkeypatch):
    monkeypatch.chdir(program({"extra/labels.txt": "1", "extra/deep/more.txt": "2"}))
    assert set(json.loads(code_of(NOTHING, whole=["extra"]).files)) == {
        "extra/labels.txt",
        "extra/deep/more.txt",
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["numpy"], "installed package"),
        (["json"], "installed package"),
        (["nowhere"], "there is no such file or folder"),
        (["no/such/file.csv"], "there is no such file or folder"),
        ([3], "not a list of names or paths"),
        (3, "not a list of names or paths"),
    ],
)
def test_an_invalid_code_option_is_rejected(asked, said):
    with pytest.raises(InputError, match=said):
        asked_for(asked)


# --- the archive


def test_an_archive_is_the_same_bytes_in_every_folder(tmp_path):
    text = (
        "from runwide.code.archive import code_of; from runwide.pickling.functions import Needs; import sys;"
        "sys.stdout.write(code_of(Needs(frozenset({'shop'}))).digest)"
    )
    found = set()
    for number in range(2):
        package = tmp_path / str(number) / "shop"
        package.mkdir(parents=True)
        for name in ("__init__", "b", "a")[:: 1 - 2 * number]:
            (package / f"{name}.py").write_text("from . import a, b\n")
        os.utime(package / "a.py", (number, number))
        found.add(
            subprocess.run(
                [sys.executable, "-c", text], cwd=package.parent, check=True, capture_output=True
            ).stdout
        )
    assert len(found) == 1


def test_comments_do_not_change_the_digest_and_other_changes_do(program):
    program({"helper.py": "x = 1\n"})
    first = code_of(needs("helper"))
    program({"helper.py": "x = 1  # one\n"})
    second = code_of(needs("helper"))
    assert first.files == second.files
    assert first.digest != second.digest
    assert Code(first.files, second.archive).is_sound()
    program({"helper.py": "x = 22\n"})
    assert not Code(first.files, code_of(needs("helper")).archive).is_sound()


def zipped(names, kind=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as made:
        for name in names:
            made.writestr(name, b"x = 1\n")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zip",
        *[
            zipped([name])
            for name in ("../x.py", "/x.py", "a/../../x.py", "a//x.py", "a\\x.py", "C:x.py", "./x.py", "a/")
        ],
        zipped(["x.py"], zipfile.ZIP_DEFLATED),
        zipped(["x.py"])[:-30],
    ],
    ids=[
        "empty",
        "text",
        "up",
        "absolute",
        "up below",
        "empty part",
        "backslash",
        "drive",
        "dot",
        "folder",
        "deflated",
        "cut",
    ],
)
def test_archives_whose_names_lead_out_of_the_folder_are_refused(data, tmp_path):
    with pytest.raises(FrameCorrupt):
        archive.unpack(data, str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert not Code("{}", data).is_sound()


def test_code_is_unpacked_once_in_a_process_and_removed_at_its_end(program, tmp_path):
    program({"helper.py": "x = 1\n"})
    code = code_of(needs("helper"))
    (tmp_path / "scratch").mkdir()
    text = (
        "import sys; from runwide.code.archive import Code; from runwide.job.code import unpacked;"
        "code = Code(sys.argv[1], bytes.fromhex(sys.argv[2]));"
        "assert unpacked(code) == unpacked(code); print(open(unpacked(code) + '/helper.py').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", text, code.files, code.archive.hex()], check=True, capture_output=True, text=True,
        env={**os.environ, "RUNWIDE_SCRATCH": str(tmp_path / "scratch")},
    )  # fmt: skip
    assert done.stdout.strip() == "x = 1"
    assert not list((tmp_path / "scratch").iterdir())


def test_code_is_unpacked_too_on_systems_that_run_no_tasks(program, monkeypatch, tmp_path):
    """A client on Windows reads results whose classes came with the job."""
    program({"helper.py": "x = 1\n"})
    code = code_of(needs("helper"))
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(tmp_path))
    monkeypatch.setattr(job_code, "_unpacked", {})
    monkeypatch.setattr("sys.platform", "win32")
    assert Path(job_code.unpacked(code), "helper.py").read_text() == "x = 1\n"


def test_a_scratch_folder_that_cannot_be_written_is_reported(monkeypatch, tmp_path, program):
    program({"helper.py": "x = 1\n"})
    monkeypatch.setenv("RUNWIDE_SCRATCH", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="cannot be unpacked"):
        job_code.unpacked(code_of(needs("helper")))


# --- by name and by value


def test_functions_of_a_module_that_defines_pipelines_go_by_value(program):
    program({"pipe.py": "import kfp\nfrom helper import f\nclass P:\n    x = 1\ndef g(p): return f(p)\n",
             "helper.py": "def f(p): return p.x\n"})  # fmt: skip
    pipe = importlib.import_module("pipe")
    made = reproducible.function(pipe.g)
    assert json.loads(made.modules).keys() == {"helper.py"}
    assert b"runwide.pickling.loading" in made.core
    shared = Definitions()
    assert b"runwide.pickling.loading" in reproducible.item(pipe.P(), shared)
    assert not shared.modules


def test_a_module_that_was_made_at_run_time_goes_by_value(monkeypatch):
    module = type(sys)("made_at_run_time")
    exec("def f(x): return x + OFFSET\nOFFSET = 2", vars(module))
    monkeypatch.setitem(sys.modules, "made_at_run_time", module)
    data = reproducible.function(module.f).data
    program = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())(1))"
    done = subprocess.run([sys.executable, "-c", program], input=data, check=True, capture_output=True)
    assert done.stdout.strip() == b"3"


def test_a_function_without_a_name_has_the_globals_of_its_module(program):
    """The globals of a closure in an own module need not be picklable, since the module itself is imported."""
    program({"helper.py": "import threading\nLOCK = threading.Lock()\nSEEN = []\n"
                          "def make(n):\n    def inner(x):\n        with LOCK:\n            SEEN.append(x)\n"
                          "        return x + n\n    return inner\n"})  # fmt: skip
    helper = importlib.import_module("helper")
    made = reproducible.function(helper.make(1))
    assert json.loads(made.modules).keys() == {"helper.py"}
    import pickle

    assert pickle.loads(made.data)(1) == 2
    assert helper.SEEN == [1]


COUNTERS = """
COUNTS = {}
MISSING = object()
class Nothing: pass
NOTHING = Nothing()
def add(x):
    COUNTS[x] = COUNTS.get(x, 0) + 1
def maybe(x):
    return MISSING if x == 1 else x
"""
MEETS = """
import runwide, sys
import counters
from counters import COUNTS, MISSING, NOTHING, add, maybe
COUNTS["before"] = 5
class Marked:
    mark = MISSING
def closed(mark):
    return lambda: mark is counters.NOTHING
is_closed = closed(NOTHING)
def f(x, default=NOTHING):
    add(x)
    return dict(COUNTS), [maybe(x) is MISSING, default is NOTHING, Marked.mark is maybe(x), is_closed()]
print(runwide.scatter(f, [1], store=sys.argv[1], shards=1))
"""


def test_objects_that_a_script_imported_stay_those_of_the_module(program, tmp_path):
    folder = program({"counters.py": COUNTERS, "main.py": MEETS})
    store = str(tmp_path / "store")
    made = subprocess.run(
        [sys.executable, folder / "main.py", store], check=True, capture_output=True, text=True
    )
    job = made.stdout.strip()
    ran = subprocess.run(
        [Path(sys.executable).with_name("runwide"), "shard", job, "0", "--workers", "1"], cwd=tmp_path, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert runwide.gather(job, [ran.stdout.strip()]) == [({"before": 5, 1: 1}, [True] * 4)]


SCRIPT = """
import os, runwide, sys
from pathlib import Path
HERE = Path(__file__).parent
TABLE = HERE / "tables" / "rates.csv"
TEXT = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(TEXT, "more")
WORK = Path("work")
OUT = Path(sys.argv[1]).parent / "program" / "out"
def f(x):
    assert OUT.is_absolute() and "runwide-code" not in str(OUT)
    assert not WORK.is_absolute()
    return [
        (HERE / "labels.json").read_text(), TABLE.read_text(), Path(__file__).with_name("labels.json").read_text(),
        open(os.path.join(TEXT, "labels.json")).read(), open(os.path.join(FOLDER, "deep", "x.txt")).read(),
    ]
if __name__ == "__main__":
    print(runwide.scatter(f, [1], store=sys.argv[1], shards=1))
"""


@pytest.mark.parametrize("words", [["main.py"], ["-m", "pk.main"]], ids=["script", "module"])
def test_paths_computed_from_a_scripts_file_lead_to_files_that_travel(words, program, tmp_path):
    folder = program({})
    package = folder / "pk" if words[0] == "-m" else folder
    (package / "tables").mkdir(parents=True)
    (package / "more" / "deep").mkdir(parents=True)
    (folder / "work").mkdir()
    (folder / "out").mkdir()
    for name, text in {
        "main.py": SCRIPT,
        "labels.json": "{}",
        "tables/rates.csv": "1",
        "more/deep/x.txt": "2",
    }.items():
        (package / name).write_text(text)
    made = subprocess.run(
        [sys.executable, *words, str(tmp_path / "store")],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    job = made.stdout.strip()
    folder.rename(tmp_path / "gone")
    reference = runwide.shard(job, 0, workers=1)
    assert runwide.gather(job, [reference]) == [["{}", "1", "{}", "{}", "2"]]


def test_a_module_with_pipelines_goes_by_name_if_a_module_that_travels_imports_it(program):
    program({"pipe_a.py": "import kfp\nclass P:\n    pass\ndef f(p):\n    from helper import g\n    return g(p)\n",
             "helper.py": "from pipe_a import P\ndef g(p):\n    return isinstance(p, P)\n"})  # fmt: skip
    pipe = importlib.import_module("pipe_a")
    made = reproducible.function(pipe.f)
    assert json.loads(made.modules).keys() == {"helper.py", "pipe_a.py"}
    assert b"make_function" not in made.core
    shared = Definitions(made.needs.by_name)
    assert b"make_class" not in reproducible.item(pipe.P(), shared)
    assert shared.modules == {"pipe_a"}


def test_another_module_of_the_same_name_is_reported(program, tmp_path):
    program({"helper.py": "class P:\n    pass\ndef f(x):\n    return P()\n"})
    job = runwide.scatter(importlib.import_module("helper").f, [1], store=str(tmp_path / "store"), shards=1)
    reference = runwide.shard(job, 0, workers=1)
    del importlib.import_module("helper").P
    with pytest.raises(ResultNotLoadable, match="helper in this process is another one than the job's"):
        runwide.gather(job, [reference])


def test_own_modules_take_precedence_over_pythons_modules(program, tmp_path):
    """A worker has loaded Python's module before the code arrives."""
    folder = program({"resource.py": "def mine(x):\n    return x + 1\n"})
    text = "import resource, runwide, sys; print(runwide.scatter(resource.mine, [1], store=sys.argv[1], shards=1))"
    made = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path / "store")],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    job = made.stdout.strip()
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [2]


def test_code_at_the_end_of_the_path_replaces_no_module(program, tmp_path, monkeypatch):
    """A client that has read results with the code of a job keeps its own modules of the same names."""
    program({"helper.py": "def f(x):\n    return x\n"})
    helper = importlib.import_module("helper")
    monkeypatch.setattr("sys.path", [*sys.path, job_code.unpacked(code_of(needs("helper")))])
    assert runwide.replay(runwide.scatter(abs, [-1], store=str(tmp_path / "store"), shards=1), 0) == 1
    assert sys.modules["helper"] is helper


def test_two_jobs_with_different_code_in_one_process_give_a_warning(program, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])  # which gets the code of a job
    jobs = []
    for number in (1, 2):
        folder = program({"helper.py": f"class P:\n    n = {number}\ndef f(x):\n    return P()\n"})
        sys.modules.pop("helper", None)
        job = runwide.scatter(
            importlib.import_module("helper").f, [1], store=str(tmp_path / "store"), shards=1
        )
        jobs.append((job, runwide.shard(job, 0, workers=1)))
    (folder / "helper.py").unlink()
    del sys.modules["helper"]
    importlib.invalidate_caches()
    for job, reference in jobs:
        assert runwide.gather(job, [reference])[0].n == 1
    del sys.modules["helper"]  # it is not this test's folder that has it
    told = [one.msg for one in caplog.records if one.levelname == "WARNING" and "code" in str(one.msg)]
    assert [one["event"] for one in told] == ["code.differed"]


def test_the_modules_of_the_classes_of_values_are_recorded(program):
    program({"helper.py": "class P:\n    pass\ndef f(): pass\n"})
    helper = importlib.import_module("helper")
    for value in (
        helper,
        {"mod": [helper], "day": (date(2026, 1, 1), {1, 2})},
        helper.P(),
        [helper.P, 1],
        {helper.P(): {helper.P()}},
        helper.f,
        {1: (helper.f, {1, 2})},
    ):
        shared = Definitions()
        reproducible.item(value, shared)
        assert shared.modules == {"helper"}, value
