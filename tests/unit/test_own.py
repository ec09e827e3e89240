"""The program's own modules that a function needs are found by their imports, and none is loaded."""

from __future__ import annotations

import importlib
import os
import py_compile
import subprocess
import sys
import sysconfig
import textwrap
import threading
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from runwide.code import files as own_files
from runwide.code import finding, graph

FAILS = "raise RuntimeError('this module was loaded')\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules, each of which fails if it is loaded, into a folder on the search path."""
    folder = tmp_path / "program"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)

    def make(files, *, below=folder):
        for name, text in files.items():
            path = below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text) + FAILS)
        importlib.invalidate_caches()
        return below

    yield make
    loaded = [sys.modules[name] for name in set(sys.modules) - before]
    files = [str(vars(module).get("__file__")) for module in loaded if isinstance(module, ModuleType)]
    assert not [file for file in files if file.startswith(str(tmp_path))]


def needed_by(names):
    files = finding.reached(names).files.values()
    return dict(sorted((file.module, file.digest) for file in files if file.module))


def reached(*names):
    return list(needed_by(names))


# --- which modules


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import tools", ["tools"]),
        ("import tools as t, other", ["other", "tools"]),
        ("from tools import f", ["tools"]),
        ("from tools import *", ["tools"]),
        ("def f():\n    import tools", ["tools"]),
        ("class C:\n    def f(self):\n        from tools import f", ["tools"]),
        ("async def f():\n    with x:\n        import tools", ["tools"]),
        ("try:\n    import tools\nexcept ImportError:\n    import other", ["other", "tools"]),
        ("if x:\n    import tools\nelse:\n    import other", ["other", "tools"]),
        ("import pkg", ["pkg"]),
        ("import pkg.deep.leaf", ["pkg", "pkg.deep", "pkg.deep.leaf"]),
        ("from pkg import part", ["pkg", "pkg.part"]),
        ("from pkg import name", ["pkg"]),
        ("from pkg.deep import leaf", ["pkg", "pkg.deep", "pkg.deep.leaf"]),
        ("from pkg.deep.leaf import f", ["pkg", "pkg.deep", "pkg.deep.leaf"]),
        ("import importlib\nimportlib.import_module('pkg.part')", ["pkg", "pkg.part"]),
        ("from importlib import import_module as load, import_module\nimport_module('tools')", ["tools"]),
        ("__import__('tools')", ["tools"]),
        ("import_module(name)\n__import__()", []),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tools\nelse:\n    import other", ["other"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import tools", []),
        ("import json, numpy, kfp, runwide, runwide_components.batch, nowhere, __main__, sys", []),
        ("from . import tools\nfrom .tools import f\nfrom ... import tools", []),
        ("import tools.not_a_package", ["tools"]),
        ("'import tools'  # import tools", []),
    ],
)  # fmt: skip
def test_each_form_of_import_is_followed(text, expected, write):
    write(
        {
            "start.py": f"{text}\n",
            "tools.py": "f = 1\n",
            "other.py": "",
            "pkg/__init__.py": "name = 1\n",
            "pkg/part.py": "",
            "pkg/unused.py": "",
            "pkg/deep/__init__.py": "",
            "pkg/deep/leaf.py": "",
        }
    )
    assert reached("start") == sorted(["start", *expected])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from . import part", ["pkg.part"]),
        ("from .part import f", ["pkg.part"]),
        ("from .deep import leaf", ["pkg.deep", "pkg.deep.leaf"]),
        ("from .deep.leaf import f", ["pkg.deep", "pkg.deep.leaf"]),
        ("from .. import tools", []),
        ("from importlib import import_module\nimport_module('.part', __package__)", ["pkg.part"]),
    ],
)
@pytest.mark.parametrize("place", ["pkg/__init__.py", "pkg/start.py"])
def test_relative_imports_are_resolved_against_the_package(place, text, expected, write):
    files = {"pkg/__init__.py": "", "pkg/part.py": "", "pkg/deep/__init__.py": "", "pkg/deep/leaf.py": ""}
    write({**files, "tools.py": "", place: f"{text}\n"})
    name = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert reached(name) == sorted({"pkg", name, *expected})


