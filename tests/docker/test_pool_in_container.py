"""The pool under a container's own limits: memory, shared memory, scratch disk, CPUs, and its end.

The programs run in the image as a component's code would, one container each.
"""

from __future__ import annotations

import json
import textwrap
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import pytest

pytestmark = pytest.mark.docker

MEGABYTE = 1 << 20
LIMITED = {"mem_limit": "512m", "memswap_limit": "512m"}


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @cached_property
    def printed(self):
        """The last line that the program printed, read as JSON."""
        assert self.status == 0, self.err
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def started(engine, image):
    """Start a program in a new container, which is removed after the test."""
    containers = []

    def start(program: str, **options):
        command = ["python3", "-c", PREAMBLE + textwrap.dedent(program)]
        container = engine.containers.create(image, command, **{"network_mode": "none", **options})
        containers.append(container)
        container.start()
        return container

    yield start
    for container in containers:
        container.remove(force=True)


@pytest.fixture
def run(started):
    """Run a program in a container to its end."""

    def run(program: str, **options) -> Ran:
        container = started(program, **options)
        status = container.wait(timeout=120)["StatusCode"]
        out, err = (container.logs(stdout=std, stderr=not std).decode() for std in (True, False))
        return Ran(status, out, err)

    return run


PREAMBLE = """
import json, os, pickle, sys, time
import runwide
from runwide.host import memory
from runwide.records import Failure

MEGABYTE = 1 << 20

def allocate(megabytes, *, pause=0.0, seconds=0.0):
    "Take memory in steps, and hold it for a while."
    held = []
    for _ in range(megabytes // 8):
        held.append(b"x" * (8 * MEGABYTE))
        time.sleep(pause)
    time.sleep(seconds)
    return megabytes

class Array:
    "Travels out of band, as a numpy array does."

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Array, (pickle.PickleBuffer(self.data),)

def array(megabytes):
    return Array(bytearray(b"0123456789abcdef" * (megabytes * MEGABYTE // 16)))

def described(result):
    if not isinstance(result, Failure):
        return result
    error = result.exception
    return {"type": result.type, "kind": result.kind.value, "item": result.index, "attempts": result.attempts,
            "peak": getattr(error, "peak_rss", None), "message": result.message}
"""


# memory


TOO_LARGE = """
    def task(x):
        started = time.monotonic()
        if x == 3:
            os.makedirs("/tmp/starts", exist_ok=True)
            open(f"/tmp/starts/{started}", "x").close()
            allocate(2000)
        time.sleep(0.2)
        return started, time.monotonic()

    results = runwide.map(task, range(12), workers=2, on_error="return", chunksize=1)
    starts = sorted(map(float, os.listdir("/tmp/starts")))
    print(json.dumps({"results": list(map(described, results)), "starts": starts, "kills": memory.oom_kills()}))
"""


def test_an_oom_kill_is_recognised_and_other_items_finish(run):
    ran = run(TOO_LARGE, **LIMITED)
    guilty = ran.printed["results"].pop(3)
    assert (guilty["type"], guilty["kind"], guilty["item"]) == ("WorkerOutOfMemory", "out-of-memory", 3)
    assert guilty["attempts"] == 2
    assert 250 * MEGABYTE < guilty["peak"] < 512 * MEGABYTE
    assert len(ran.printed["results"]) == 11
    assert all(isinstance(result, list) for result in ran.printed["results"])
    assert ran.printed["kills"] == 2


def test_the_victim_of_an_oom_kill_is_tried_again_alone_and_the_pool_narrows(run):
    ran = run(TOO_LARGE, **LIMITED)
    (_, again), innocent = ran.printed["starts"], ran.printed["results"]
    innocent.pop(3)
    assert not [interval for interval in innocent if interval[0] <= again <= interval[1]]
    assert "pool.narrowed" in ran.err
    later = sorted(interval for interval in innocent if interval[0] > again)
    assert all(one[1] <= other[0] for one, other in pairwise(later))


def test_two_items_that_fit_only_one_at_a_time_both_succeed(run):
    ran = run(
        """
        def task(x):
            return allocate(x, seconds=1) if x else 0

        results = runwide.map(task, [320, 320, 0, 0, 320, 320], workers=2, on_error="return", chunksize=1)
        print(json.dumps({"results": list(map(described, results)), "kills": memory.oom_kills()}))
        """,
        **LIMITED,
    )
    assert ran.printed["results"] == [320, 320, 0, 0, 320, 320]
    assert ran.printed["kills"] >= 1  # else both would have had room at the same time


def test_workers_whose_start_fits_only_one_at_a_time_become_one(run):
    ran = run(
        """
        def load():
            os.makedirs("/tmp/loads", exist_ok=True)
            open(f"/tmp/loads/{os.getpid()}", "x").close()
            deadline = time.monotonic() + 60
            while len(os.listdir("/tmp/loads")) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            sys.loaded = b"x" * (300 * MEGABYTE)  # as large imports and models do
            time.sleep(0.5)

        results = runwide.map(abs, range(6), workers=2, initializer=load)
        print(json.dumps({"results": results, "kills": memory.oom_kills()}))
        """,
        **LIMITED,
    )
    assert ran.printed["results"] == list(range(6))
    assert ran.printed["kills"] >= 1  # else both would have had room at the same time
    assert "pool.narrowed" in ran.err


