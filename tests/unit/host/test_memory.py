"""Limits, use and kills of memory, as cgroup v1 and v2 write them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runwide.host import memory

MIB = 1 << 20


def test_the_tightest_limit_on_the_way_up_counts(machine):
    found = memory.read(machine("cgroup-v2-nested"))
    assert found.limit == 1024 * MIB
    assert (found.high, found.used, found.available) == (768 * MIB, 512 * MIB, 512 * MIB)
    assert found.oom_kills == 2
    assert found.source.endswith("kubepods-pod1.slice")


def test_of_two_equal_limits_the_nearest_counts(machine):
    container = "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-1.scope"
    found = memory.read(machine("cgroup-v2-nested", **{f"{container}/memory.max": str(1024 * MIB)}))
    assert found.limit == 1024 * MIB
    assert found.source.endswith("cri-1.scope")


def test_v1_reports_a_limit_of_an_ancestor_that_is_not_visible(machine):
    found = memory.read(machine("docker-cpus-1.5"))
    assert found.limit == 256 * MIB
    assert found.used == 96 * MIB  # 100 MiB less 4 MiB of cache that can be dropped
    assert found.available == 160 * MIB
    assert found.oom_kills == 3
    assert not found.kills_all


def test_a_pod_that_dies_as_one_is_recognised(machine):
    found = memory.read(machine("gke-pod-7.5-of-8"))
    assert found.kills_all
    assert found.limit == 8 << 30
    assert found.used == 1 << 30


def test_no_limit_is_none_and_the_machine_ends_the_memory(machine):
    found = memory.read(machine("recorded-firecracker"))
    assert found.limit is None
    assert found.size == found.total == 24684100 * 1024
    assert memory.read(machine("recorded-firecracker")).limit is None


def test_a_cgroup_without_a_counter_leaves_the_machines_own(tree):
    assert memory.oom_kills(tree({"/proc/vmstat": "nr_free_pages 1\noom_kill 4\n"})) == 4


def test_a_machine_that_counts_nothing_says_none(machine):
    found = memory.read(machine("nothing"))
    assert (found.limit, found.used, found.available, found.oom_kills, found.size) == (None,) * 5


def test_an_invalid_limit_is_ignored(machine):
    assert memory.read(machine("garbage")).limit is None


def test_the_memory_of_a_process_is_known_while_it_lives():
    code = "import sys; data = bytearray(80 << 20); print(len(data), flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        child.stdout.readline()
        assert memory.rss(child.pid) > 80 * MIB
        child.stdin.close()
    assert memory.rss(child.pid) is None


def test_this_process_has_memory_left():
    found = memory.read()
    assert 0 < found.available <= found.size
    assert memory.available() > 0
    assert memory.rss(os.getpid()) < found.size


@pytest.mark.parametrize("name", ["memory.events", "memory.oom_control"])
def test_the_kill_counter_is_read_from_the_processs_own_cgroup(tree, name):
    mounted = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    root = tree(
        {
            "/proc/self/mountinfo": mounted,
            "/proc/self/cgroup": "0::/job",
            f"/sys/fs/cgroup/job/{name}": "oom_kill 1\n",
            f"/sys/fs/cgroup/{name}": "oom_kill 9\n",
        }
    )
    assert memory.oom_kills(root) == 1
