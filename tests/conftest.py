"""Fixtures of all tests: the engine, the image, and the check that no process outlives its test."""

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

# All processes that a test starts inherit it, so that they are found even if their parent has ended.
MARK = "RUNWIDE_TESTS_PID"
os.environ[MARK] = str(os.getpid())

# These serve the whole interpreter, and end with it.
INTERPRETERS_OWN = (b"resource_tracker", b"multiprocessing.forkserver")
SECONDS_TO_LEAVE = 30.0
SECONDS_TO_HAPPEN = 60.0  # on a busy machine
KERNEL_THREAD = 0x00200000  # PF_KTHREAD, in the flags of /proc/[pid]/stat


def pytest_itemcollected(item):
    """Put tests that kill or starve processes, and tests that start containers, on one xdist worker each.

    When all tests are collected it is too late: xdist has read the marks.
    """
    for kind in ("docker", "faults"):
        if item.get_closest_marker(kind) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(kind))


@pytest.fixture
def descriptors():
    """Count the open files of this process by name.

    Compare two counts to find new ones: files that an earlier test left open may be closed at any time.
    """

    def count():
        found = Counter()
        for one in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
                found[str(one.readlink())] += 1
        return found

    return count


@pytest.fixture
def until():
    """Wait until a condition holds."""

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
    """Return a closed gate."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def sigterm(until):
    """Send SIGTERM to a program as soon as it waits in a call without a time limit.

    A signal between Python's last check for signals and such a wait is handled only when the wait ends.
    """
    from processes import state_of

    def send(pid):
        ran = [""]

        def waits():
            time.sleep(0.1)
            ran.append(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text())
            # a process that waits for a CPU has not run either
            return ran[-1] == ran[-2] and state_of(pid) == "S"

        until(waits)
        os.kill(pid, signal.SIGTERM)

    return send


@pytest.fixture(autouse=True)
def no_process_left_behind():
    """Fail a test whose processes outlive it; processes that wider fixtures have started before may stay."""
    before = _ours()
    yield
    runwide.shutdown()  # workers are kept for the next call
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    while (left := _left(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        # Its command is read before it is killed; it is killed so that no later test fails.
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
        # docker-py leaves its socket open if no engine answers.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    _missing(f"no Docker engine answers ({reason}); docker/ensure-engine starts one")


@pytest.fixture(scope="session")
def image(engine) -> str:
    """Return the tag of the image under test: ``RUNWIDE_IMAGE``, or the one that ``make image`` builds."""
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
    """Return pid and start time of every living descendant of this process."""
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
    """Return the environment with which a process was started; wait while it is in exec and shows none."""
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
    except OSError:  # it has ended, or we may not read it
        return b""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
