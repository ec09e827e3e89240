"""Results of a map on components come while it runs, on every engine, and nothing is left or lost when the loop is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runwide
from runwide.errors import Preempted, StepFailed, TooManyFailures
from runwide.job import status
from runwide.job.manifest import read_job
from runwide.records import Failure
from runwide_components import Components, Local

ITEMS = 6
LAST = ITEMS - 1


@pytest.fixture
def gate(tmp_path):
    """A folder in which a task waits for a file, and the function that waits."""
    folder = tmp_path / "gate"
    folder.mkdir()
    return folder


def waiting(folder, held):
    """A function that counts its calls in a folder, and ends for one item only once a file is there."""
    place = str(folder)

    def tenfold(item):
        import time
        from pathlib import Path

        (Path(place) / f"{item}-{time.time_ns()}").touch()
        deadline = time.monotonic() + 100
        while item == held and not (Path(place) / "open").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the other results were not taken")
            time.sleep(0.02)
        return item * 10

    return tenfold


def take(results, found):
    """Append results to a list one by one."""
    for result in results:
        found.append(result)


def calls(folder):
    return sorted(int(path.name.partition("-")[0]) for path in folder.iterdir() if path.name != "open")


@pytest.fixture(
    params=[
        "subprocess",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("vertex", marks=[pytest.mark.gcs, pytest.mark.xdist_group("vertex")]),
        "kubeflow",
    ]
)
def place(request, tmp_path, monkeypatch, gate, gcs_server):
    """Two components on each engine in turn; the server is named here so that it starts before the test does."""
    kind, store = request.param, str(tmp_path / "store")
    if kind == "docker":
        monkeypatch.setenv("RUNWIDE_IMAGE", request.getfixturevalue("image_of_this_python"))
    if kind == "vertex":
        store = f"{request.getfixturevalue('gcs')}/jobs"
        monkeypatch.setattr("runwide_components.streaming._LOOKS", (0.1, 0.5))
    local = kind in ("subprocess", "docker")
    engine = Local(kind, mounts=(gate,)) if local else request.getfixturevalue(kind)()
    return Components(2, store=store, engine=engine, progress=False)


def test_results_come_in_order_while_the_run_goes_on_and_events_tell_of_each_task(place, gate):
    """The last task ends only when all other results were taken here."""
    events = []
    results = place.stream(waiting(gate, LAST), range(ITEMS), ordered=True, on_event=events.append, workers=1)
    assert [next(results) for _ in range(LAST)] == [item * 10 for item in range(LAST)]
    assert not all(shard.finished for shard in status(results.job).shards)
    (gate / "open").touch()
    assert list(results) == [LAST * 10]
    assert all(shard.finished for shard in status(results.job).shards)
    assert calls(gate) == list(range(ITEMS))
    assert sorted((event.name, event.index, event.attempt) for event in events) == [
        ("task.ended", item, 1) for item in range(ITEMS)
    ]
    assert all(event.pid and event.started and event.seconds > 0 for event in events)


@pytest.fixture
def near(tmp_path):
    return Components(2, store=str(tmp_path / "store"), engine=Local("subprocess"), progress=False)


def test_leaving_the_loop_cancels_the_run(near, gate):
    tenfold, mine = waiting(gate, LAST), os.getpid()

    def told(item):
        Path(f"{place}/pid-{os.getppid()}").touch()
        return tenfold(item)

    place = str(gate)
    for value in near.stream(told, range(ITEMS), ordered=False, workers=1):
        assert value % 10 == 0
        break
    parents = [int(path.name.removeprefix("pid-")) for path in gate.glob("pid-*")]
    assert parents
    assert mine not in parents
    deadline = time.monotonic() + 60
    while left := [pid for pid in parents if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_the_exception_of_an_item_is_that_of_one_container_when_its_turn_comes(near):
    def fail_at_two(item):
        if item == 2:
            raise KeyError(f"no {item}")
        return item

    def taken(results):
        found = []
        with pytest.raises(KeyError, match="no 2") as caught:
            take(results, found)
        return found, caught.value.args, type(caught.value.__cause__), str(caught.value.__cause__)[:40]

    here = taken(runwide.imap(fail_at_two, range(4)))
    assert here[0] == [0, 1]
    assert taken(near.stream(fail_at_two, range(4), ordered=True)) == here
    returned = list(near.stream(fail_at_two, range(4), ordered=True, on_error="return"))
    assert [one for one in returned if not isinstance(one, Failure)] == [0, 1, 3]
    assert returned[2].index == 2


def test_a_component_that_dies_is_an_error_after_the_results_or_failures_instead_of_some(near, tmp_path):
    def die_at_five(item):
        if item == LAST:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return item

    found = []
    with pytest.raises(StepFailed, match="failed with exit code -9") as caught:
        take(near.stream(die_at_five, range(ITEMS), ordered=False, workers=1), found)
    assert "runwide wait" in caught.value.hint
    assert set(found) <= set(range(LAST))
    (unfinished,) = [shard.index for shard in status(caught.value.uri).shards if not shard.finished]
    assert unfinished in (0, 1)
    stream = near.stream(die_at_five, range(ITEMS), ordered=True, workers=1, on_error="return")
    found = list(stream)
    assert len(found) == ITEMS
    assert isinstance(found[LAST], Failure)
    job = read_job(stream.job)
    others = [item for item in range(ITEMS) if job.shard_of(item) != job.shard_of(LAST)]
    assert [found[item] for item in others] == others


def test_a_map_tells_its_events_here_once_each_and_not_those_of_an_earlier_call(near, gate, capsys):
    place, events = str(gate), []

    def fails_once(item):
        if item == 2 and not Path(f"{place}/tried").exists():
            Path(f"{place}/tried").touch()
            raise ValueError("the first time")
        return 1 / item

    def heard(event):
        events.append((event.name, event.index, event.attempt, event.kind and event.kind.value))
        assert event.pid
        assert event.worker == 0
        raise RuntimeError("a listener that fails disturbs no other code")

    options = {
        "on": near,
        "workers": 1,
        "retries": 1,
        "name": "events",
        "on_error": "return",
        "progress": False,
    }
    results = runwide.map(fails_once, range(4), on_event=heard, **options)
    assert results[1:] == [1.0, 0.5, 1 / 3]
    assert sorted(events) == [
        ("task.ended", 1, 1, None),
        ("task.ended", 2, 2, None),
        ("task.ended", 3, 1, None),
        ("task.failed", 0, 2, "exception"),
        ("task.retried", 0, 1, "exception"),
        ("task.retried", 2, 1, "exception"),
    ]
    events.clear()
    del options["on"]
    options["progress"] = True
    results = list(near.stream(fails_once, range(4), ordered=True, on_event=heard, **options))
    assert "4/4" in capsys.readouterr().err
    assert results[1:] == [1.0, 0.5, 1 / 3]
    assert sorted(events) == [("task.failed", 0, 2, "exception"), ("task.retried", 0, 1, "exception")]


CLIENT = """
import sys
from runwide_components import Components, Local
sys.path.insert(0, {tests!r})
from test_streams import waiting

