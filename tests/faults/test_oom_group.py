"""A container in which one OOM kill takes everything, and one in which it takes one process: real ones, of cgroup v2.

They are cgroups with namespaces of their own in a virtual machine, since the engine of this machine may have cgroup v1.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

where = Path(__file__).parents[1] / "unit" / "host" / "guest.py"
spec = importlib.util.spec_from_file_location("guest", where)
guest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guest)

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("guest")]

# Makes a container of each kind, runs a program in it, and tells how it ended and what the kernel counted.
CONTAINERS = """
import ctypes, json, os, subprocess
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
PROGRAMS = {programs!r}
(TOP / "cgroup.subtree_control").write_text("+memory")

def enter(place):
    (place / "cgroup.procs").write_text("0")
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x02000000 | 0x00020000) == 0  # CLONE_NEWCGROUP | CLONE_NEWNS
    assert libc.umount2(b"/sys/fs/cgroup", 2) == 0
    assert libc.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", 0, None) == 0

def contain(name, program, group, guard):
    place = TOP / name
    place.mkdir()
    (place / "memory.max").write_text(str({limit}))
    (place / "memory.oom.group").write_text(str(group))
    path = Path("/tmp", name + ".py")
    path.write_text(PROGRAMS[program])
    env = dict(os.environ, **({{"RUNWIDE_MEMORY_GUARD": guard}} if guard else {{}}))
    ended = subprocess.run(
        ["/bin/python", str(path)], env=env, preexec_fn=lambda: enter(place), capture_output=True, text=True
    )
    events = dict(line.split() for line in (place / "memory.events").read_text().splitlines())
    lines = ended.stdout.strip().splitlines()
    return {{
        "status": 128 - ended.returncode if ended.returncode < 0 else ended.returncode,
        "answer": json.loads(lines[-1]) if lines else None,
        "said": ended.stderr,
        "events": {{name: int(count) for name, count in events.items()}},
    }}

print(json.dumps({{name: contain(name, *how) for name, how in {containers!r}.items()}}))
"""

LIMIT = 320 << 20

PROGRAMS = {
    # One item takes all that there is; the others do not. It takes less than the guard keeps free in the 100 ms for which
    # a busy machine may stop one of the emulated CPUs.
    "greedy": """
import json, time
import runwide
from runwide.errors import WorkerOutOfMemory
from runwide.host import memory

def work(item):
    if item == 5:
        held = []
        while True:
            held.append(b"x" * (2 << 20))
            time.sleep(0.01)
    time.sleep(0.02)
    return item * item

with runwide.Pool(2) as pool:
    try:
        pool.map(work, range(12))
    except WorkerOutOfMemory as caught:
        error, ended = caught, caught.__cause__
    after = pool.map(work, [100, 101])
print(json.dumps({
    "kept": [value for value in ended.results if isinstance(value, int)],
    "failed": [[failure.index, failure.kind.value] for failure in ended.failures],
    "error": [error.item, error.attempts, error.exitcode, error.peak_rss >> 20, str(error)],
    "after": after,
    "counted": memory.oom_kills(),
    "kills_all": memory.read().kills_all,
}))
""",
    # Two items fit only one at a time, one ends by a SIGKILL that is not the kernel's, one takes all that there is.
    "crowded": """
import json, os, signal, time
import runwide
from pathlib import Path
from runwide.host import memory

def work(item):
    if item in (2, 3):
        Path(f"/tmp/large-{item}").touch()
        while not Path(f"/tmp/large-{5 - item}").exists():
            time.sleep(0.01)
        held = b"x" * (150 << 20)
        time.sleep(2)
        return len(held) >> 20
    if item == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    held = []
    while item == 7:
        held.append(b"x" * (2 << 20))
    time.sleep(0.02)
    return [item, os.getpid()]

def error_of(executor, item):
    error = executor.submit(work, item).exception()
    return [type(error).__name__, error.exitcode, error.attempts, str(error)]

