"""Files beside the program's own code travel as they are on disk; files that cannot travel are named."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from runwide.code import archive, data, finding, source
from runwide.code.archive import code_of
from runwide.errors import FunctionChanged, InputError
from runwide.job.named_jobs import scatter_or_find
from runwide.pickling import places, reproducible
from runwide.pickling.functions import Needs

LOOKS = "from pathlib import Path\nHERE = Path(__file__).parent\n"
PACKAGE = {"pk/__init__.py": "", "pk/work.py": LOOKS, "pk/data/a.txt": "a"}
CODE = ["pk/__init__.py", "pk/work.py"]


def sent(*names, whole=()):
    """Return the paths in the archive of some modules."""
    return list(json.loads(code_of(Needs(frozenset(names)), whole=whole).files))


def unpacked(names, folder, whole=()):
    made = code_of(Needs(frozenset(names)), whole=whole)
    folder.mkdir()
    archive.unpack(made.archive, str(folder))
    assert made.is_sound()
    return made, folder


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "asked for"])
@pytest.mark.parametrize(
    "name", [b"12:00.csv", b"a\\b.csv", b"caf\xe9.txt"], ids=["colon", "backslash", "bytes"]
)
def test_a_file_with_an_invalid_name_is_left_out_and_named(name, whole, program, caplog, monkeypatch):
    monkeypatch.setattr(archive, "_reported", set())
    folder = program(PACKAGE)
    Path(os.fsdecode(os.fsencode(folder / "pk" / "data") + b"/" + name)).write_text("x")
    with caplog.at_level(logging.WARNING):
        assert sent("pk.work", whole=["pk"] if whole else ()) == [
            "pk/__init__.py",
            "pk/data/a.txt",
            "pk/work.py",
        ]
    assert "code.left_out" in caplog.text
    shown = os.fsdecode(name).encode(errors="backslashreplace").decode()
    assert finding.reached(["pk.work"]).left_out == (f"{folder}/pk/data/{shown}",)


def test_a_file_with_an_invalid_name_is_refused_if_it_is_asked_for(program, monkeypatch):
    folder = program({**PACKAGE, "pk/data/12:00.csv": "x"})
    for asked in ("pk/data/12:00.csv", "pk/data"):
        with pytest.raises(InputError, match=r"pk/data/12:00\.csv.*its name is not valid on every system"):
            code_of(Needs(frozenset()), whole=[str(folder / asked)])


def test_programs_beside_a_module_can_be_run_in_the_component(program, tmp_path):
    folder = program({**PACKAGE, "pk/tool.sh": "#!/bin/sh\necho ran\n", "bin/tool": "#!/bin/sh\necho ran\n"})
    for name in ("pk/tool.sh", "bin/tool"):
        (folder / name).chmod(0o755)
    made, there = unpacked(["pk.work"], tmp_path / "there", [str(folder / "bin" / "tool")])
    (folder / "more.py").write_text("")
    importlib.invalidate_caches()
    added = code_of(Needs(frozenset({"more"})), base=made)  # a component sends received files on
    (tmp_path / "again").mkdir()
    archive.unpack(added.archive, str(tmp_path / "again"))
    for root in (there, tmp_path / "again"):
        for name in ("pk/tool.sh", "bin/tool"):
            assert subprocess.run([root / name], capture_output=True, check=True, text=True).stdout == "ran\n"
        assert not (root / "pk/data/a.txt").stat().st_mode & 0o111


@pytest.mark.parametrize("asked", ["", ["pk", ""]], ids=["text", "list"])
def test_an_empty_text_as_code_is_rejected(asked):
    with pytest.raises(InputError, match="is not a list of names or paths"):
        code_of(Needs(frozenset()), whole=asked)


def test_the_folder_of_a_script_is_a_path_without_a_dot_at_its_end(monkeypatch):
    monkeypatch.syspath_prepend("/x/runwide-code-1")
    assert places.own_file(".") == "/x/runwide-code-1"
    assert places.own_file("shop/prices.py") == "/x/runwide-code-1/shop/prices.py"


def test_only_files_with_content_travel(program):
    folder = program(PACKAGE)
    os.mkfifo(folder / "pk" / "pipe")
    os.mkfifo(folder / "pk" / "data" / "pipe")
    (folder / "pk" / "loop").symlink_to("loop")
    assert sent("pk.work") == ["pk/__init__.py", "pk/data/a.txt", "pk/work.py"]
    assert sent(whole=[str(folder / "pk" / "data")]) == ["pk/data/a.txt"]
    with pytest.raises(InputError, match="pipe' is not a regular file"):
        code_of(Needs(frozenset()), whole=[str(folder / "pk" / "pipe")])


def test_links_to_folders_are_followed_without_loops(program, tmp_path):
    folder = program(PACKAGE)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "b.txt").write_text("b")
    (tmp_path / "far" / "back").symlink_to(folder / "pk" / "data")
    (folder / "pk" / "data" / "more").symlink_to(tmp_path / "far")
    (folder / "pk" / "data" / "self").symlink_to(".")
    (folder / "pk" / "latest").symlink_to("data")
    expected = ["pk/data/a.txt", "pk/data/more/b.txt", "pk/latest/a.txt", "pk/latest/more/b.txt"]
    assert sent("pk.work") == sorted([*CODE, *expected])
    assert sent(whole=[str(folder / "pk" / "data")]) == expected[:2]


def test_a_folder_of_many_files_is_left_out_and_the_others_are_sent(program, monkeypatch):
    monkeypatch.setattr(data, "_MOST", 20)
    folder = program({**PACKAGE, **{f"pk/{where}/{number}.txt": "" for where, most in [("b", 21), ("c", 15), ("d", 15)]
                                    for number in range(most)}, "pk/z/b.txt": "b"})  # fmt: skip
    found = finding.reached(["pk.work"])
    assert [path for path in found.digests if path[3:5] not in ("c/", "d/")] == [
        "pk/__init__.py", "pk/data/a.txt", "pk/work.py", "pk/z/b.txt",
    ]  # fmt: skip
    assert len(found.digests) == 34
    assert found.left_out == (f"{folder}/pk/b",)
    monkeypatch.setattr(data, "_ALL", 30)
    assert finding.reached(["pk.work"]).left_out == (f"{folder}/pk/b", f"{folder}/pk/d")


KEYS = """
from pathlib import Path
HERE = Path(__file__).parent
VERSION = (HERE / "VERSION").read_text
PLACES = ["one"]
def f(x):
    msg = {"env": "prod", "data": x, "build": 3}
    return msg["data"], msg.get("runs")
