"""Pickles of functions and items depend on the source only."""

import json
import os
import pickle
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import runwide
from runwide.cli.encoding import parted, unpacked, without_places, written
from runwide.errors import InputError
from runwide.pickling import reproducible
from runwide.pickling.functions import Pickle, is_same_function, parts_of
from runwide.pickling.items import Definitions

SHAPES = Path(__file__).with_name("programs") / "shapes.py"
ANOTHER_DAY = "import time\nreal = time.time\ntime.time = lambda: real() + 400 * 86400\n"


def run(arguments, folder, seed, **variables):
    """Run a program with few variables of this process's environment, and return its output."""
    found = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": str(seed), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the output of the program of many shapes: as a script, in another folder with lines added, and with ``-m``."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there") / "a" / "checkout"
    there.mkdir(parents=True)
    source = SHAPES.read_text()
    (here / "shapes.py").write_text(source)
    (there / "shapes.py").write_text(f"# a line\n\n\nUNUSED = 1\n{source}")
    (there / "sitecustomize.py").write_text(ANOTHER_DAY)
    return [
        json.loads(run(["shapes.py"], here, 1)),
        json.loads(run([there / "shapes.py"], here, 77, PYTHONPATH=str(there))),
        json.loads(run(["-m", "shapes"], there, 5)),
    ]


def test_functions_and_items_of_many_shapes_give_the_same_bytes_in_every_process(runs):
    first, *others = runs
    assert sum(name.startswith("function") for name in first) > 200
    for other in others:
        assert [name for name in first if first[name] != other[name]] == []


def test_loading_gives_the_values_that_were_pickled(runs):
    assert [name for name, found in runs[0].items() if found is False] == []


def test_a_line_above_a_function_changes_only_its_place():
    first, second = (
        reproducible.function(eval(f"{lines}lambda x: (x, [1 / y for y in x])")) for lines in ("", "\n\n")
    )
    assert first.core == second.core
    assert first.digest == second.digest
    assert first.beside != second.beside


def test_a_change_of_a_function_changes_its_digest():
    digests = {
        reproducible.function(eval(source)).digest
        for source in (
            "lambda x: x",
            "lambda y: y",
            "lambda x: x + 1",
            "lambda x: x + 2",
            "lambda x, y=1: x",
            "lambda x, y=True: x",
        )
    }
    assert len(digests) == 6


def test_a_traceback_of_a_loaded_function_shows_file_and_line():
    code = compile("\n\ndef fails(x):\n    y = 1\n    return y / x\n", "/somewhere/else/program.py", "exec")
    names = {"__name__": "__main__"}
    exec(code, names)
    loaded = pickle.loads(reproducible.function(names["fails"]).data)
    with pytest.raises(ZeroDivisionError) as caught:
        loaded(0)
    assert traceback.extract_tb(caught.value.__traceback__)[-1][:2] == ("program.py", 5)


