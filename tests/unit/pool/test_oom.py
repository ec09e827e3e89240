"""The process that the kernel kills first when memory runs out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import runwide


@pytest.fixture
def score_at_start(tmp_path, monkeypatch):
    """Reads how the OOM killer saw a Python process while its interpreter came up, before any code of ours in it."""
    program = f"""
import os, time
time.sleep(0.3)
with open({str(tmp_path)!r} + f"/{{os.getpid()}}", "w") as file:
    file.write(open("/proc/self/oom_score_adj").read())
"""
    (tmp_path / "sitecustomize.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda pid: int((tmp_path / str(pid)).read_text())


def before_us() -> int:
    return min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 500)


def test_a_worker_goes_before_the_pool_while_its_interpreter_comes_up(score_at_start):
    (worker,) = runwide.map(lambda _: os.getpid(), [1], workers=1)
    assert score_at_start(worker) == before_us()