def named(folder):
    return [(HERE / folder / place) for place in PLACES]
def called():
    return named("tables")
"""


@pytest.mark.parametrize("travels", ["by name", "by value"])
def test_a_folder_travels_if_its_text_is_a_part_of_a_path(travels, program, caplog, monkeypatch):
    monkeypatch.setattr(archive, "_reported", set())
    folders = ["env", "data", "build", "runs", "tables", "one"]
    folder = program({"helper.py": KEYS, "VERSION": "1", **{f"{name}/x.txt": "123" for name in folders}})
    if travels == "by name":
        with caplog.at_level(logging.INFO):
            assert sent("helper") == ["VERSION", "helper.py", "one/x.txt", "tables/x.txt"]
        assert "code.data" in caplog.text
        assert "bytes=7" in caplog.text
        return
    about = {"__name__": "__main__", "__file__": str(folder / "script.py"), "__spec__": None}
    text = "from pathlib import Path\ndef f(x):\n m = {'env': 1, 'data': x}\n return m['data'], Path(__file__) / 'tables'"
    exec(compile(text, about["__file__"], "exec"), about)
    assert list(json.loads(reproducible.function(about["f"]).modules)) == ["tables/x.txt"]


def test_stores_of_runwide_are_not_data(program):
    """Otherwise each run would send the results of earlier runs, and its function would have another digest."""
    job, digest = "4-20261130t205754-35c463e602fe9c31", "1b" * 32
    stored = [f"{job}/job.json", f"{job}/shards/0000/shard.json", f"names/{digest}.json", f"code/{digest}.zip",
              "batches/nightly/batch.json", "batches/nightly/runs/001.json"]  # fmt: skip
    files = {f"pk/{where}/{name}": "x" for where in ("runs", "data", ".") for name in stored}
    folder = program({**PACKAGE, **files, "pk/names/ada.txt": "x", "pk/batches/one.csv": "x"})
    expected = ["pk/batches/one.csv", "pk/data/a.txt", "pk/names/ada.txt"]
    (folder / "pk" / "names" / f"{digest}.json").unlink()
    assert sent("pk.work") == sorted(
        [*CODE, *expected, "pk/batches/nightly/batch.json", "pk/batches/nightly/runs/001.json"]
    )
    assert sent(whole=[str(folder / "pk" / "runs"), str(folder / "pk" / "data")]) == ["pk/data/a.txt"]


SCRIPT = """
from pathlib import Path
NAMES = {"days": ["five.csv"]}
def function(more="three.csv", *, other=("four.csv",)):
    here = Path(__file__).parent
    return [(here / name).read_text() for name in ("one.csv", "two.csv")] + [NAMES, "six.csv" in {"six.csv", "7.csv"}]