def test_functions_loaded_in_many_threads_keep_their_places():
    made = [reproducible.function(eval("\n" * lines + "lambda x: x")).data for lines in range(20)]
    found = {}

    def load(index):
        for _ in range(50):
            found.setdefault(index, set()).add(pickle.loads(made[index]).__code__.co_firstlineno)

    threads = [threading.Thread(target=load, args=(index,)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {index: {index + 1} for index in range(20)}


def test_an_object_with_several_names_is_one_object_also_in_large_data():
    rows = [{"id": number} for number in range(200)]
    by_id = {row["id"]: row for row in rows}
    rows_there, by_id_there = pickle.loads(reproducible.function(lambda _: (rows, by_id)).data)(0)
    assert rows_there == rows
    assert all(by_id_there[row["id"]] is row for row in rows_there)


def test_a_large_list_that_contains_itself_can_be_loaded():
    loop = list(range(500))
    loop.append(loop)
    there = pickle.loads(reproducible.function(lambda _: loop).data)(0)
    assert there[500] is there
    assert there[:500] == loop[:500]


def test_a_set_with_a_member_that_refers_to_it_can_be_loaded():
    members = set()
    member = Referring(members)
    members.update((member, "a", "b"))
    there = pickle.loads(reproducible.item(members, Definitions()))
    (found,) = (one for one in there if isinstance(one, Referring))
    assert found.owner is there
    assert len(there) == 3


class Referring:
    def __init__(self, owner):
        self.owner = owner


@pytest.mark.parametrize("depth", [250, 5000])
def test_values_too_deep_for_python_are_pickled_in_c_or_refused(depth):
    deep = []
    for _ in range(depth):
        deep = [deep]
    if depth < 1000:
        there = pickle.loads(reproducible.function(lambda _: deep).data)(0)
        assert len(there) == 1
    else:
        with pytest.raises(pickle.PicklingError, match="deep"):
            reproducible.function(lambda _: deep)


def test_parts_are_read_without_loading_the_pickle():
    made = reproducible.function(lambda x: x)
    assert parts_of(made.data) == made
    evil = pickle.dumps(Evil())
    assert parts_of(evil) is None
    assert parts_of(b"no pickle") is None
    assert parts_of(made.data + b" ") is None


class Evil:
    def __reduce__(self):
        return pytest.fail, ("it was run",)


def test_a_function_as_text_comes_back_with_its_places_or_without():
    made = reproducible.function(lambda x: x + 1)
    text = written(made)
    assert parts_of(unpacked(text.encode(), "--function-base64")) == made
    kept, places = parted(text)
    assert kept + places == text
    assert without_places(text) == kept == without_places(kept)
    with pytest.raises(InputError, match="cut off"):
        unpacked(kept.encode(), "--function-base64")


@pytest.mark.parametrize("text", ["~/data", "z:no", "gs://b/a~b", "", "z:a~b", "a#sha256=00~eJz"])
def test_other_texts_of_a_pipeline_have_no_places(text):
    assert without_places(text) == text


CLASSES = """
from runwide.pickling.items import Definitions
import pickle, sys
from dataclasses import dataclass
from runwide.store.codec import decode, encode

def local():
    @dataclass
    class Row:
        n: int
        def twice(self): return self.n * 2
    return Row

@dataclass(frozen=True)
class Named:
    n: int

first, second = local(), local()
frames = [encode(kind(1), context="c", definitions=Definitions()) for kind in (first, second, Named)]
print(*[frame.digest for frame in frames])
back = [decode(b"".join(frame.parts), digest=frame.digest, context="c") for frame in frames]
print(back[2] == Named(1), back[1] == second(1), back[0] == first(1), back[0].twice())
"""


def test_local_classes_with_the_same_content_have_the_same_bytes_in_each_process(tmp_path):
    (tmp_path / "program.py").write_text(CLASSES)
    texts = {run(["program.py"], tmp_path, seed) for seed in (1, 2)}
    (text,) = texts
    digests, back = text.splitlines()
    assert len(set(digests.split())) == 3
    assert back == "True True True 2"


USES_OWN_MODULES = """
from runwide.pickling import reproducible
import helpers
from helpers.deep import scale

def by_name(x): return helpers.weigh(x)
def by_attribute(x): return scale(x)
def inside(x):
    from helpers import late
    return late.add(x)
def without(x): return x

class Holder:
    def run(self, x): return scale(x)

print(*[reproducible.function(one).digest for one in (by_name, by_attribute, inside, Holder().run, without)])
"""


def test_the_code_of_own_modules_is_part_of_a_functions_digest(tmp_path):
    package = tmp_path / "helpers"
    package.mkdir()
    (package / "__init__.py").write_text("from .deep import scale\ndef weigh(x): return scale(x)\n")
    (package / "deep.py").write_text("def scale(x): return 2 * x\n")
    (package / "late.py").write_text("def add(x): return x + 1\n")
    (tmp_path / "program.py").write_text(USES_OWN_MODULES)

    def digests():
        return run(["program.py"], tmp_path, 1, PYTHONDONTWRITEBYTECODE="1").split()

    first = digests()
    (package / "deep.py").write_text("# doubled\n\n\ndef scale(x):  # a comment\n    return 2 * x\n")
    assert digests() == first
    (package / "deep.py").write_text("def scale(x): return 3 * x\n")
    changed = digests()
    assert [one != other for one, other in zip(first, changed, strict=True)] == [
        True,
        True,
        True,
        True,
        False,
    ]
    (package / "late.py").write_text("def add(x): return x + 2\n")
    assert [one != other for one, other in zip(changed, digests(), strict=True)] == [
        False,
        False,
        True,
        False,
        False,
    ]


# --- classes with the same content, and objects in classes


def numbered():
    class Kind:
        pass

    return Kind


def test_classes_with_the_same_content_stay_different_classes(tmp_path):
    kinds = {name: numbered() for name in "abc"}
    names = {kind: name for name, kind in kinds.items()}
    assert runwide.map(lambda name: names[kinds[name]], list("abc"), workers=2) == list("abc")
    assert runwide.map(lambda name: names[kinds[name]], list("abc"), workers=2, store=tmp_path) == list("abc")
    items = [kinds["a"](), kinds["c"]()] * 10
    for place in ({}, {"store": tmp_path}):
        assert list(map(type, runwide.map(lambda item: item, items, workers=2, **place))) == list(
            map(type, items)
        )


def test_a_local_class_that_replaces_a_collected_one_has_the_same_bytes():
    first, second = (reproducible.function(numbered()).digest for _ in range(2))
    assert first == second


def loaded_elsewhere(value, program):
    """Return the output of a program that loads an item."""
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pickle, sys; item = pickle.loads(sys.stdin.buffer.read())\n" + program,
        ],
        input=reproducible.item(value, Definitions()),
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr.decode()
    return found.stdout.decode()


def test_a_class_and_an_item_that_share_an_object_share_it_after_loading():
    class Node:
        registry = []  # noqa: RUF012 - users write this

        def __init__(self):
            self.registry.append(self)

    text = "node, registry, kind = item; print(kind.registry is registry, registry[0] is node, type(node) is kind)"
    assert loaded_elsewhere([Node(), Node.registry, Node], text) == "True True True\n"


def test_a_traceback_of_a_method_of_an_item_can_be_formatted():
    class Failing:
        def run(self, x):
            values = [y for y in range(100) if y]
            return 1 / x if values else None

    text = "import traceback\ntry: item.run(0)\nexcept ZeroDivisionError: print(traceback.format_exc())"
    assert "ZeroDivisionError: division by zero" in loaded_elsewhere(Failing(), text)


def test_a_docstring_stays_and_one_that_shows_a_set_does_not():
    @dataclass
    class Point:
        """Point(x): as written."""

        x: int = 0

    @dataclass
    class Tagged:
        tags: frozenset = frozenset({"a", "b"})

    for kind, doc in ((Point, Point.__doc__), (Tagged, None)):
        assert loaded_elsewhere(kind, "print(item.__doc__)") == f"{doc}\n"


CELLS = """
import __main__, sys, runwide, runwide.errors
CELL = '''
class Case:
    def __init__(self, x): self.x = x
    def run(self): return self.x
def call(x): return Case(x).run()
'''
old = []
for number in range(4):
    exec(CELL, vars(__main__))
    old += [Case(number)] if number == 2 else []  # whose class lives on
    runwide.map(call, [1, 2], store=sys.argv[1], name="cells", workers=1)
exec(CELL.replace("return self.x", "return self.x + 1"), vars(__main__))
try:
    runwide.map(call, [1, 2], store=sys.argv[1], name="cells", workers=1)
except runwide.errors.FunctionChanged:
    print("changed")
"""


def test_a_cell_that_is_run_again_is_the_same_and_one_that_was_edited_is_not(tmp_path):
    (tmp_path / "cells.py").write_text(CELLS)
    assert run(["cells.py", tmp_path / "store"], tmp_path, 1) == "changed\n"


LAZY = """
import enum, pickle, sys
from typing import Protocol, runtime_checkable
from runwide.pickling import reproducible

class Access(enum.Flag):
    READ = 1
    WRITE = 2

class Plain:
    def run(self): return 1

@runtime_checkable
class Runs(Protocol):
    def run(self): ...

if len(sys.argv) > 1:
    pickle.dumps(Plain()), ~Access.READ, Access.READ | Access.WRITE
    isinstance(Plain(), Runs), Plain.__annotations__, Runs.__annotations__
print(*[reproducible.function(one).digest for one in (lambda: Access.READ, lambda: Plain, lambda: Runs)])
"""


def test_attributes_that_python_adds_to_a_used_class_are_left_out(tmp_path):
    (tmp_path / "lazy.py").write_text(LAZY)
    assert run(["lazy.py"], tmp_path, 1) == run(["lazy.py", "used"], tmp_path, 2)


BY_NAME = """
import sys
import helpers.deep
from helpers import cached
from runwide.pickling import reproducible

def by_attribute(x): return helpers.deep.scale(x)
def by_cache(x): return cached(x)
def by_text(x):
    from importlib import import_module
    return import_module("helpers.late").add(x)

print(*[reproducible.function(one).digest for one in (by_attribute, by_cache, cached, by_text)])
"""


@pytest.mark.parametrize(
    ("module", "changed"),
    [("deep", [True, False, False, False]), ("__init__", [True] * 4), ("late", [False, False, False, True])],
)
def test_modules_reached_by_an_attribute_a_cache_or_a_text_are_included(tmp_path, module, changed):
    package = tmp_path / "helpers"
    package.mkdir()
    cached = "from functools import lru_cache\n@lru_cache\ndef cached(x): return {}\n"
    sources = {"__init__": cached, "deep": "def scale(x): return {}\n", "late": "def add(x): return {}\n"}
    for name, text in sources.items():
        (package / f"{name}.py").write_text(text.format("x"))
    (tmp_path / "program.py").write_text(BY_NAME)
    first = run(["program.py"], tmp_path, 1, PYTHONDONTWRITEBYTECODE="1").split()
    (package / f"{module}.py").write_text(sources[module].format("x + 1"))
    second = run(["program.py"], tmp_path, 1, PYTHONDONTWRITEBYTECODE="1").split()
    assert [one != other for one, other in zip(first, second, strict=True)] == changed


# --- pickles that are not trusted


def using_json():
    return lambda test: (json.decoder.JSONDecoder, test)


def planted(**changes):
    """Return the pickle of a function, and the same with other data beside it."""
    made = reproducible.function(using_json())
    beside = json.dumps({**json.loads(made.beside), **changes})
    return made.data, Pickle(made.core, made.modules, beside).data


def test_a_function_on_other_lines_is_the_same_function():
    made = reproducible.function(using_json())
    places = [[file, line + 5, *rest] for file, line, *rest in json.loads(made.beside)["places"]]
    assert is_same_function(*planted(places=places, submodules=[]))
    assert is_same_function(*planted(submodules=["json.decoder"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"submodules": ["test.__main__"]},
        {"submodules": ["json.tool"]},
        {"submodules": ["os"]},
        {"submodules": 5},
        {"submodules": [["json.decoder"]]},
        {"places": None},
        {"places": []},
        {"places": [[1]]},
        {"places": [["/etc/passwd", 1, "", None]]},
        {"places": [["../secret.py", 1, "", None]]},
        {"places": [["secret.txt", 1, "", None]]},
    ],
    ids=json.dumps,
)
def test_data_beside_a_pickle_can_neither_import_nor_show_more_than_the_function_names(changes):
    assert not is_same_function(*planted(**changes))


@pytest.mark.parametrize("table", ["", "AA==", "////"])
def test_damaged_places_do_no_harm(table):
    loaded = pickle.loads(planted(places=[["a.py", -5, table, None]])[1])
    assert loaded(1)[1] == 1
    assert all(line is None or line >= 0 for _, _, line in loaded.__code__.co_lines())


def test_empty_bytes_stay_bytes_beside_an_empty_array():
    value = [np.array([]), b"", {0, 1}]
    loaded = pickle.loads(reproducible.item(value, Definitions()))
    assert (type(loaded[1]), loaded[2]) == (bytes, {0, 1})


def test_members_of_a_set_are_pickled_once_to_be_compared_and_once_to_be_written():
    counted = []

    class Counted:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            counted.append(self.value)
            return int, (self.value,)

    reproducible.item({Counted(value) for value in range(50)}, Definitions())
    assert len(counted) == 100


MAKES_OWN = """
import sys
from pkg.kinds import Kind, Price
from runwide.code.archive import code_of
from runwide.cli.encoding import written_code
from runwide.cli.encoding import values_bytes
from runwide.pickling.functions import Needs
from runwide.pickling.items import Definitions
shared = Definitions()
open(sys.argv[1], "wb").write(values_bytes([Price(Kind.FOOD, 1), Kind.FOOD], "x", shared))
open(sys.argv[1] + ".code", "w").write(written_code(code_of(Needs(frozenset(shared.modules)))))
"""
LOADS_OWN = """
import sys
from pathlib import Path
from runwide.cli.encoding import value_of_bytes
if len(sys.argv) > 2:
    from runwide.cli.wire import code_used
    code_used(Path(sys.argv[2]).read_text())
price, kind = value_of_bytes(Path(sys.argv[1]).read_bytes())
try:
    from pkg.work import check
except ImportError:
    print(price, kind)
else:
    print(*check(price, kind))
"""


def test_classes_of_own_modules_are_imported_if_possible_and_sent_otherwise(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kinds.py").write_text(
        "import enum\nfrom dataclasses import dataclass\n"
        "class Kind(enum.Enum):\n    FOOD = 'food'\n"
        "@dataclass(frozen=True)\nclass Price:\n    kind: Kind\n    amount: int\n"
    )
    (package / "work.py").write_text(
        "from pkg.kinds import Kind, Price\n"
        "def check(price, kind):\n"
        "    return isinstance(price, Price), price == Price(Kind.FOOD, 1), price.kind is kind is Kind.FOOD\n"
    )
    (tmp_path / "makes.py").write_text(MAKES_OWN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in (tmp_path, elsewhere):
        (folder / "loads.py").write_text(LOADS_OWN)
    run(["makes.py", tmp_path / "values"], tmp_path, 1)
    assert run(["loads.py", tmp_path / "values"], tmp_path, 2) == "True True True\n"
    assert run(["loads.py", tmp_path / "values", tmp_path / "values.code"], elsewhere, 3) == (
        "Price(kind=<Kind.FOOD: 'food'>, amount=1) Kind.FOOD\n"
    )
