"""Counting cores: overrides, output, and errors that never happen."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwide.errors import InputError
from runwide.host import cores
from runwide.host.cores import capped


@pytest.fixture(autouse=True)
def _no_override(monkeypatch):
    monkeypatch.delenv("RUNWIDE_WORKERS", raising=False)


def test_workers_overrides_the_count_and_says_so(machine):
    found = cores(workers=7, root=machine("gce-n2-standard-8"))
    assert (found.count, found.usable, found.decided_by) == (7, 4, "workers=")
    assert found.steps[-1].cut == -3
    assert "because workers= says so, on 4 usable cores" in found.advice


def test_the_environment_overrides_the_count_and_the_argument_overrides_the_environment(machine, monkeypatch):
    monkeypatch.setenv("RUNWIDE_WORKERS", "3")
    root = machine("gce-n2-standard-8")
    assert (cores(root=root).count, cores(root=root).decided_by) == (3, "RUNWIDE_WORKERS")
    assert cores(workers=2, root=root).decided_by == "workers="


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_an_invalid_number_of_workers_is_an_input_error(workers):
    with pytest.raises(InputError, match="expected a whole number of 1 or more"):
        cores(workers=workers)


def test_the_record_is_frozen_and_explains_every_step(machine):
    found = cores(root=machine("cgroup-v2-nested"))
    with pytest.raises(AttributeError):
        found.count = 9
    text = found.explain()
    for step in found.steps:
        assert step.source in text
    assert text.endswith(found.advice)
    assert [step.name for step in found.steps] == ["online", "affinity", "cpuset", "topology", "quota"]
    assert "kubepods-pod1.slice/cpu.max" in found.steps[-1].source
    assert found.steps[-1].value == "2 CPUs, tightest of 2"


def test_the_json_form_keeps_its_schema(machine):
    plain = json.loads(json.dumps(cores(root=machine("recorded-firecracker")).as_dict()))
    assert {key: type(value).__name__ for key, value in plain.items()} == {
        "format": "int",
        "count": "int",
        "usable": "int",
        "physical": "int",
        "logical": "int",
        "quota": "NoneType",
        "decided_by": "str",
        "hidden": "bool",
        "hypervisor": "dict",
        "cores": "list",
        "steps": "list",
        "problems": "list",
        "advice": "str",
        "kinds": "dict",
    }
    assert plain["format"] == 1
    assert set(plain["hypervisor"]) == {"name", "source", "truthful", "may_hide_siblings"}
    assert set(plain["cores"][0]) == {"cpus", "threads", "package", "die", "node", "kind"}
    assert set(plain["steps"][0]) == {"name", "source", "value", "left", "unit", "cut"}


def test_the_steps_add_up(machine):
    found = cores(root=machine("docker-cpus-1.5"))
    left = [step.left for step in found.steps]
    assert [before - after for before, after in pairwise(left)] == [step.cut for step in found.steps[1:]]


def test_an_affinity_that_leaves_no_cpu_online_is_left_out_and_noted(machine):
    root = machine("gce-e2-standard-4", **{"/proc/self/status": "Cpus_allowed_list:\t40-43"})
    found = cores(root=root)
    assert found.count == 2
    assert any("leaves no CPU" in problem.reason for problem in found.problems)


def test_half_of_the_topology_missing_falls_back_to_cpuinfo(machine):
    path = "/sys/devices/system/cpu/cpu2/topology/"
    root = machine(
        "gce-e2-standard-4", **{f"{path}core_cpus_list": None, f"{path}thread_siblings_list": None}
    )
    found = cores(root=root)
    assert (found.count, found.steps[2].source) == (2, "/proc/cpuinfo")
    assert found.problems[-1].instead == "used /proc/cpuinfo"


def test_a_file_that_may_not_be_read_is_reported(machine):
    root = machine("gce-e2-standard-4")
    online = root / "sys/devices/system/cpu/online"
    online.unlink()
    online.mkdir()  # reading a directory fails for root too
    found = cores(root=root)
    assert found.count == 2
    assert [problem.reason for problem in found.problems][:2] == ["Is a directory", "says nothing"]


@given(st.integers(1, 512), st.one_of(st.none(), st.floats(0.01, 1000)))
def test_a_quota_caps_the_workers_and_never_below_one(physical, quota):
    workers = capped(physical, quota)
    assert 1 <= workers <= physical
    if quota is not None:
        assert workers <= max(1, quota + 1)
        assert workers == physical or workers >= quota - 0.1


FILES = (
    "/sys/devices/system/cpu/online",
    "/proc/self/status",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/cpuinfo",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpuset.cpus.effective",
    "/sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    "/sys/devices/system/cpu/cpu0/topology/physical_package_id",
    "/sys/devices/system/node/online",
)
SCRAPS = st.one_of(
    st.binary(max_size=40),
    st.text("0123456789-,:/ \n\tmax", max_size=40).map(str.encode),
    st.sampled_from(
        [b"0-3", b"max 100000", b"50000 0", b"0::/", b"-5", b"99999999999999999999", b"\0\0", b"\xff\xfe"]
    ),
)


@given(st.dictionaries(st.sampled_from(FILES), SCRAPS))
def test_no_content_of_any_file_makes_the_count_fail(files):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as root:
        for path, content in files.items():
            target = Path(root, path.lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        found = cores(root=root)
    assert 1 <= found.count <= found.physical <= found.logical
    json.dumps(found.as_dict())
