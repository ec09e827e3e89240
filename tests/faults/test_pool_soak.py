"""Long runs whose workers are killed again and again lose nothing and leave nothing."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

import pytest
from processes import is_alive

import runwide
from runwide.pool import outcomes
from runwide.pool.process import children

pytestmark = pytest.mark.faults

GROWTH_BYTES = 16 << 20
"""What the parent may grow by between the first third of a run and the last; kept outcomes of 200,000 tasks need more."""


TASKS_A_KILL = 100
"""Number of tasks between two kills on a quiet machine; if the machine is too busy to start workers, kills wait."""


def task(x: int) -> object:
    time.sleep(0.0005)
    return payload(x) if x % 100 == 7 else x


def payload(x: int) -> bytes:
    """More than a message takes, so that files travel as well."""
    return x.to_bytes(8, "little") * 8192


class Killer(threading.Thread):
    """Sends SIGKILL to a random worker of this process, again and again, as the kernel or an operator might.

    Args:
        mean: Seconds between two kills, on average; they are exponentially distributed.
        seed: Of the choice of workers and moments.
    """

    def __init__(self, mean: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._mean = mean
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self.kills = 0
        self.done = 0  # tasks, as counted by the test

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(self._random.expovariate(1 / self._mean)):
            if self.done < TASKS_A_KILL * self.kills:
                continue
            workers = [pid for pid in children(os.getpid()) if _is_worker(pid)]
            if workers and _killed(self._random.choice(workers)):
                self.kills += 1


def _killed(pid: int) -> bool:
    """Kill a worker that still is one: its number may have been given to another process since it was looked up."""
    try:
        process = os.pidfd_open(pid)
    except OSError:  # it has ended meanwhile, or been reaped
        return False
    try:
        if pid not in children(os.getpid()) or not _is_worker(pid):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def _is_worker(pid: int) -> bool:
    # An interpreter that has not come up as a worker yet has no task to lose, and no name.
    return _comm(pid).startswith("runwide-w") and is_alive(pid)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _files() -> set[str]:
    """Return the files of this process in shared memory and on the scratch disk."""
    mark = str(os.getpid())
    return {
        str(path)
        for root in {"/dev/shm", tempfile.gettempdir()}
        for path in Path(root).iterdir()
        if mark in path.name.split("-")
    }


@pytest.mark.parametrize(
    ("number", "mean"), [(20_000, 0.3), pytest.param(200_000, 0.1, marks=pytest.mark.slow)]
)
def test_random_kills_lose_nothing_and_leave_nothing(number, mean, descriptors):
    faulthandler.dump_traceback_later(3600, exit=True)  # a long run is no hang
    runwide.map(
        abs, range(4), workers=2
    )  # objects that the interpreter keeps permanently exist before the count
    runwide.shutdown()
    files, opened, threads = _files(), descriptors(), set(threading.enumerate())
    times_seen, memory = bytearray(number), []
    started = time.monotonic()
    with Killer(mean, seed=number) as killer:
        for count, outcome in enumerate(outcomes(task, range(number), workers=2, max_crashes=1000)):
            expected = payload(outcome.index) if outcome.index % 100 == 7 else outcome.index
            assert outcome.failure is None
            assert outcome.value == expected
            times_seen[outcome.index] += 1
            killer.done = count
            if count % 500 == 0:
                memory.append(_rss())
    seconds = time.monotonic() - started
    runwide.shutdown()
    growth = statistics.median(memory[-(len(memory) // 3) :]) - statistics.median(memory[: len(memory) // 3])
    print(f"{number} tasks, {killer.kills} kills, {seconds:.1f} s, memory {growth / 1e6:+.1f} MB")
    # A run without kills would show nothing. How many there are depends on how fast workers start beside other work.
    assert killer.kills >= number // 2_000
    assert times_seen == bytes([1]) * number
    assert growth < GROWTH_BYTES
    assert not [pid for pid in children(os.getpid()) if _comm(pid).startswith("runwide-")]
    assert not _files() - files
    assert not descriptors() - opened
    assert not set(threading.enumerate()) - threads


def test_workers_that_are_killed_while_they_start_are_started_again(tmp_path):
    def be_killed_early():
        if len(list(tmp_path.iterdir())) < 6:
            (tmp_path / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    assert runwide.map(abs, range(10), workers=2, initializer=be_killed_early) == list(range(10))
    assert len(list(tmp_path.iterdir())) >= 6
