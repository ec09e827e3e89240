"""On Windows, what runs tasks is one clear error, and what runs none works.

No Windows is here. A program that takes this interpreter for one on Windows has first loaded what knows Windows: the
standard library, and packages of others. Then what Python lacks there is deleted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import runwide
from runwide.code.archive import code_of
from runwide.errors import RunwideError, SystemNotSupported
from runwide.job import finish
from runwide.pickling.functions import Needs

WINDOWS = """
import asyncio, concurrent.futures.process, multiprocessing.connection, multiprocessing.managers, multiprocessing.pool
import shutil, ssl, subprocess, tempfile, urllib.request
import click, cloudpickle, google.cloud.storage, joblib, loky, rich.console, structlog, tqdm
import os, select, signal, socket, sys
statvfs = os.statvfs
def disk_usage(path):
    found = statvfs(path)
    return shutil._ntuple_diskusage(found.f_blocks * found.f_frsize, 0, found.f_bavail * found.f_frsize)
shutil.disk_usage = disk_usage
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, names in (
    (os, "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG fork geteuid getuid killpg pidfd_open pread pwrite "
         "register_at_fork sched_getaffinity sendfile setsid statvfs"),
    (signal, "SIGCHLD SIGIO SIGKILL SIGSTOP SIG_BLOCK SIG_SETMASK SIG_UNBLOCK pthread_sigmask"),
    (select, "epoll poll"),
    (socket, "AF_UNIX recv_fds send_fds"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "win32"
"""


@pytest.fixture
def windows(tmp_path, monkeypatch):
    """Runs an interpreter on Windows, in a folder that has a module with a function, and items."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(WINDOWS)
    (tmp_path / "windows_tasks.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "items.json").write_text("[1, 2]")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = [str(tmp_path / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "RUNWIDE_LOG_LEVEL": "error"},
            capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
        )  # fmt: skip

    return run


@pytest.fixture
def command(windows):
    """Runs a command on Windows."""
    return lambda *words: windows("-c", "from runwide.cli import main; main()", *words)


@pytest.fixture
def job(windows):
    """A job that ran elsewhere, but for its second shard."""
    import windows_tasks

    made = runwide.scatter(windows_tasks.double, [1, 2], store="store", shards=2)
    runwide.shard(made, 0, workers=1)
    return made


def test_importing_runwide_and_counting_cores_work(windows):
    program = "import sys, runwide; print(sys.platform, runwide.__version__, runwide.cores(workers=3).count)"
    assert windows("-c", program).stdout == f"win32 {runwide.__version__} 3\n"


CALLS = [
    "runwide.map(abs, [1])",
    "runwide.map(abs, [1], store='memory://one')",
    "list(runwide.imap(abs, [1]))",
    "list(runwide.imap_unordered(abs, [1]))",
    "runwide.amap(abs, [1]).send(None)",
    "runwide.Executor()",
    "runwide.Pool()",
    "runwide.register_joblib()",
    "import runwide.joblib",
    "from runwide.pool.executor import Executor",
]


def test_what_runs_tasks_is_one_clear_error(windows):
    program = f"""
import json, runwide
found = {{}}
for call in {CALLS!r}:
    try:
        exec(call)
    except NotImplementedError as error:
        found[call] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""
    done = windows("-c", program)
    message = (
        "runwide runs tasks on Linux and on macOS, and not on Windows; "
        "use WSL, or a container of runwide's image"
    )
    assert json.loads(done.stdout) == {call: ["SystemNotSupported", message] for call in CALLS}


@pytest.mark.parametrize("name", ["map", "shard", "rerun"])
def test_a_command_that_runs_tasks_is_one_line(command, job, name):
    words = {"map": ["windows_tasks:double", "items.json"], "shard": [job, "1"], "rerun": [job]}[name]
    done = command(name, *words)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    assert lines[0].startswith("runwide: SystemNotSupported: ")
    assert "WSL" in lines[0]


def test_what_became_of_a_job_is_seen(command, job):
    runwide.shard(job, 1, workers=1)
    assert "2 of 2 shards finished" in command("status", job).stdout
    assert command("replay", job, "1").stdout == "4\n"
    assert command("gather", job).stdout.strip() == finish(job)
    assert command("report", job).returncode == 0


def test_the_doctor_says_so(command):
    done = command("doctor", "--json")
    failures = [check for check in json.loads(done.stdout)["checks"] if check["state"] == "failure"]
    assert done.returncode == 1
    assert [check["name"] for check in failures] == ["packages"]
    assert "not on Windows" in failures[0]["says"]


def test_own_code_is_the_same_archive_there(monkeypatch, tmp_path):
    (tmp_path / "windows_code.py").write_bytes(b"SCALE = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    here = code_of(Needs(frozenset()), whole=["windows_code"])
    monkeypatch.setattr(sys, "platform", "win32")
    there = code_of(Needs(frozenset()), whole=["windows_code"])
    assert here is not None
    assert there == here


def test_the_error_is_ours_and_one_that_callers_of_the_standard_pools_expect():
    assert issubclass(SystemNotSupported, RunwideError)
    assert issubclass(SystemNotSupported, NotImplementedError)
