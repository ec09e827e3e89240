"""Machines with threads, sockets and dies, for real: virtual ones in software emulation, with Debian's kernel.

In them, a real kernel's affinity, CPU hotplug and cgroups, v1 and v2, are held against the record.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("guest", Path(__file__).with_name("guest.py"))
guest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guest)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("guest")]

COUNT = """
import json
from runwide.host import cores
print(json.dumps(cores().as_dict()))
"""

CASES = """
import json, os, subprocess
from pathlib import Path
from runwide.host import cores, memory

found = {}
def count(name):
    found[name] = cores().as_dict()

count("whole")
os.sched_setaffinity(0, {0, 1})
count("one core's threads")
os.sched_setaffinity(0, {0, 2})
count("one thread of each core")
os.sched_setaffinity(0, {0, 1, 2, 3})

Path("/sys/devices/system/cpu/cpu3/online").write_text("0")
count("one thread offline")
Path("/sys/devices/system/cpu/cpu3/online").write_text("1")
os.sched_setaffinity(0, {0, 1, 2, 3})

top = Path("/sys/fs/cgroup")
(top / "cgroup.subtree_control").write_text("+cpu +cpuset +memory")
leaf = top / "pod" / "leaf"
leaf.mkdir(parents=True)
(top / "pod" / "cgroup.subtree_control").write_text("+cpu +cpuset +memory")
(leaf / "cgroup.procs").write_text("0")
(top / "pod" / "cpu.max").write_text("100000 100000")
(top / "pod" / "memory.max").write_text("300M")
count("leaf without a limit, parent 1")
found["limit"] = memory.read().limit
(top / "pod" / "cpu.max").write_text("max")
(leaf / "cpu.max").write_text("150000 100000")
count("quota 1.5")
(leaf / "cpu.max").write_text("max")
(leaf / "cpuset.cpus").write_text("2-3")
count("cpuset of one core")

# The kernel's OOM killer takes a child of this cgroup; it is counted here.
(leaf / "memory.max").write_text("60M")
child = subprocess.run(["/bin/python", "-c", "bytearray(200 << 20)"])
found["killed"] = [child.returncode, memory.oom_kills()]
print(json.dumps(found))
"""

NAMESPACE = """
import ctypes, json, os
from pathlib import Path
from runwide.host import cores

libc = ctypes.CDLL(None, use_errno=True)
top = Path("/sys/fs/cgroup")
(top / "cgroup.subtree_control").write_text("+cpu")
(top / "pod" / "leaf").mkdir(parents=True)
(top / "pod" / "cgroup.subtree_control").write_text("+cpu")
(top / "pod" / "leaf" / "cgroup.procs").write_text("0")
(top / "pod" / "leaf" / "cpu.max").write_text("150000 100000")
os.setsid()
assert libc.unshare(0x02000000 | 0x00020000) == 0  # CLONE_NEWCGROUP | CLONE_NEWNS
old = cores().as_dict()
assert libc.umount2(b"/sys/fs/cgroup", 2) == 0
assert libc.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", 0, None) == 0
print(json.dumps([Path("/proc/self/cgroup").read_text(), old, cores().as_dict()]))
"""

V1 = """
import ctypes, json
from pathlib import Path
from runwide.host import cores

libc = ctypes.CDLL(None, use_errno=True)
assert libc.umount2(b"/sys/fs/cgroup", 2) == 0
assert libc.mount(b"tmpfs", b"/sys/fs/cgroup", b"tmpfs", 0, None) == 0
for names in ("cpu,cpuacct", "cpuset"):
    where = Path("/sys/fs/cgroup", names)
    where.mkdir()
    assert libc.mount(b"cgroup", str(where).encode(), b"cgroup", 0, names.encode()) == 0, (names, ctypes.get_errno())