def closed(name):
    return lambda: (Path(__file__).parent / name).read_text()
"""


def test_texts_in_containers_defaults_and_values_name_files_beside_a_script(program):
    names = ["one.csv", "two.csv", "three.csv", "four.csv", "five.csv", "six.csv", "7.csv", "eight.csv"]
    folder = program({**dict.fromkeys([*names, "other.csv"], "1"), "script.py": SCRIPT})
    about = {"__name__": "__main__", "__file__": str(folder / "script.py"), "__spec__": None}
    exec(compile(SCRIPT, about["__file__"], "exec"), about)
    made = reproducible.function(about["function"])
    assert list(json.loads(made.modules)) == sorted(names[:-1])
    made = reproducible.function(about["closed"]("eight.csv"))
    assert list(json.loads(made.modules)) == ["eight.csv"]


def test_data_in_a_zip_archive_travels_like_data_in_a_folder(tmp_path, monkeypatch):
    app = tmp_path / "app.pyz"
    files = {"zlib_/__init__.py": "", "zlib_/work.py": "import pkgutil\npkgutil.get_data('zlib_', 'n.txt'); 'side/s.txt'",
             "zlib_/n.txt": "n", "zlib_/deep/d.json": "{}", "zlib_/.env": "SECRET", "zlib_/sub/__init__.py": "",
             "zlib_/sub/theirs.txt": "t", "side/s.txt": "s", "side/other.txt": "o"}  # fmt: skip
    with zipfile.ZipFile(app, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in files.items():
            opened.writestr(name, text)
    monkeypatch.syspath_prepend(str(app))
    made, there = unpacked(["zlib_.work"], tmp_path / "there")
    assert list(json.loads(made.files)) == [
        "side/s.txt", "zlib_/__init__.py", "zlib_/deep/d.json", "zlib_/n.txt", "zlib_/work.py",
    ]  # fmt: skip
    assert (there / "zlib_" / "n.txt").read_text() == "n"


@pytest.mark.parametrize(
    ("text", "optional"),
    [
        ("from contextlib import suppress\nwith suppress(ImportError): import pydantic", True),
        (
            "import contextlib\nwith open(x), contextlib.suppress(KeyError, ModuleNotFoundError): import pydantic",
            True,
        ),
        ("with suppress(KeyError): import pydantic", False),
        ("with other(ImportError): import pydantic", False),
    ],
)
def test_an_import_whose_failure_is_suppressed_is_not_needed(text, optional):
    found = source.read(text.encode(), "x.py").imports
    assert [one.optional for one in found if one.name == "pydantic"] == [optional]


def test_a_module_whose_package_does_not_exist_goes_by_value(program, monkeypatch):
    folder = program(
        {"rule_c.py": "class C:\n    def __init__(self): self.x = 2\ndef f(x): return x + C().x\n"}
    )
    spec = spec_from_file_location("pkgx.rule_c", folder / "rule_c.py")
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pkgx.rule_c", module)
    spec.loader.exec_module(module)
    made = reproducible.function(module.f)
    assert json.loads(made.modules) == {}
    import pickle

    monkeypatch.delitem(sys.modules, "pkgx.rule_c")
    assert pickle.loads(made.data)(1) == 3


def test_the_error_of_a_changed_function_names_the_files_that_differ(program, tmp_path):
    folder = program({**PACKAGE, "pk/rates.csv": "1", "pk/old.csv": "1"})
    (folder / "pk/work.py").write_text(f"{LOOKS}def f(x): return (HERE / 'rates.csv').read_text()\n")
    work = importlib.import_module("pk.work")
    options = {"store": str(folder / "pk" / "runs"), "shards": 1, "name": "rates"}
    first = scatter_or_find(work.f, [1], **options).job.reference
    assert (
        scatter_or_find(work.f, [1], **options).job.reference == first
    )  # the store itself is no data of the package
    (folder / "pk/rates.csv").write_text("2")
    (folder / "pk/new.csv").write_text("1")
    (folder / "pk/old.csv").unlink()
    with pytest.raises(FunctionChanged) as caught:
        scatter_or_find(work.f, [1], **options)
    assert str(caught.value).startswith(
        "the function of the job 'rates' has changed since its results were made, and files that travel with it: "
        "'pk/new.csv' (new), 'pk/old.csv' (removed), 'pk/rates.csv' (changed)"
    )


READS = """
from importlib.resources import files
def by_files(x):
    return files("shopdata").joinpath("x.txt").read_text("utf-8")
