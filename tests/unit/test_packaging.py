"""The package: its names, its version, its locks, and the modules that an import loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import metadata
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import runwide

ROOT = Path(__file__).parents[2]
LOCKS = (
    "requirements-build.lock",
    "requirements.lock",
    "requirements-release.lock",
    "requirements-dev.lock",
    "requirements-vertex1.lock",
)
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)


def loaded_by(statement: str) -> set[str]:
    program = (
        "import sys, json; before = set(sys.modules)\n"
        f"{statement}\n"
        "json.dump(sorted(set(sys.modules) - before), sys.stdout)"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(ran.stdout))


def pins(lock: str, python: str) -> dict[str, Version]:
    """Return name and version of the packages that a lock installs on a Linux machine with that Python."""
    here = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
    }
    return {
        canonicalize_name(name): Version(version)
        for name, version, marker in ENTRY.findall((ROOT / lock).read_text())
        if not marker or Requirement(f"x ; {marker}").marker.evaluate(here)
    }


def requirements(extra: str = "") -> list[Requirement]:
    declared = [Requirement(text) for text in metadata("runwide").get_all("Requires-Dist")]
    return [
        requirement
        for requirement in declared
        if canonicalize_name(requirement.name) != "runwide"
        and (not requirement.marker or requirement.marker.evaluate({"extra": extra}))
    ]


def test_importing_runwide_loads_few_modules():
    loaded = loaded_by("import runwide")
    ours = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    assert ours == {"runwide", "runwide.lazy", "runwide.origin"}
    assert len(loaded) <= 30, loaded


@pytest.mark.parametrize("name", ["google", "kfp", "structlog", "cloudpickle", "runwide_components"])
def test_counting_cores_and_reading_settings_loads_no(name):
    assert name not in loaded_by("import runwide, runwide.settings; runwide.cores()")


@pytest.mark.parametrize("name", runwide.__all__)
def test_every_public_name_exists_and_has_a_docstring(name):
    value = getattr(runwide, name)
    assert value.__doc__
    assert name in dir(runwide)


def test_public_names_are_sorted_and_each_has_a_module():
    assert runwide.__all__ == sorted(runwide.__all__)
    assert set(runwide.__all__) == set(runwide._HOME)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'fork_bomb'"):
        runwide.fork_bomb  # noqa: B018 - the access is the test


def test_the_version_is_written_in_one_place():
    literal = f'"{runwide.__version__}"'
    rooms = [
        "pyproject.toml",
        "Makefile",
        "cloudbuild.yaml",
        "docker",
        "tools",
        ".ci",
        "runtime",
        "components",
    ]
    files = [path for room in rooms for path in [ROOT / room, *(ROOT / room).rglob("*")] if path.is_file()]
    texts = {path: path.read_text() for path in files if path.suffix not in {".pyc", ".pkl"}}
    assert [path.relative_to(ROOT).as_posix() for path, text in texts.items() if literal in text] == [
        "runtime/runwide/__init__.py"
    ]
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert built.stdout.strip() == runwide.__version__


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_no_link_and_no_path(lock):
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^-|^\s+--(?!hash=sha256:[0-9a-f]{64})| @ |\s/[a-z]", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_pin_with_hashes(lock):
    lines = [
        line for line in (ROOT / lock).read_text().splitlines() if line and not line.lstrip().startswith("#")
    ]
    pinned = [line for line in lines if not line.startswith("    --hash=")]
    followed = [after for line, after in pairwise(lines) if not line.startswith("    --hash=")]
    assert pinned
    assert all(ENTRY.match(f"{line}\n") for line in pinned)
    assert all(after.startswith("    --hash=sha256:") for after in followed)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("lock", "extra"),
    [("requirements.lock", ""), ("requirements-dev.lock", "dev"), ("requirements-vertex1.lock", "vertex")],
)
def test_a_lock_satisfies_pyproject(lock, extra, python):
    locked = pins(lock, python)
    for requirement in requirements(extra):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("python", PYTHONS)
def test_both_major_versions_of_googles_client_are_tested_one_beside_googles_own_components(python):
    older, newer = pins("requirements-vertex1.lock", python), pins("requirements-dev.lock", python)
    assert (older["google-cloud-aiplatform"].major, newer["google-cloud-aiplatform"].major) == (1, 2)
    assert "google-cloud-pipeline-components" in older


@pytest.mark.parametrize("python", PYTHONS)
def test_tests_run_on_the_versions_that_are_shipped(python):
    shipped, tested = pins("requirements.lock", python), pins("requirements-dev.lock", python)
    assert shipped.items() <= tested.items()


def test_an_import_that_fails_in_a_module_loaded_on_first_use_names_the_cause(tmp_path, monkeypatch):
    (tmp_path / "broken_home.py").write_text("import math\nmath.nothing\n")
    (tmp_path / "broken_package.py").write_text(
        "from runwide.lazy import found\n"
        "def __getattr__(name): return found(__name__, {'thing': 'broken_home'}, name)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"broken_home.*module 'math' has no attribute 'nothing'") as caught:
        exec("from broken_package import thing")
    assert isinstance(caught.value.__cause__, AttributeError)