job = Path("/sys/fs/cgroup/cpu,cpuacct/job")
job.mkdir()
(job / "cpu.cfs_quota_us").write_text("150000")
(job / "inner").mkdir()
(job / "inner" / "cgroup.procs").write_text("0")
print(json.dumps(cores().as_dict()))
"""


PATCHES = """
import os, signal, time
from pathlib import Path

pod = Path("/sys/fs/cgroup/pod")
Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+cpu")
pod.mkdir()
busy = []
for _ in range(4):
    if not (pid := os.fork()):
        while True:
            time.sleep(0.0001)
    busy.append(pid)
for _ in range(300):
    for limit in ("100000 100000", "max"):  # the first limit and the last one change code of the scheduler
        (pod / "cpu.max").write_text(limit)
for pid in busy:
    os.kill(pid, signal.SIGKILL)
print(len(busy))
"""


@pytest.fixture(scope="module")
def run():
    """Run a program in a guest with a topology, and return its output, parsed as JSON."""

    def run_in_guest(program: str, smp: str, **options):
        return json.loads(guest.run(program, smp=smp, **options).strip().splitlines()[-1])

    return run_in_guest


@pytest.mark.parametrize(
    ("smp", "expected"),  # physical, logical, may be hidden, packages
    [
        ("4,sockets=1,cores=2,threads=2", (2, 4, False, 1)),
        ("4,sockets=2,cores=1,threads=2", (2, 4, False, 2)),
        ("4,sockets=1,cores=4,threads=1", (4, 4, True, 1)),
        ("6,sockets=1,cores=3,threads=2", (3, 6, False, 1)),
    ],
)
def test_a_guest_with_this_topology_is_counted_right(run, smp, expected):
    found = run(COUNT, smp)
    packages = len({core["package"] for core in found["cores"]})
    assert (found["physical"], found["logical"], found["hidden"], packages) == expected
    assert found["count"] == found["physical"]
    assert found["hypervisor"]["name"] == "QEMU"
    assert found["problems"] == []


def test_the_dies_of_a_socket_are_distinguished(run):
    found = run(COUNT, "8,sockets=1,dies=2,cores=2,threads=2")
    assert (found["physical"], found["logical"]) == (4, 8)
    assert sorted(core["die"] for core in found["cores"]) == [0, 0, 1, 1]


def test_affinity_hotplug_and_the_v2_hierarchy_of_a_real_kernel(run):
    found = run(CASES, "4,sockets=1,cores=2,threads=2")
    counts = {
        name: (record["count"], record["physical"], record["logical"], record["quota"])
        for name, record in found.items()
        if isinstance(record, dict)
    }
    assert counts == {
        "whole": (2, 2, 4, None),
        "one core's threads": (1, 1, 2, None),
        "one thread of each core": (2, 2, 2, None),
        "one thread offline": (2, 2, 3, None),
        "leaf without a limit, parent 1": (1, 2, 4, 1.0),
        "quota 1.5": (2, 2, 4, 1.5),
        "cpuset of one core": (1, 1, 2, None),
    }
    assert found["limit"] == 300 << 20
    assert found["killed"] == [-9, 1]


def test_a_guest_whose_kernel_patches_its_code_under_running_cpus_goes_on(run):
    assert run(PATCHES, "4,sockets=1,cores=2,threads=2") == 4


def test_a_private_cgroup_namespace_of_a_real_kernel(run):
    place, before, after = run(NAMESPACE, "4,sockets=1,cores=2,threads=2")
    assert place.strip() == "0::/"
    assert (after["count"], after["quota"], after["problems"]) == (2, 1.5, [])
    # The host's mount, seen from inside: our place in it is unknown, and a note says so.
    assert before["quota"] is None
    assert [problem["source"] for problem in before["problems"]] == ["/sys/fs/cgroup"]


def test_a_v1_hierarchy_of_a_real_kernel(run):
    found = run(V1, "4,sockets=1,cores=2,threads=2")
    assert (found["count"], found["quota"]) == (2, 1.5)
    assert found["steps"][-1]["source"] == "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us"