with runwide.Executor(2) as executor:
    futures = [executor.submit(work, item) for item in range(6)]
    values = [future.result() for future in futures]
    counted = memory.oom_kills()
    later = list(executor.map(work, range(10, 20), chunksize=1))
    killed = error_of(executor, 6)
    counted_then = memory.oom_kills()
    greedy = error_of(executor, 7)
    after = executor.submit(abs, -1).result()
print(json.dumps({
    "large": values[2:4],
    "small": [value[0] for value in values[:2] + values[4:]],
    "later": [item for item, _ in later],
    "workers": len({pid for _, pid in later}),
    "killed": killed,
    "greedy": greedy,
    "after": after,
    "counted": [counted, counted_then, memory.oom_kills()],
    "kills_all": memory.read().kills_all,
}))
""",
}


def run(**containers):
    """The result of the program in each container, by name, ``memory.oom.group`` and ``RUNWIDE_MEMORY_GUARD``."""
    program = CONTAINERS.format(programs=PROGRAMS, containers=containers, limit=LIMIT)
    printed = guest.run(program, smp="2,sockets=1,cores=2,threads=1", packages=("cloudpickle", "loky"))
    return json.loads(printed.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def together():
    """Containers in which one OOM kill takes everything."""
    return run(guarded=("greedy", 1, None), unguarded=("greedy", 1, "never"))


@pytest.fixture(scope="module")
def apart():
    """A container in which one OOM kill takes one process."""
    return run(crowded=("crowded", 0, None))["crowded"]


def test_where_one_kill_takes_everything_the_greedy_task_alone_is_stopped(together):
    container = together["guarded"]
    assert container["status"] == 0, container["said"]
    answer = container["answer"]
    assert answer["kills_all"] is True
    assert answer["kept"] == [item * item for item in range(12) if item != 5]
    assert answer["failed"] == [[5, "out-of-memory"]]
    item, attempts, exitcode, peak, text = answer["error"]
    assert (item, attempts, exitcode) == (5, 2, -9)
    assert 100 < peak < LIMIT >> 20
    assert "killed for lack of memory" in text
    assert answer["after"] == [10_000, 10_201]
    # The guard was first, each time.
    assert container["events"]["oom_kill"] == container["events"]["oom_group_kill"] == answer["counted"] == 0


def test_without_the_guard_the_kernel_takes_everything(together):
    container = together["unguarded"]
    assert container["status"] == 137
    assert container["answer"] is None
    assert container["events"]["oom_group_kill"] == 1
    assert container["events"]["oom_kill"] >= 3  # the pool and both workers


@pytest.mark.slow
def test_where_one_kill_takes_one_process_the_victim_runs_again_alone_and_on_one_worker_less(apart):
    assert apart["status"] == 0, apart["said"]
    answer = apart["answer"]
    assert answer["kills_all"] is False
    assert answer["large"] == [150, 150]
    assert answer["small"] == [0, 1, 4, 5]
    assert answer["counted"][0] in (1, 2)  # a busy kernel may take both before the first is gone
    assert answer["later"] == list(range(10, 20))
    assert answer["workers"] == 1
    assert "pool.narrowed" in apart["said"]


@pytest.mark.slow
def test_the_kernels_kill_is_distinguished_from_another_sigkill(apart):
    answer = apart["answer"]
    kind, exitcode, attempts, text = answer["killed"]
    assert (kind, exitcode, attempts) == ("WorkerDied", -9, 2)
    assert "SIGKILL" in text
    kind, exitcode, attempts, text = answer["greedy"]
    assert (kind, exitcode, attempts) == ("WorkerOutOfMemory", -9, 2)
    assert "lack of memory" in text
    before, after_the_other, at_the_end = answer["counted"]
    assert after_the_other == before
    assert at_the_end == before + 2 == apart["events"]["oom_kill"]
    assert answer["after"] == 1
    assert apart["events"]["oom_group_kill"] == 0