def test_a_relative_import_of_a_deeper_module_counts_its_dots(write):
    write(
        {
            "pkg/__init__.py": "",
            "pkg/part.py": "",
            "pkg/deep/__init__.py": "from .. import part\n",
            "pkg/deep/leaf.py": "from ..part import f\nfrom . import twin\n",
            "pkg/deep/twin.py": "",
        }
    )
    assert reached("pkg.deep.leaf") == ["pkg", "pkg.deep", "pkg.deep.leaf", "pkg.deep.twin", "pkg.part"]


def test_imports_of_imported_modules_are_followed_and_cycles_end(write):
    write(
        {
            "a.py": "import b\n",
            "b.py": "import c\nimport json\n",
            "c.py": "import a, b, c\n",
            "unused.py": "import a\n",
        }
    )
    assert reached("a") == reached("b") == reached("c", "a") == ["a", "b", "c"]


def test_a_package_above_a_module_is_included_with_its_imports(write):
    write({"pkg/__init__.py": "import tools\n", "pkg/part.py": "", "tools.py": ""})
    assert reached("pkg.part") == ["pkg", "pkg.part", "tools"]


def test_a_star_takes_the_submodules_that_the_package_makes_public(write):
    write(
        {
            "start.py": "from pkg import *\n",
            "pkg/__init__.py": "__all__ = ['part', 'name']\n__all__ += ['more']\nname = 1\n",
            "pkg/part.py": "",
            "pkg/more.py": "",
            "pkg/unused.py": "",
        }
    )
    assert reached("start") == ["pkg", "pkg.more", "pkg.part", "start"]
    assert reached("pkg") == ["pkg"]


def test_namespace_packages_have_no_file_but_their_modules_are_found(write, tmp_path, monkeypatch):
    write(
        {
            "space/one.py": "from space.deep import two\nimport space.elsewhere\n",
            "space/deep/two.py": "from . import three\n",
            "space/deep/three.py": "",
        }
    )
    other = tmp_path / "other"
    write({"space/elsewhere.py": ""}, below=other)
    monkeypatch.syspath_prepend(str(other))
    assert reached("space.one") == ["space.deep.three", "space.deep.two", "space.elsewhere", "space.one"]


