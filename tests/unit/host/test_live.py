"""This machine itself, under `taskset`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from runwide.host import cores
from runwide.host.measuring import recording
from runwide.host.topology import format_cpulist

needs_taskset = pytest.mark.skipif(
    not shutil.which("taskset"), reason="taskset (util-linux) is not installed"
)
COUNT = "import json, runwide; print(json.dumps(runwide.cores().as_dict()))"


def _count(*prefix: str, **variables: str) -> dict:
    environment = {key: value for key, value in os.environ.items() if key != "RUNWIDE_WORKERS"} | variables
    ran = subprocess.run(
        [*prefix, sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


@needs_taskset
def test_taskset_to_one_cpu_gives_one_worker():
    cpu = str(min(os.sched_getaffinity(0)))
    found = _count("taskset", "-c", cpu)
    assert (found["count"], found["physical"], found["logical"]) == (1, 1, 1)
    affinity = next(step for step in found["steps"] if step["name"] == "affinity")
    assert (affinity["value"], affinity["source"]) == (cpu, "sched_getaffinity")
    assert found["cores"][0]["cpus"] == [int(cpu)]


@needs_taskset
def test_taskset_to_every_cpu_changes_nothing():
    every = format_cpulist(os.sched_getaffinity(0))
    assert _count("taskset", "-c", every)["cores"] == _count()["cores"]


@needs_taskset
def test_an_override_takes_precedence_over_taskset():
    found = _count("taskset", "-c", str(min(os.sched_getaffinity(0))), RUNWIDE_WORKERS="5")
    assert (found["count"], found["usable"], found["decided_by"]) == (5, 1, "RUNWIDE_WORKERS")


def test_a_recording_of_this_machine_counts_as_this_machine(tmp_path, monkeypatch):
    monkeypatch.delenv("RUNWIDE_WORKERS", raising=False)
    root = recording.unpack(recording.record(source="here"), tmp_path / "root")
    here, there = cores(), cores(root=root)
    assert (there.count, there.physical, there.logical, there.quota) == (
        here.count,
        here.physical,
        here.logical,
        here.quota,
    )
    assert there.cores == here.cores


def test_counting_loads_nothing_that_a_component_would_wait_for():
    # What the environment itself loads at each start (the Vertex client's .pth makes a `google`) is not ours.
    code = (
        "import sys, json; before = set(sys.modules); import runwide; runwide.cores(); "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout))
    assert not loaded & {
        "google",
        "kfp",
        "rich",
        "structlog",
        "click",
        "numpy",
        "pynvml",
        "threadpoolctl",
    }
