"""What all tests share: the engine and the image, and the proof that no process outlives its test."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
import warnings
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

import runwide

# A busy machine fails no test: hypothesis would limit the time of each example.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Inherited by whatever a test starts, so that also those are found whose parent is gone.
MARK = "RUNWIDE_TESTS_PID"
os.environ[MARK] = str(os.getpid())

# They serve the whole interpreter, and end with it.
INTERPRETERS_OWN = (b"resource_tracker", b"multiprocessing.forkserver")
SECONDS_TO_LEAVE = 30.0
SECONDS_TO_HAPPEN = 60.0  # on a busy machine
KERNEL_THREAD = 0x00200000  # PF_KTHREAD, in the flags of /proc/[pid]/stat


def pytest_itemcollected(item):
    """Tests that kill, starve or start containers run one after another, each kind on one xdist worker.

    Not when all are collected, which is when xdist reads the marks.
    """
    for kind in ("docker", "faults"):
        if item.get_closest_marker(kind) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(kind))


@pytest.fixture
def descriptors():
    """Tells what this process has open, and how often.

    What is new is the difference of two such counts: what an earlier test has left may be closed meanwhile.
    """

    def count():
        found = Counter()
        for one in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # by which they are listed
                found[str(one.readlink())] += 1
        return found

    return count


@pytest.fixture
def until():
    """Waits until a condition holds, which it should at once."""

    def wait(condition, seconds=SECONDS_TO_HAPPEN):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.005)

    return wait


class Gate:
    """A task that waits until the test lets it through."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        deadline = time.monotonic() + 60
        while not self.path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def open(self):
        self.path.touch()


@pytest.fixture
def gate(tmp_path):
    """Such a task."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def sigterm(until):
    """Sends SIGTERM to a program that waits without end, once it does.

    Python loses a signal that comes between its last look for one and such a wait, until the wait ends.
    """
    from processes import state_of

    def send(pid):
        ran = [""]

        def waits():
            time.sleep(0.1)
            ran.append(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text())
            return ran[-1] == ran[-2] and state_of(pid) == "S"  # one that waits for a CPU has not run either

        until(waits)
        os.kill(pid, signal.SIGTERM)

    return send


@pytest.fixture(autouse=True)
def no_process_left_behind():
    """Whatever a test starts has ended when it ends; what wider fixtures started before it may stay."""
    before = _ours()
    yield
    runwide.shutdown()  # workers are kept for the next call
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    while (left := _left(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        # Named first, then removed, so that only the guilty test fails.
        left[pid] = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
        _kill(pid)
    assert not left, f"processes left behind: {left}"


@pytest.fixture(scope="session")
def engine():
    """A docker-py client of the engine that answers here."""
    import docker

    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except docker.errors.DockerException as error:
        reason = str(error)
    else:
        yield client
        client.close()
        return
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # docker-py leaves its socket open where nobody answers
        gc.collect()
    _missing(f"no Docker engine answers ({reason}); docker/ensure-engine starts one")


@pytest.fixture(scope="session")
def image(engine) -> str:
    """The tag of the image under test: ``RUNWIDE_IMAGE``, or what ``make image`` builds."""
    import docker

    tag = os.environ.get("RUNWIDE_IMAGE") or "runwide:dev"
    try:
        engine.images.get(tag)
    except docker.errors.ImageNotFound:
        _missing(f"there is no image {tag}; `make image` builds it")
    return tag


def _missing(reason: str) -> None:
    if os.environ.get("RUNWIDE_REQUIRE_DOCKER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _left(before: set[tuple[int, str]]) -> dict[int, str]:
    started = {pid for pid, _ in _ours() - before}
    return {pid: "" for pid in started if not any(name in _read(pid, "cmdline") for name in INTERPRETERS_OWN)}


def _ours() -> set[tuple[int, str]]:
    """Pid and start time of every living process that stems from this one."""
    parents, born, marked = {}, {}, set()
    mark = f"{MARK}={os.getpid()}\0".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or not (stat := _read(entry.name, "stat")):
            continue
        state, parent, *rest = stat.rpartition(b")")[2].decode().split()
        if state in "ZX" or int(rest[4]) & KERNEL_THREAD:
            continue
        pid = int(entry.name)
        parents[pid], born[pid] = int(parent), rest[17]
        if mark in _environment(pid) + b"\0":
            marked.add(pid)
    me = os.getpid()
    return {
        (pid, born[pid]) for pid in parents if pid != me and (pid in marked or _stems_from(me, pid, parents))
    }


def _environment(pid: int) -> bytes:
    """What the process was given; a process amid exec, which shows neither it nor a command, is waited for."""
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    while not (environment := _read(pid, "environ")) and time.monotonic() < deadline:
        if _read(pid, "cmdline"):
            return _read(pid, "environ")  # exec may have ended between the two
        if _read(pid, "stat").rpartition(b")")[2].split()[:1] in ([], [b"Z"], [b"X"]):
            break
        time.sleep(0.001)
    return environment


def _stems_from(ancestor: int, pid: int, parents: dict[int, int]) -> bool:
    while (pid := parents.get(pid, 0)) > 1:
        if pid == ancestor:
            return True
    return False


def _read(pid: int | str, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended meanwhile, or is not ours to read
        return b""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
