"""The fixture that watches for processes left behind finds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SHARED = Path(__file__).parents[1] / "conftest.py"

ORPHAN = """
    import subprocess, sys
    def test_it():
        # The shell ends at once; its child continues without a parent.
        subprocess.run("sleep 60 >/dev/null 2>&1 &", shell=True, check=True)
"""
FORKED = """
    import os, time
    def test_it():
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
"""
CLEAN = """
    import subprocess, sys
    def test_it():
        subprocess.run([sys.executable, "-c", "pass"], check=True)
"""
OF_A_WIDER_FIXTURE = """
    import subprocess, pytest
    @pytest.fixture(scope="module")
    def server():
        with subprocess.Popen(["sleep", "60"]) as process:
            yield process
            process.kill()
    def test_it(server):
        assert server.poll() is None
"""
# The kernel shows no environment of a process during exec.
AMID_EXEC = """
    import os, subprocess, conftest
    def test_it():
        mark = f"{conftest.MARK}={os.getpid()}".encode()
        for _ in range(20):
            with subprocess.Popen(["sh", "-c", "exec sleep 0.02"]) as process:
                seen = []
                while process.poll() is None:
                    seen.append(mark in conftest._environment(process.pid))
                assert all(seen[:-1])  # it may have ended during the last
"""


@pytest.fixture
def verdicts(pytester, monkeypatch):
    def run(program: str) -> dict[str, int]:
        text, found = re.subn(r"(?m)^SECONDS_TO_LEAVE = .*", "SECONDS_TO_LEAVE = 0.2", SHARED.read_text())
        assert found == 1
        pytester.makeconftest(text)
        pytester.makepyfile(program)
        return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist").parseoutcomes()

    return run


@pytest.mark.parametrize("program", [ORPHAN, FORKED], ids=["orphan", "forked"])
def test_a_process_left_behind_is_an_error(verdicts, program):
    assert verdicts(program) == {"passed": 1, "errors": 1}


def test_a_process_during_exec_is_seen(verdicts):
    assert verdicts(AMID_EXEC) == {"passed": 1}


@pytest.mark.parametrize("program", [CLEAN, OF_A_WIDER_FIXTURE], ids=["clean", "of-a-wider-fixture"])
def test_processes_that_ended_or_started_before_are_not_reported(verdicts, program):
    assert verdicts(program) == {"passed": 1}
