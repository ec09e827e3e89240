"""The image counts the cores and memory that Docker's limits leave."""

from __future__ import annotations

import json
import math
import os

import pytest

pytestmark = pytest.mark.docker


@pytest.fixture
def record(engine, image):
    """Return the output of `runwide cores --json` in a container with some limits."""

    def run(command: tuple[str, ...] = ("runwide", "cores", "--json"), **limits) -> dict:
        printed = engine.containers.run(image, list(command), remove=True, network_mode="none", **limits)
        return json.loads(printed)

    return run


def cpus_of_the_engine(engine) -> int:
    return engine.info()["NCPU"]


def test_a_limit_of_one_and_a_half_cpus(record):
    whole, found = record(), record(nano_cpus=1_500_000_000)
    assert found["quota"] == 1.5
    assert found["usable"] == found["count"] == min(whole["physical"], math.ceil(1.4))
    quota = found["steps"][-1]
    assert (quota["name"], quota["value"]) == ("quota", "1.5 CPUs")
    assert quota["source"].startswith("/sys/fs/cgroup/")
    assert found["cores"] == whole["cores"]


def test_a_limit_of_half_a_cpu_is_still_one_worker(record):
    found = record(nano_cpus=500_000_000)
    assert (found["count"], found["quota"]) == (1, 0.5)


def test_a_set_of_one_cpu(record, engine):
    found = record(cpuset_cpus="0")
    assert (found["count"], found["physical"], found["logical"], found["quota"]) == (1, 1, 1, None)
    cpuset = next(step for step in found["steps"] if step["name"] == "cpuset")
    assert (cpuset["value"], cpuset["left"]) == ("0", 1)
    assert found["steps"][0]["left"] == cpus_of_the_engine(engine)


def test_a_limit_of_memory(record):
    found = record(("runwide", "doctor", "--json"), mem_limit="512m")
    assert found["memory"]["limit"] == found["memory"]["size"] == 512 << 20
    assert found["memory"]["source"].startswith("/sys/fs/cgroup")
    assert found["memory"]["available"] < 512 << 20
    assert found["memory"]["oom_kills"] == 0
    assert found["ok"] is True


def test_without_limits_the_container_has_what_the_engine_has(record, engine):
    found = record()
    assert found["quota"] is None
    assert found["logical"] == cpus_of_the_engine(engine)
    if not os.environ.get("DOCKER_HOST"):
        from runwide.host import cores

        assert found["physical"] == cores().physical


def test_an_override_reaches_the_container(record):
    found = record(environment={"RUNWIDE_WORKERS": "3"})
    assert (found["count"], found["decided_by"]) == (3, "RUNWIDE_WORKERS")


def test_too_little_memory_makes_the_doctor_exit_with_the_reason(engine, image):
    import docker

    with pytest.raises(docker.errors.ContainerError) as caught:
        engine.containers.run(
            image, ["runwide", "doctor"], remove=True, network_mode="none", mem_limit="100m"
        )
    assert caught.value.exit_status == 1
    assert b"a job would fail here: memory: limit 100 MiB" in caught.value.stderr


def test_a_limit_of_processes_is_seen(record):
    found = record(("runwide", "doctor", "--json"), pids_limit=200)
    processes = next(check for check in found["checks"] if check["name"] == "processes")
    assert "more processes and threads allowed" in processes["says"]


OOM = """
import json, subprocess, sys
from runwide.host import memory
before = memory.oom_kills()
child = subprocess.run([sys.executable, "-c", "bytearray(400 << 20)"])
print(json.dumps({"before": before, "after": memory.oom_kills(), "exit": child.returncode}))
"""


def test_a_process_that_the_kernel_kills_for_memory_is_counted(record):
    found = record(("python3", "-c", OOM), mem_limit="128m", memswap_limit="128m")
    assert found == {"before": 0, "after": 1, "exit": -9}
