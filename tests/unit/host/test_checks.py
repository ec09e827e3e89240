"""Judgements of machines that are unfit for a job."""

from __future__ import annotations

import pytest

from runwide.host import cgroup, checks, cores, hypervisor, memory, space
from runwide.host.checks import State
from runwide.host.memory import Memory
from runwide.host.tree import Tree

MIB = 1 << 20


def roomy(**changes) -> Memory:
    known = {"limit": None, "source": "", "high": None, "used": 0, "total": 8 << 30, "available": 8 << 30}
    return Memory(**{**known, "oom_kills": 0, "kills_all": False, **changes})


@pytest.mark.parametrize(
    ("available", "state"),
    [(8 << 30, State.OK), (1023 * MIB, State.WARNING), (127 * MIB, State.FAILURE), (None, State.WARNING)],
)
def test_memory_for_two_workers(available, state):
    assert checks.judge_memory(roomy(available=available), 2).state is state


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, State.OK, "0 so far"),
        ({"oom_kills": 2}, State.WARNING, "2 so far"),
        ({"kills_all": True}, State.WARNING, "whole container"),
        ({"oom_kills": None}, State.WARNING, "not counted"),
    ],
)
def test_oom_kills_are_reported(changes, state, words):
    found = checks.judge_oom_kills(roomy(**changes))
    assert found.state is state
    assert words in found.says


def test_a_container_that_is_held_back_is_warned(machine):
    held = cgroup.throttling(Tree(machine("docker-cpus-1.5")))
    assert (held.periods, held.throttled, held.seconds) == (100, 40, 2.5)
    assert checks.judge_pressure(held, None).state is State.WARNING
    gentle = cgroup.throttling(Tree(machine("gke-pod-7.5-of-8")))
    assert (gentle.throttled, gentle.seconds) == (90, 4.5)
    assert checks.judge_pressure(gentle, None).state is State.OK
    assert checks.judge_pressure(None, None).state is State.OK


def test_the_throttling_of_an_ancestor_is_seen(tree):
    files = {
        "/proc/self/mountinfo": "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "/proc/self/cgroup": "0::/pod/leaf",
        "/sys/fs/cgroup/pod/leaf/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_usec 0",
        "/sys/fs/cgroup/pod/cpu.stat": "nr_periods 10\nnr_throttled 5\nthrottled_usec 1000000",
    }
    held = cgroup.throttling(Tree(tree(files)))
    assert (held.throttled, held.seconds, held.source) == (5, 1.0, "/sys/fs/cgroup/pod/cpu.stat")


def test_stolen_time_is_warned_of():
    assert checks.judge_pressure(None, hypervisor.Steal(6, 100)).state is State.WARNING
    assert checks.judge_pressure(None, hypervisor.Steal(4, 100)).state is State.OK


def test_stolen_time_is_read_without_counting_guests_twice(tree, machine):
    root = tree({"/proc/stat": "cpu  10 20 30 40 50 60 70 80 900 900\ncpu0 1 1 1 1 1 1 1 1 1 1\n"})
    assert hypervisor.steal(root) == hypervisor.Steal(80, 360)
    assert hypervisor.steal(machine("garbage")) is None
    assert hypervisor.steal(machine("nothing")) is None


def test_a_tight_limit_of_processes_is_a_failure(tree):
    files = {
        "/proc/self/mountinfo": "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "/proc/self/cgroup": "0::/job",
        "/sys/fs/cgroup/job/pids.max": "max",
        "/sys/fs/cgroup/pids.max": "40",
        "/sys/fs/cgroup/pids.current": "30",
    }
    room = cgroup.pids(Tree(tree(files)))
    assert (room.limit, room.used) == (40, 30)
    assert checks.judge_processes(room, 4).state is State.FAILURE
    assert checks.judge_processes(room, 1).state is State.OK
    assert checks.judge_processes(None, 64).state is State.OK


def test_a_scratch_directory_that_is_missing_is_a_failure_and_shared_memory_that_is_missing_is_not(tmp_path):
    missing = space.measure(str(tmp_path / "none"))
    assert missing.reason == "No such file or directory"
    assert checks.judge_scratch(missing).state is State.FAILURE
    assert checks.judge_shared_memory(missing).state is State.WARNING


def test_looking_at_a_directory_leaves_nothing_there(tmp_path):
    found = space.measure(str(tmp_path))
    assert found.writable
    assert 0 < found.free <= found.total
    assert list(tmp_path.iterdir()) == []
    assert checks.judge_scratch(found).state in {State.OK, State.WARNING}


def test_cores_that_could_only_be_guessed_are_warned_of(machine):
    assert checks.judge_cores(cores(root=machine("gvisor-no-sysfs"))).state is State.WARNING
    assert checks.judge_cores(cores(root=machine("gce-e2-standard-4"))).state is State.OK


def test_memory_of_every_recorded_machine_can_be_judged(machine):
    for name in ("nothing", "garbage", "recorded-docker-cpus-1.5"):
        assert checks.judge_memory(memory.read(machine(name)), 2).says
