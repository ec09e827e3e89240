"""Without a writable temporary directory, shared memory is used; if that is not writable either, an error says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.faults

PLACES = ("/tmp", "/var/tmp", "/usr/tmp")
MOUNTS = ("unshare", "--map-root-user", "--mount")
READ_ONLY = """
for at in {}; do
    if [ -d "$at" ]; then mount --bind "$at" "$at" && mount -o remount,ro,bind "$at"; fi
done
cd /proc
exec "$@"
"""


@pytest.fixture
def start():
    """Run this Python where some directories cannot be written, and the working directory cannot be either."""

    def start(read_only: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
        if subprocess.run([*MOUNTS, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this machine allows no namespaces")
        names = ("TMPDIR", "TEMP", "TMP", "RUNWIDE_SCRATCH")
        return subprocess.run(
            [*MOUNTS, "sh", "-ec", READ_ONLY.format(" ".join(read_only)), "sh", sys.executable, *words],
            env={key: value for key, value in os.environ.items() if key not in names},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return start


TASKS = """
import json, tempfile
import runwide
from runwide.host import space

def task(x):
    with tempfile.NamedTemporaryFile() as file:
        return len(x), file.name.rpartition("/")[0]

print(json.dumps([space.temporary(), runwide.map(task, [b"", bytes(1 << 20)], workers=2)]))
"""


def test_tasks_and_runwide_use_shared_memory_where_nothing_else_can_be_written(start):
    ran = start(PLACES, "-c", TASKS)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == ["/dev/shm", [[0, "/dev/shm"], [1 << 20, "/dev/shm"]]]


def test_so_do_workers_whose_interpreter_is_started_again_with_the_programs_flags(start):
    ran = start(PLACES, "-X", "dev", "-c", TASKS)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)[1] == [[0, "/dev/shm"], [1 << 20, "/dev/shm"]]


def checks(ran: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    assert "Traceback" not in ran.stderr, ran.stderr
    return {check["name"]: check for check in json.loads(ran.stdout)["checks"]}


def test_the_doctor_looks_at_shared_memory_then(start):
    ran = start(PLACES, "-m", "runwide.cli", "doctor", "--json")
    assert ran.returncode == 0, ran.stderr
    assert checks(ran)["scratch"]["says"].startswith("/dev/shm: ")


def test_the_doctor_says_so_where_not_even_that_can_be_written(start):
    ran = start((*PLACES, "/dev/shm"), "-m", "runwide.cli", "doctor", "--json")
    assert ran.returncode == 1
    assert checks(ran)["scratch"] == {
        "name": "scratch",
        "state": "failure",
        "says": "/dev/shm: Read-only file system",
        "hint": "set RUNWIDE_SCRATCH",
    }


def test_the_systems_directory_is_used_where_it_can_be_written(start):
    ran = start(("/dev/shm",), "-c", "from runwide.host import space; print(space.temporary())")
    assert ran.stdout == "/tmp\n", ran.stderr