def test_submodules_of_a_loaded_package_are_found_on_its_path(tmp_path, monkeypatch):
    package, added = tmp_path / "stretched", tmp_path / "added"
    package.mkdir()
    added.mkdir()
    (package / "__init__.py").write_text(f"__path__.append({str(added)!r})")
    (added / "late.py").write_text(FAILS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("stretched")
    try:
        assert reached("stretched.late") == ["stretched", "stretched.late"]
    finally:
        del sys.modules["stretched"]


@pytest.mark.parametrize(
    "name",
    ["json", "os", "sys", "_json", "zipimport", "encodings.utf_8", "numpy", "numpy.linalg", "cloudpickle", "pytest",
     "kfp.dsl", "runwide", "runwide.job", "runwide_components", "__main__", "nowhere", "nowhere.at.all", "", ".", "..x",
     "a..b", "*", "os.path", "numpy.no_such"],
)  # fmt: skip
def test_standard_installed_missing_and_our_own_modules_are_left_out(name):
    assert needed_by([name]) == {}


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_modules_in_a_folder_of_installed_packages_are_left_out_and_not_followed(
    folder, write, tmp_path, monkeypatch
):
    installed = tmp_path / "lib" / folder
    write({"theirs.py": "import mine\n"}, below=installed)
    write({"mine.py": "", "start.py": "import theirs\n"})
    monkeypatch.syspath_prepend(str(installed))
    assert reached("start") == ["start"]
    assert reached("theirs") == []


def test_a_program_beside_its_virtual_environment_is_own_code(write):
    """The standard library of a virtual environment is in another folder, also if the names of both begin alike."""
    standard = Path(sysconfig.get_path("stdlib"))
    assert graph.is_installed(str(standard / "json" / "__init__.py"))
    assert not graph.is_installed(f"{standard}-mine/tools.py")
    assert not graph.is_installed("/home/me/site-packages.py")


def test_an_editable_install_is_own_by_a_path_file(tmp_path):
    """A `.pth` file names a folder outside of the installed packages."""
    source, site = tmp_path / "checkout" / "src", tmp_path / "lib" / "site-packages"
    (source / "mine").mkdir(parents=True)
    (source / "mine" / "__init__.py").write_text("from mine import part\n" + FAILS)
    (source / "mine" / "part.py").write_text(FAILS)
    site.mkdir(parents=True)
    (site / "mine.pth").write_text(f"{source}\n")
    program = (
        f"import site; site.addsitedir({str(site)!r}); from runwide.code.finding import reached;"
        "print(sorted(file.module for file in reached(['mine']).files.values()))"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "['mine', 'mine.part']"


def test_an_editable_install_is_own_by_a_finder(write, tmp_path, monkeypatch):
    """setuptools installs a finder if a package's folder has another layout than its names."""
    from importlib.util import spec_from_file_location

    layout = write({"lib/__init__.py": "from . import part\n", "lib/part.py": ""}, below=tmp_path / "layout")

    class Finder:
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name == "mapped":
                folder = layout / "lib"
                return spec_from_file_location(
                    name, folder / "__init__.py", submodule_search_locations=[str(folder)]
                )
            return None

    class Broken:
        @staticmethod
        def find_spec(name, path=None, target=None):
            raise RuntimeError("a foreign finder")

    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path, Finder])
    assert reached("mapped") == ["mapped", "mapped.part"]


def test_objects_in_sys_modules_that_are_not_modules_are_ignored(write, monkeypatch):
    class Odd:
        def __getattr__(self, name):
            raise RuntimeError(name)

    write({"odd.py": "", "none.py": ""})
    monkeypatch.setitem(sys.modules, "odd", Odd())
    monkeypatch.setitem(sys.modules, "none", None)
    assert reached("odd", "none") == ["none", "odd"]


def test_a_module_that_was_made_by_the_program_has_no_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_here", ModuleType("made_here"))
    assert reached("made_here") == []


# --- digests

PLAIN = """
import json

def f(x, y=1):
    '''Say what it does.'''
    return [x + 1, "text", y]
"""


def digest_of(write, text, name="measured"):
    folder = write({f"{name}.py": text})
    path = folder / f"{name}.py"
    os.utime(path, ns=(0, hash(text) % 10**18))  # texts of one size, written within one tick of the clock
    return needed_by([name])[name]


@pytest.mark.parametrize(
    "same",
    [
        "# -*- coding: utf-8 -*-\n" + PLAIN,
        "\n\n\n" + PLAIN,
        PLAIN.replace("def f", "# a comment\n\n\ndef f"),
        PLAIN.replace("[x + 1, ", "[\n        x + 1,  # one\n        "),
        PLAIN.replace("x + 1", "(x+1)"),
        PLAIN.replace('"text"', "'text'"),
        PLAIN.replace("\n", "\r\n"),
    ],
    ids=["coding", "lines above", "comment", "lines within", "parentheses", "quotes", "line ends"],
)
def test_comments_and_layout_do_not_change_the_digest(same, write):
    assert digest_of(write, PLAIN) == digest_of(write, same)


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace("x + 1", "x + 2"),
        PLAIN.replace("x + 1", "x - 1"),
        PLAIN.replace("text", "Text"),
        PLAIN.replace("y=1", "y=1.0"),
        PLAIN.replace("y=1", "y=True"),
        PLAIN.replace("def f", "def g"),
        PLAIN.replace("import json", "import csv"),
        PLAIN + "\nf(1)\n",
    ],
    ids=["number", "operator", "text", "type", "bool", "name", "import", "call"],
)
def test_each_change_of_the_code_changes_the_digest(other, write):
    assert digest_of(write, PLAIN) != digest_of(write, other)