def by_pkgutil(x):
    import pkgutil
    return pkgutil.get_data("shopdata", "x.txt"), "settings"
def by_space(x):
    from importlib import resources
    return resources.files("space.tables").joinpath("x.txt").read_text()
"""


def test_a_package_that_code_reads_by_name_travels_with_its_data(program):
    folder = program({"shopdata/__init__.py": "", "shopdata/x.txt": "x", "space/tables/x.txt": "x", "settings.py": "",
                      "reads.py": READS})  # fmt: skip
    about = {"__name__": "__main__", "__file__": str(folder / "script.py"), "__spec__": None}
    exec(compile(READS, about["__file__"], "exec"), about)
    for name in ("by_files", "by_pkgutil"):
        assert list(json.loads(reproducible.function(about[name]).modules)) == [
            "shopdata/__init__.py",
            "shopdata/x.txt",
        ]
    assert list(json.loads(reproducible.function(about["by_space"]).modules)) == ["space/tables/x.txt"]
    assert sent("reads") == ["reads.py", "shopdata/__init__.py", "shopdata/x.txt", "space/tables/x.txt"]


def test_singledispatch_functions_travel():
    import pickle

    about = {"__name__": "__main__"}
    text = "import functools\n@functools.singledispatch\ndef sd(x): return 'any'\n@sd.register\ndef _(x: int): return 'i'\n"
    exec(f"{text}def uses(x): return sd(x)\n", about)
    for name in ("sd", "uses"):
        found = pickle.loads(reproducible.function(about[name]).data)
        assert [found(1), found("a")] == ["i", "any"]


def test_files_that_look_like_keys_travel_only_if_they_are_asked_for_by_name(program, caplog, monkeypatch):
    monkeypatch.setattr(archive, "_reported", set())
    keys = ["client_secret_1.json", "token.json", "prod.env", "conf/secrets.yaml", "id_rsa.bak"]
    folder = program(
        {**PACKAGE, **{f"pk/{name}": "k" for name in keys}, "pk/.env": "k", "pk/.git/config": "k"}
    )
    with caplog.at_level(logging.WARNING):
        assert sent("pk.work") == ["pk/__init__.py", "pk/data/a.txt", "pk/work.py"]
    assert finding.reached(["pk.work"]).left_out == tuple(sorted(f"{folder}/pk/{name}" for name in keys))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert sent(whole=[f"{folder}/pk/"]) == ["pk/__init__.py", "pk/data/a.txt", "pk/work.py"]
    assert "count=7" in caplog.text
    assert sent(whole=[f"{folder}/pk/.env"]) == ["pk/.env"]
    monkeypatch.chdir(folder)  # a folder on the search path: its files keep their paths below it
    assert sent(whole=["."]) == ["pk/__init__.py", "pk/data/a.txt", "pk/work.py"]


def test_links_to_a_parent_are_not_followed_in_a_whole_package(program):
    folder = program({**PACKAGE, "pk/a/x.py": "", "pk/b/y.py": ""})
    for link, to in [
        ("data/loop", ".."),
        ("data/self", "../../pk"),
        ("a/l", "../b"),
        ("b/l", "../a"),
        ("back", "."),
    ]:
        (folder / "pk" / link).symlink_to(to)
    found = sent(whole=["pk"])
    assert {"pk/a/x.py", "pk/a/l/y.py", "pk/b/y.py", "pk/b/l/x.py", "pk/data/a.txt", "pk/work.py"} < set(
        found
    )
    assert not [path for path in found if path.count("pk/") + path.count("back") > 1]


@pytest.mark.parametrize(
    "deep", ["+".join("x" * 1500), "if x: pass\n" + "elif x == 1: pass\n" * 600], ids=["sum", "branches"]
)
def test_a_module_with_a_long_chain_keeps_its_imports_and_its_digest(deep):
    text = f"import helper\n{deep}"
    read = source.read(text.encode(), "x.py")
    assert [one.name for one in read.imports] == ["helper"]
    assert source.read(f"# a comment\n{text}".encode(), "x.py").digest == read.digest
    assert source.read(text.replace("x", "y").encode(), "x.py").digest != read.digest


def test_a_loaded_module_without_its_file_is_reported_before_anything_is_sent(program):
    folder = program({"gone.py": "def f(x): return x\n"})
    importlib.import_module("gone")
    (folder / "gone.py").unlink()
    with pytest.raises(
        InputError, match=r"the module 'gone' is loaded here, but its file does not exist any more"
    ):
        code_of(Needs(frozenset({"gone"})))
