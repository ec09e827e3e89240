"""A table that a script writes is on one page only."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["docker/measure.py", "tests/benchmarks/cores_table.py"])
def writer(request, monkeypatch):
    path = ROOT / request.param
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_a_new_table_replaces_only_the_old_one(writer, tmp_path, monkeypatch):
    text = writer.PAGE.read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr(writer, "PAGE", page)
    writer.write("| a new table |")
    new = page.read_text(encoding="utf-8")
    (table,) = [line for line in new.splitlines() if line == "| a new table |"]
    before, _, after = new.partition(table)
    assert text.startswith(before.rstrip("\n"))
    assert text.endswith(after)
    assert text.count("\n|") > new.count("\n|")


def test_readme_has_no_table_that_a_script_writes():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "cores_table.py" not in readme
    assert "measure.py" not in readme
