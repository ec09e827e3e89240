"""Every recorded or documented machine is counted as it should be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runwide.host import cores
from runwide.host.measuring import recording

TREES = Path(__file__).parents[2] / "fixtures" / "host"

GCE = "Google Compute Engine"

# name: workers, physical, logical, quota, decided by, may be hidden, hypervisor
EXPECTED = {
    "gce-e2-standard-4": (2, 2, 4, None, "cores", False, GCE),
    "gce-n2-standard-8": (4, 4, 8, None, "cores", False, GCE),
    "gce-c3-standard-22": (11, 11, 22, None, "cores", False, GCE),
    "gce-t2d-standard-8": (8, 8, 8, None, "cores", False, GCE),
    "gce-c2-standard-60-one-thread": (30, 30, 30, None, "cores", False, GCE),
    "azure-hidden": (4, 4, 4, None, "cores", True, "Microsoft Hyper-V"),
    "aws-m5-xlarge": (2, 2, 4, None, "cores", False, "Amazon EC2"),
    "two-socket-numa": (16, 16, 32, None, "cores", False, ""),
    "hybrid-laptop": (12, 12, 16, None, "cores", False, ""),
    "arm-server": (16, 16, 16, None, "cores", False, ""),
    "arm-big-little": (6, 6, 6, None, "cores", False, ""),
    "offline-cpus": (4, 4, 6, None, "cores", False, ""),
    "old-kernel": (4, 4, 8, None, "cores", False, ""),
    "gke-pod-7.5-of-8": (4, 4, 8, 7.5, "cores", False, GCE),
    "docker-cpus-1.5": (2, 4, 8, 1.5, "quota", False, "unknown"),
    "docker-cpuset-cpus-0": (1, 1, 1, None, "cores", False, "unknown"),
    "cgroup-v1-nested": (3, 4, 8, 3.0, "quota", False, "unknown"),
    "cgroup-v2-nested": (2, 4, 8, 2.0, "quota", False, "unknown"),
    "cgroup-namespace": (3, 4, 8, 2.5, "quota", False, "unknown"),
    "cgroup-host-mount": (4, 4, 8, None, "cores", False, "unknown"),
    "cgroup-hybrid": (2, 4, 8, 2.0, "quota", False, "unknown"),
    "mountinfo-unreadable": (3, 4, 8, 2.5, "quota", False, "unknown"),
    "gvisor-no-sysfs": (4, 4, 4, None, "cores", True, "gVisor"),
    "no-sysfs": (4, 4, 8, None, "cores", False, ""),
    "nothing": (1, 1, 1, None, "cores", False, ""),
    "garbage": (2, 2, 2, None, "cores", False, ""),
    "recorded-firecracker": (2, 2, 2, None, "cores", True, "Firecracker"),
    "recorded-qemu-smt": (2, 2, 4, None, "cores", False, "QEMU"),
    "recorded-docker-cpus-1.5": (2, 2, 2, 1.5, "cores", True, "unknown"),
    # The table of the cases that other counters get wrong: 8 vCPUs, 4 cores.
    "quota-7.0": (4, 4, 8, 7.0, "cores", False, "unknown"),
    "quota-2.5": (3, 4, 8, 2.5, "quota", False, "unknown"),
    "affinity-one-core": (1, 1, 2, None, "cores", False, "unknown"),
    "affinity-two-cores-quota-3": (2, 2, 4, 3.0, "cores", False, "unknown"),
    "leaf-max-parent-2": (2, 4, 8, 2.0, "quota", False, "unknown"),
    "host-namespace-quota-3": (3, 4, 8, 3.0, "quota", False, "unknown"),
    "v1-cpu-cpuacct-quota-3": (3, 4, 8, 3.0, "quota", False, "unknown"),
    "lxcfs": (2, 2, 4, None, "cores", False, ""),
    "lxcfs-sysfs": (2, 2, 4, None, "cores", False, ""),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_machine_is_counted_right(name, machine):
    found = cores(root=machine(name))
    assert (
        found.count,
        found.physical,
        found.logical,
        found.quota,
        found.decided_by,
        found.hidden,
        found.hypervisor.name,
    ) == EXPECTED[name]


def test_every_tree_has_an_expected_record():
    assert {path.stem for path in TREES.glob("*.tree")} == set(EXPECTED)


@pytest.mark.parametrize("path", sorted(TREES.glob("*.tree")), ids=lambda path: path.stem)
def test_every_tree_says_where_it_comes_from(path):
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    words = " ".join(head)
    assert any(sign in words for sign in ("Written from documentation", "Written by hand", "Recorded by"))
    assert path.stem.startswith("recorded-") == ("Recorded by" in words)


def test_the_documented_trees_are_what_the_generator_writes():
    generate = TREES / "generate.py"
    code = (
        f"import sys; sys.path.insert(0, {str(TREES)!r}); import generate, json;"
        "from runwide.host.measuring.recording import pack;"
        "print(json.dumps({n: pack(f, source=s) for n, (s, f) in generate.trees().items()}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written = json.loads(ran.stdout)
    committed = {path.stem: path.read_text() for path in TREES.glob("*.tree")}
    assert {name: committed[name] for name in written} == written, f"run {generate}"
    assert all(name in written or name.startswith("recorded-") for name in committed)


@pytest.mark.parametrize("name", ["recorded-firecracker", "gke-pod-7.5-of-8", "lxcfs-sysfs", "hybrid-laptop"])
def test_a_recording_of_a_recorded_machine_counts_the_same(name, machine, tmp_path):
    root = machine(name)
    again = recording.unpack(recording.record(root, source="again"), tmp_path / "again")
    first, second = cores(root=root), cores(root=again)
    assert first == second


def test_a_hybrid_machine_keeps_its_kinds_of_cores_apart(machine):
    found = cores(root=machine("hybrid-laptop"))
    assert found.kinds == {"performance": 4, "efficiency": 8}
    assert {core.kind: core.threads for core in found.cores} == {"performance": 2, "efficiency": 1}
    assert cores(root=machine("arm-big-little")).kinds == {"efficiency": 4, "performance": 2}


def test_sockets_and_numa_nodes_are_reported(machine):
    found = cores(root=machine("two-socket-numa"))
    assert {core.package for core in found.cores} == {core.node for core in found.cores} == {0, 1}
    assert all(core.package == core.node for core in found.cores)


def test_an_offline_sibling_leaves_its_core_with_one_thread(machine):
    found = cores(root=machine("offline-cpus"))
    assert [core.cpus for core in found.cores] == [(0, 1), (2,), (4,), (6, 7)]


def test_only_the_hypervisor_of_compute_engine_is_trusted(machine):
    assert cores(root=machine("gce-t2d-standard-8")).hypervisor.truthful
    hidden = cores(root=machine("azure-hidden"))
    assert not hidden.hypervisor.truthful
    assert "may hide" in hidden.advice


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("gce-n2-standard-8", "4 workers: these 8 CPUs are threads of 4 physical cores; more"),
        ("affinity-one-core", "1 worker: these 2 CPUs are threads of 1 physical core; more"),
        ("gce-t2d-standard-8", "8 workers: each of these CPUs is a core of its own."),
        ("docker-cpus-1.5", "2 workers: the CPU limit of 1.5 holds back 4 physical cores; raise"),
        (
            "recorded-docker-cpus-1.5",
            "2 workers: they share a CPU limit of 1.5, so expect 1.5 times one core.",
        ),
        (
            "azure-hidden",
            "4 workers, but the hypervisor may hide that CPUs share a core: `runwide cores --measure`",
        ),
        (
            "gvisor-no-sysfs",
            "4 workers, but the machine does not say which CPUs share a core: `runwide cores --measure`",
        ),
    ],
)
def test_one_line_of_advice_explains_the_count(name, advice, machine):
    said = cores(root=machine(name)).advice
    assert said.startswith(advice)
    assert "\n" not in said


def test_a_source_that_cannot_be_read_is_reported_with_the_one_used_instead(machine):
    found = cores(root=machine("gvisor-no-sysfs"))
    assert [problem.instead for problem in found.problems] == [
        "counted /proc/cpuinfo",
        "took each CPU for a core",
    ]
    host = cores(root=machine("cgroup-host-mount"))
    assert [problem.source for problem in host.problems] == ["/sys/fs/cgroup"]
