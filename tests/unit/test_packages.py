"""The packages that a function needs are found without imports, and compared before a job is loaded."""

from __future__ import annotations

import importlib
import json
import re
import sys
from functools import partial
from importlib import metadata

import numpy as np
import pytest

import runwide
from runwide.cli import main
from runwide.code.distributions import distributions, installed_version, split_key
from runwide.code.imports import bodies, needed_in
from runwide.errors import EnvironmentMismatch
from runwide.job import environment, manifest
from runwide.pickling.functions import function_pickle


def installed(folder, name, version, module):
    """Put a distribution with one module into a folder of installed packages."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text("raise RuntimeError('this is not imported')")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{module}.py,,\n{info.name}/METADATA,,\n")
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A separate folder of installed packages."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_the_distribution_of_a_module_is_found(site):
    installed(site, "shop-tools", "3.1", "never_imported")
    found = distributions(
        ["sklearn.linear_model", "yaml", "google.cloud", "google.cloud.storage", "numpy", "never_imported.x",
         "json", "runwide", "kfp", "no_such_module", "test_packages"]
    )  # fmt: skip
    assert list(found) == [
        "google-cloud-storage (google.cloud.storage)",
        "numpy",
        "PyYAML (yaml)",
        "scikit-learn (sklearn)",
        "shop-tools (never_imported)",
    ]
    assert all(version == metadata.version(split_key(key)[0]) for key, version in found.items())
    assert "never_imported" not in sys.modules


ONE = np.float64(1)
TRIES = """
def tried(x, cm):
    import a
    from b import c
    try:
        import no_1
    except ImportError:
        import no_2
    try:
        import no_3
    except:
        pass
    try:
        with cm:
            import no_4
    except (KeyError, ModuleNotFoundError) as error:
        print(error)
    try:
        import d
    except KeyError:
        pass
    try:
        import e
    finally:
        print()
    for _ in x:
        try:
            import no_5
            break
        except ImportError:
            continue
    with contextlib.suppress(ImportError):
        import no_6
    if TYPE_CHECKING:
        import no_7
    if x:
        import no_8
    else:
        import no_9
    if not x:
        return
    import h
    def inner():
        import f
    import g
"""


def test_an_import_that_may_fail_is_not_needed():
    code = compile(TRIES, "tries.py", "exec")
    needed = list(needed_in(code, ""))
    # if the code has suppress, an import inside a with may not be needed
    assert [name for name in needed if "no_" in name] == []
    assert sorted(needed) == ["a", "b", "b.c", "d", "e", "f", "g", "h"]


def absent(x):
    import no_such_package  # not installed here, so it has no version

    return no_such_package, x


class Score:
    """A callable object with a method that no task calls."""

    def __call__(self, x):
        import yaml

        return yaml.safe_load(x)

    def shown(self):
        import sklearn

        return sklearn


def test_packages_that_a_function_imports_or_names_are_recorded_unless_the_code_may_never_run(memory):
    def used(x, data=ONE):
        import dateutil
        from google.cloud import storage

        return dateutil, storage, x, data

    def needed(function):
        return {split_key(key)[0] for key in environment.packages(function_pickle(function).data)}

    # this module travels with its functions, so they need its top-level imports, too
    assert needed(used) == {*needed(absent), "google-cloud-storage", "python-dateutil"}
    assert needed(absent) == {"numpy", "pytest"}
    assert bodies(partial(Score().__call__)) == [Score.__call__]
    assert needed(Score()) == {*needed(absent), "PyYAML"}
    job = runwide.scatter(used, [1], store=memory, shards=1)
    assert manifest.read_job(job).packages["numpy"] == np.__version__


SCRIPT = """
import contextlib
from importlib.util import find_spec
from typing import TYPE_CHECKING

def caught(x):
    try:
        import yaml
    except ImportError:
        yaml = None
    return yaml, x

def suppressed(x):
    with contextlib.suppress(ImportError):
        import yaml
    return x

def of_types(x):
    if TYPE_CHECKING:
        import yaml
    return x

def looked_up(x):
    if find_spec("yaml"):
        import yaml
    return x

def helper():
    import yaml
    return yaml

class Shown:
    def shown(self):
        import yaml
        return yaml

def with_helpers(x):
    return x or helper() or Shown()

