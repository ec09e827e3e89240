"""A program in a folder of its own, for tests of the code that travels."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Write a program into a folder that Python searches; its modules are forgotten afterwards."""
    folder = tmp_path / "program"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = dict(sys.modules)

    def write(files):
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        importlib.invalidate_caches()
        return folder

    yield write
    for name in set(sys.modules) - set(before):
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