def test_the_digest_is_the_same_in_each_process_and_folder(tmp_path):
    found = set()
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "measured.py").write_text("# x\n" * number + PLAIN + "\nS = {'a', 'b', 'c'}\n")
        program = "from runwide.code.finding import reached; print(reached(['measured']).digests)"
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": str(number), "PYTHONSAFEPATH": ""},
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1
    assert "measured" in found.pop()


@pytest.mark.parametrize(
    "text",
    ["def f(:\n", "x = 1\0\n", "# coding: nonsense\n", "x = " + "(" * 5000 + ")" * 5000, "x = " + "-" * 200_000 + "1"],
    ids=["syntax", "null byte", "coding", "parentheses", "depth"],
)  # fmt: skip
def test_a_file_that_cannot_be_parsed_counts_by_its_bytes(text, write):
    first = digest_of(write, text)
    assert first != digest_of(write, f"# a comment\n{text}")
    assert first == digest_of(write, text)


def test_reading_a_source_gives_no_warnings(write):
    text = 'x = "\\d"\n'  # an invalid escape
    assert digest_of(write, text) == digest_of(write, f"# a comment\n{text}")


@pytest.mark.parametrize("suffix", [".so", importlib.machinery.EXTENSION_SUFFIXES[0]], ids=["short", "full"])
def test_an_extension_module_counts_by_its_bytes(suffix, write):
    folder = write({})
    path = folder / f"native{suffix}"
    path.write_bytes(b"\x7fELF one")
    importlib.invalidate_caches()
    first = needed_by(["native"])
    path.write_bytes(b"\x7fELF another")
    assert list(first) == ["native"]
    assert needed_by(["native"]) != first


def test_a_module_without_its_source_counts_by_its_bytes(write):
    folder = write({"compiled.py": "x = 1\n"})
    py_compile.compile(str(folder / "compiled.py"), cfile=str(folder / "compiled.pyc"), doraise=True)
    (folder / "compiled.py").unlink()
    importlib.invalidate_caches()
    assert reached("compiled") == ["compiled"]


def test_modules_of_an_archive_count_as_their_sources_do(write, tmp_path, monkeypatch):
    archive = tmp_path / "program.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped/__init__.py", "from . import part\nimport beside\n" + FAILS)
        file.writestr("zipped/part.py", "# a comment\n" + PLAIN + FAILS)
    write({"beside.py": PLAIN})
    monkeypatch.syspath_prepend(str(archive))
    found = needed_by(["zipped"])
    assert list(found) == ["beside", "zipped", "zipped.part"]
    assert found["zipped.part"] == found["beside"]


def test_a_file_is_read_again_only_when_it_has_changed(write, monkeypatch):
    folder = write({"kept.py": PLAIN})
    first = needed_by(["kept"])
    known = dict(own_files.known)
    assert needed_by(["kept"]) == first
    assert own_files.known == known
    write({"kept.py": PLAIN + "\nmore = 1\n"})
    assert needed_by(["kept"]) != first
    (folder / "kept.py").unlink()
    importlib.invalidate_caches()
    assert needed_by(["kept"]) == {}


def test_several_threads_may_search_at_once(write):
    write({f"m{number}.py": f"import m{(number + 1) % 20}\n{PLAIN}\n" for number in range(20)})
    own_files.known.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(needed_by(["m0"]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == found[0] for one in found)
    assert len(found) == 4
    assert len(found[0]) == 20


def test_nothing_heavy_is_loaded():
    program = (
        "import sys; import runwide.code.finding; runwide.code.finding.reached(['json']);"
        "print([name for name in ('kfp', 'google.auth', 'cloudpickle', 'numpy', 'runwide.pool') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