def sure(x):
    import needs_yaml
    return needs_yaml, x
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [(name, []) for name in ("caught", "suppressed", "of_types", "looked_up", "with_helpers")]
    + [("sure", ["PyYAML (yaml)"])],
    ids=["caught", "suppressed", "of types", "looked up", "helpers", "sure"],
)
@pytest.mark.parametrize("module", ["__main__", "by_name"])
def test_a_script_needs_the_same_packages_as_a_module(tmp_path, monkeypatch, module, name, expected):
    (tmp_path / "needs_yaml.py").write_text("import yaml")
    (tmp_path / "by_name.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "by_name", raising=False)
    if module == "__main__":  # its functions are pickled by value
        names = {"__name__": "__main__", "__file__": str(tmp_path / "script.py")}
        exec(compile(SCRIPT, names["__file__"], "exec"), names)
        function = names[name]
    else:
        function = getattr(importlib.import_module("by_name"), name)
    try:
        made = function_pickle(function)
    finally:
        sys.modules.pop("by_name", None)
    assert list(environment.packages(made.data)) == expected
    # the user's own modules travel if the function may need them
    assert ("needs_yaml.py" in json.loads(made.modules)) == (name == "sure" or module == "by_name")


@pytest.fixture
def memory():
    return "memory://test-packages"


def test_a_module_without_a_distribution_is_no_requirement():
    with pytest.raises(
        EnvironmentMismatch, match=r"vendored_dep is missing; vendored_dep does not belong to a distribution"
    ):
        environment.check_packages({"vendored_dep": ""})


def test_all_missing_or_too_different_packages_are_one_error_and_other_differences_one_warning(
    site, caplog, monkeypatch
):
    monkeypatch.setattr(environment, "_warned", set())
    installed(site, "opencv-python-headless", "4.11", "cv2")
    theirs = {
        "no-such (no_such)": "1.0",
        "numpy": "0.9",
        "scikit-learn (sklearn)": "0.1.2",
        "PyYAML (yaml)": "5.0",
        "opencv-python (cv2)": "4.9",
    }
    with pytest.raises(EnvironmentMismatch) as caught:
        environment.check_packages(theirs, uri="gs://b/job")
    message = str(caught.value)
    assert "no-such (no_such) 1.0 is missing, numpy 0.9 is too different from" in message
    assert "requirements=['no-such==1.0', 'numpy==0.9', 'scikit-learn==0.1.2']" in message
    assert "runwide image" in message
    assert "PyYAML" not in message
    assert "cv2" not in message

    rest = {key: theirs[key] for key in ("PyYAML (yaml)", "opencv-python (cv2)")}
    environment.check_packages(rest)
    environment.check_packages(rest)
    (told,) = [record.msg for record in caplog.records if record.levelname == "WARNING"]
    assert "PyYAML (yaml) 5.0 (here " in told["packages"]
    assert "opencv-python (cv2) 4.9 (here 4.11)" in told["packages"]
    assert "cv2" not in sys.modules
    assert installed_version("no-such (no_such)") is None


def test_the_scatter_step_refuses_before_the_function_is_loaded(tmp_path, capsys):
    harmful = tmp_path / "function.pkl"
    harmful.write_bytes(b"cbuiltins\nexec\n(S'raise SystemExit(77)'\ntR.")
    words = [
        "scatter",
        "--function-file",
        str(harmful),
        "--items-json",
        "[1]",
        "--constants-json",
        '{"a": 1}',
    ]
    with pytest.raises(SystemExit) as ended:
        main(
            [*words, "--store", str(tmp_path / "store"), "--shards", "1", "--packages", '{"no-such": "1.0"}']
        )
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "runwide: EnvironmentMismatch: the function needs packages that are not here: no-such 1.0"
    )
    assert not (tmp_path / "store").exists()


def test_a_shard_refuses_before_any_item_runs_also_if_it_is_supervised(tmp_path, monkeypatch, capfd):
    (tmp_path / "site-packages").mkdir()
    monkeypatch.syspath_prepend(
        str(installed(tmp_path / "site-packages", "fixture-dist", "1.0", "fixture_dist"))
    )
    marked = tmp_path / "ran"

    def function(x):
        marked.touch()
        import fixture_dist

        return fixture_dist, x

    job = runwide.scatter(function, [1], store=str(tmp_path / "store"), shards=1)
    assert manifest.read_job(job).packages["fixture-dist"] == "1.0"
    monkeypatch.undo()
    for watched in ((), ("--on-error", "return")):
        with pytest.raises(SystemExit) as ended:
            main(["shard", *watched, job, "0"])
        assert ended.value.code == 1
        assert "fixture-dist 1.0 is missing" in capfd.readouterr().err
    assert not marked.exists()


def test_a_fan_out_takes_the_versions_of_the_compiling_process_with_it(tmp_path):
    from kfp import compiler, dsl

    from runwide_components import fan_out
    from runwide_components.engines import spec

    @dsl.pipeline(name="packages")
    def pipeline():
        fan_out(
            lambda x, weights: x * weights.sum(), [1], components=1, store="gs://b/runs",
            constants={"weights": np.ones(3)},
        )  # fmt: skip

    compiler.Compiler().compile(pipeline, str(tmp_path / "p.yaml"))
    text = (tmp_path / "p.yaml").read_text()
    about = re.search(r"- --packages\n +- '(.*?)'\n", text, re.DOTALL)[1]
    assert json.loads(about)["numpy"] == np.__version__
    # an upgrade here does not change the compiled pipeline
    parts = ["--packages", about, "--workers"]
    assert spec.without_places(parts) == spec.without_places(["--packages", "{}", "--workers"])
    assert "--requirements-text" not in text