if __name__ == "__main__":
    place = Components(2, store={store!r}, engine=Local("subprocess"), progress=False)
    for value in place.stream(waiting({gate!r}, 5), range(6), ordered=False, name="tenfold", workers=1):
        print(value, flush=True)
"""


def test_a_client_that_was_killed_gets_the_missing_results_when_it_starts_again(tmp_path, gate):
    program = tmp_path / "client.py"
    tests = str(Path(__file__).parent)
    program.write_text(CLIENT.format(tests=tests, store=str(tmp_path / "store"), gate=str(gate)))
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as client:
        first = [int(client.stdout.readline()) for _ in range(3)]
        client.kill()
    (gate / "open").touch()
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=True, timeout=120
    )
    assert sorted(map(int, done.stdout.split())) == [0, 10, 20, 30, 40, 50]
    ran = calls(gate)
    assert [ran.count(value // 10) for value in first] == [1, 1, 1]


def test_an_async_loop_that_is_cancelled_ends_the_run(near, gate):
    found = []

    async def take_all():
        async for value in runwide.aimap(
            waiting(gate, LAST), range(ITEMS), on=near, ordered=False, workers=1
        ):
            found.append(value)
            taken.set()

    async def cancelled():
        task = asyncio.create_task(take_all())
        await asyncio.wait_for(taken.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    taken = asyncio.Event()
    asyncio.run(cancelled())
    assert LAST * 10 not in found
    (folder,) = (path.parent for path in Path(near.store).glob("*/job.json"))
    assert not (
        set(folder.glob("shards/*/shard.json")) >= {folder / f"shards/000{n}/shard.json" for n in (0, 1)}
    )


@pytest.mark.parametrize("ends", [KeyboardInterrupt, Preempted])
def test_a_signal_ends_the_run(near, gate, ends):
    number = signal.SIGINT if ends is KeyboardInterrupt else signal.SIGTERM
    results = near.stream(waiting(gate, LAST), range(ITEMS), ordered=False, workers=1)

    def interrupted():
        for _ in results:
            os.kill(os.getpid(), number)
            time.sleep(60)  # where the signal is handled

    with pytest.raises(ends):
        interrupted()
    results.close()
    assert not all(shard.finished for shard in status(results.job).shards)
    assert next(results, None) is None


def test_more_failures_than_are_accepted_end_the_run(near):
    def fail(item):
        raise ValueError(item)

    found = []
    options = {"max_failures": 1, "on_error": "return", "progress": False, "workers": 1}
    with pytest.raises(TooManyFailures, match=r"stopped after \d failed items"):
        take(runwide.imap(fail, range(ITEMS), on=near, **options), found)
    assert len(found) <= 2


PROGRAM = """
import asyncio
import sys
from pathlib import Path

import runwide
from helpers import cube
from runwide_components import Components, Local

GATE = Path(sys.argv[2])


def held(number):
    import time

    deadline = time.monotonic() + 100
    while not (GATE / "open").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return number


async def awaited(executor):
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(executor, cube, n) for n in range(3)))


if __name__ == "__main__":
    place = Components(2, store=sys.argv[1], engine=Local("subprocess"), progress=False)
    with runwide.Executor(1, on=place) as executor:
        factor = 10
        scaled = executor.submit(lambda x, *, y: x * y * factor, 1, y=3)
        futures = [executor.submit(cube, 2), scaled, executor.submit(held, 7)]
        print(futures[0].result(), futures[1].result(), futures[2].done())
        (GATE / "open").touch()
        print(futures[2].result(), asyncio.run(awaited(executor)))
    with runwide.Pool(1, on=place) as pool:
        print(pool.starmap(pow, [(2, 3), (3, 2)]))
"""


def test_an_executor_and_a_pool_on_components_take_the_programs_own_code_along(tmp_path, gate):
    """In an empty folder, with an empty environment; futures have results while the run goes on."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "helpers.py").write_text("def cube(number):\n    return number**3\n")
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", str(tmp_path / "store"), str(gate)]
    done = subprocess.run(
        command, cwd=folder, env={}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["8 30 False", "7 [0, 1, 8]", "[8, 9]"]
    assert len(list((tmp_path / "store").glob("*/job.json"))) == 3
