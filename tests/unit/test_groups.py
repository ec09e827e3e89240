"""Tests that must not run side by side share one xdist worker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

pytestmark = pytest.mark.docker

@pytest.mark.parametrize("number", range(12))
def test_one_of_many(number):
    pass
"""


def test_a_kind_of_test_runs_on_one_worker(tmp_path):
    Path(tmp_path, "test_many.py").write_text(TESTS)
    Path(tmp_path, "conftest.py").write_text(Path(__file__).parents[1].joinpath("conftest.py").read_text())
    Path(tmp_path, "pytest.ini").write_text("[pytest]\nmarkers = docker\n")
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadgroup", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    workers = re.findall(r"\[(gw\d)\].* PASSED", ran.stdout)
    assert len(workers) == 12
    assert len(set(workers)) == 1