@pytest.mark.parametrize("pause", [0.05, 0.0], ids=["slowly", "at full speed"])
def test_the_guard_acts_before_the_kernel(run, pause):
    ran = run(
        f"""
        def task(x):
            if x == 3:
                return allocate(2000, pause={pause})
            time.sleep(0.2)
            return x

        results = runwide.map(task, range(12), workers=2, on_error="return", chunksize=1)
        print(json.dumps({{"results": list(map(described, results)), "kills": memory.oom_kills()}}))
        """,
        environment={"RUNWIDE_MEMORY_GUARD": "always"},
        **LIMITED,
    )
    guilty = ran.printed["results"].pop(3)
    assert (guilty["type"], guilty["kind"]) == ("WorkerOutOfMemory", "out-of-memory")
    assert ran.printed["results"] == [x for x in range(12) if x != 3]
    assert ran.printed["kills"] == 0


# workers that stay


def test_the_second_map_finds_the_workers_of_the_first(run):
    ran = run(
        """
        pids = [runwide.map(lambda _: os.getpid(), [0], workers=1) for _ in range(3)]
        print(json.dumps(pids))
        """
    )
    first, *others = ran.printed
    assert others == [first, first]


# payloads


CROSSING = """
    def task(item):
        assert len(item.data) == {size} * MEGABYTE
        assert item.data[-16:] == b"0123456789abcdef"
        item.data[0] = 65  # the argument belongs to the task
        return item

    items = [array({size}) for _ in range({number})]
    for result in runwide.imap(task, items, workers=2):
        assert bytes(result.data[:2]) == b"A1" and len(result.data) == {size} * MEGABYTE
        del result
    assert bytes(items[0].data[:2]) == b"01"
    runwide.shutdown()
    print(json.dumps([sorted(name for name in os.listdir(root) if "runwide" in name) for root in ("/dev/shm", "/tmp")]))
"""


@pytest.mark.parametrize("size", [200, 20])
def test_arrays_larger_than_shared_memory_cross_both_ways(run, size):
    ran = run(CROSSING.format(size=size, number=3), shm_size="64m")
    assert ran.printed == [[], []]


SMALL_DISK = {"tmpfs": {"/tmp": "size=16m,mode=1777"}, "environment": {"RUNWIDE_SCRATCH": "/tmp"}}


def test_an_argument_that_no_disk_has_room_for_fails_alone(run):
    ran = run(
        """
        items = [array(32) if x == 5 else Array(bytearray(40_000)) for x in range(50)]
        results = runwide.map(lambda item: len(item.data), items, workers=2, on_error="return")
        print(json.dumps(list(map(described, results))))
        """,
        **SMALL_DISK,
    )
    guilty = ran.printed.pop(5)
    assert (guilty["type"], guilty["item"]) == ("ScratchFull", 5)
    assert "33,55" in guilty["message"]
    assert ran.printed == [40_000] * 49


def test_a_result_that_no_disk_has_room_for_fails_alone(run):
    ran = run(
        """
        def task(x):
            return array(32) if x == 700 else "y" * 2000

        results = runwide.map(task, range(1000), workers=2, on_error="return")
        print(json.dumps([described(result) if isinstance(result, Failure) else len(result) for result in results]))
        """,
        **SMALL_DISK,
    )
    guilty = ran.printed.pop(700)
    assert (guilty["type"], guilty["item"]) == ("ScratchFull", 700)
    assert ran.printed == [2000] * 999


def test_arguments_that_the_disk_holds_one_at_a_time_all_arrive(run):
    ran = run(
        """
        items = [array(10) for _ in range(6)]
        print(json.dumps(runwide.map(lambda item: time.sleep(0.2) or len(item.data), items, workers=2)))
        """,
        **SMALL_DISK,
    )
    assert ran.printed == [10 * MEGABYTE] * 6


# its end


def test_a_stopped_container_exits_with_143_and_has_printed_finished_results(started):
    container = started(
        """
        for value in runwide.imap_unordered(lambda x: time.sleep(1) or x, range(1000), workers=2):
            print(value, flush=True)
        """
    )
    deadline = time.monotonic() + 60
    while len(container.logs(stderr=False).split()) < 2:
        assert time.monotonic() < deadline, "nothing was printed"
        time.sleep(0.1)
    container.stop(timeout=60)
    assert container.wait(timeout=60)["StatusCode"] == 143
    finished = sorted(map(int, container.logs(stderr=False).split()))
    assert 2 <= len(finished) < 100
    assert finished == list(range(len(finished)))
    assert b"Traceback" not in container.logs(stdout=False)


def test_a_stopped_container_exits_within_the_grace_though_a_task_goes_on(started):
    container = started(
        """
        print("ready", flush=True)
        runwide.map(lambda x: open(f"/tmp/{x}", "x").close() or time.sleep(3600), range(4), workers=2, grace=2)
        """
    )
    deadline = time.monotonic() + 60
    while container.exec_run(["test", "-e", "/tmp/1"]).exit_code:
        assert time.monotonic() < deadline, "the tasks did not start"
        time.sleep(0.1)
    begin = time.monotonic()
    container.stop(timeout=60)
    assert time.monotonic() - begin < 30
    assert container.wait(timeout=60)["StatusCode"] == 143


# CPUs


@pytest.mark.parametrize(("cpus", "workers"), [(0.5, 1), (1.0, 1), (1.5, 2)])
def test_there_are_as_many_workers_as_the_limit_feeds(run, engine, cpus, workers):
    ran = run(
        """
        pids = set(runwide.map(lambda _: time.sleep(0.2) or os.getpid(), range(12), chunksize=1))
        print(json.dumps(len(pids)))
        """,
        nano_cpus=int(cpus * 1e9),
    )
    assert ran.printed == min(workers, engine.info()["NCPU"])
