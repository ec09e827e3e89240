"""A pool that finds no directory for large payloads says so as it starts; a full one costs large values only."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.faults

PROGRAM = """
import asyncio, json
import joblib
import runwide

def by_joblib():
    runwide.register_joblib()
    with joblib.parallel_config(backend="runwide", n_jobs=2):
        return joblib.Parallel()(joblib.delayed(len)(item) for item in ITEMS)

def by_executor():
    with runwide.Executor(1) as executor:
        return list(executor.map(len, ITEMS))

def by_pool():
    with runwide.Pool(1) as pool:
        return pool.map(len, ITEMS)

surfaces = {
    "map": lambda: runwide.map(len, ITEMS, workers=1),
    "imap": lambda: list(runwide.imap(len, ITEMS, workers=1)),
    "imap_unordered": lambda: list(runwide.imap_unordered(len, ITEMS, workers=1)),
    "amap": lambda: asyncio.run(runwide.amap(len, ITEMS, workers=1)),
    "Executor": by_executor,
    "Pool": by_pool,
    "joblib": by_joblib,
}
SMALL, LARGE = [b"x"], [bytes(1 << 17)]
found = {}
for name, surface in surfaces.items():
    found[name] = []
    for ITEMS in (SMALL, LARGE):
        try:
            found[name] += surface()
        except Exception as error:
            found[name].append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""

MOUNTS = ("unshare", "--map-root-user", "--mount")
BOUND_READ_ONLY = """
for at in {}; do
    if [ -d "$at" ]; then mount --bind "$at" "$at" && mount -o remount,ro,bind "$at"; fi
done
cd /proc
"""


@pytest.fixture
def start(tmp_path):
    """Runs the program after a line of shell; returns the results of small and of large values, by surface."""

    def start(line: str, *inside: str, **env: str) -> dict[str, list[object]]:
        if inside and subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this machine allows no namespaces")
        done = subprocess.run(
            [*inside, "sh", "-ec", f'{line}\nexec "$@"', "sh", sys.executable, "-c", PROGRAM],
            env={**os.environ, **env}, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return start


PLACES = {  # the preparation of the place; the command that runs the program; the words of the error
    "is a file": ("mkdir a; touch a/b", (), "File exists"),
    "is below a file": ("touch a", (), "Not a directory"),
    "is a link to nowhere": ("mkdir a; ln -s /nowhere/at/all a/b", (), "File exists"),
    "is not to be written": (
        "mkdir -p a/b; chmod 500 a/b",
        ("unshare", "--user"),
        "Permission denied",
    ),
    "is read-only": (
        "mkdir -p a/b; mount -t tmpfs -o ro tmpfs a/b",
        MOUNTS,
        "Read-only file system",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that(place, start, tmp_path):
    line, inside, words = PLACES[place]
    scratch = str(tmp_path / "a" / "b")
    error = f"ScratchError: no directory for large payloads can be made: {scratch}: {words}"
    for surface, results in start(line, *inside, RUNWIDE_SCRATCH=scratch).items():
        assert all(one.startswith(error) and "set RUNWIDE_SCRATCH" in one for one in results), (
            surface,
            results,
        )


def test_a_relative_place_of_a_directory_that_was_removed(start):
    line = "mkdir gone; cd gone; rmdir ../gone"
    for results in start(line, RUNWIDE_SCRATCH="scratch").values():
        assert all("can be made: scratch: No such file or directory" in one for one in results), results


TEMPORARY = "/tmp /var/tmp /usr/tmp"


def test_no_place_at_all(start):
    line = BOUND_READ_ONLY.format(f"/dev/shm {TEMPORARY}")
    for results in start(line, *MOUNTS, TMPDIR="", RUNWIDE_SCRATCH="").values():
        assert all("can be made: /dev/shm: Read-only file system" in one for one in results), results


RIGHT = [1, 1 << 17]


@pytest.mark.parametrize("read_only", ["/dev/shm", TEMPORARY])
def test_one_place_is_enough(read_only, start):
    found = start(BOUND_READ_ONLY.format(read_only), *MOUNTS, TMPDIR="", RUNWIDE_SCRATCH="")
    assert all(results == RIGHT for results in found.values()), found


def test_a_place_that_is_full_as_the_pool_starts_costs_large_values_alone(start, tmp_path):
    line = "mkdir a; mount -t tmpfs -o nr_inodes=1 tmpfs a"
    for results in start(line, *MOUNTS, RUNWIDE_SCRATCH=str(tmp_path / "a")).values():
        assert results[0] == 1
        assert results[1].startswith("ScratchFull: item 0: no room for a payload"), results
