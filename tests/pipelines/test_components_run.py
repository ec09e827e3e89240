"""`Components` as the place of a map: the same results as here, and nothing lost when something fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from random import Random

import pytest

import runwide
from runwide.errors import (
    EngineError,
    FunctionNotPicklable,
    InputError,
    ItemNotPicklable,
    NoItems,
    StepFailed,
)
from runwide.job import status
from runwide.job.manifest import read_job
from runwide_components import Components, Local


@pytest.fixture
def place(local, tmp_path):
    """Components of each kind of local engine."""

    def make(count: int, *, mounts=(), **options) -> Components:
        return Components(count, store=str(tmp_path / "store"), engine=local(mounts=mounts), **options)

    return make


def test_results_are_those_of_the_plain_loop_byte_for_byte(place):
    def estimate(seed):
        rng = Random(seed)
        return {
            "seed": seed,
            "mean": sum(rng.gauss(0, 1) for _ in range(1000)) / 1000,
            "draws": rng.choices("abc", k=5),
        }

    seeds = [f"seed {n}" for n in range(40)]
    ways = {
        "loop": [estimate(seed) for seed in seeds],
        "cores": runwide.map(estimate, seeds),
        "components": runwide.map(estimate, seeds, on=place(4)),
    }
    digests = {
        name: hashlib.sha256(json.dumps(results).encode()).hexdigest() for name, results in ways.items()
    }
    assert len(set(digests.values())) == 1, digests


def test_all_components_run_at_the_same_time(place, meet):
    together = meet(4)
    results = runwide.map(together, range(4), on=place(4, mounts=(meet.folder,)))
    assert results == [0, 1, 2, 3]
    assert results.report().metrics["results"] == 4  # it tells what happened, as on the pool


def test_the_exception_of_an_item_comes_back_as_itself(place):
    def fail_at_three(x):
        if x == 3:
            raise KeyError(f"no {x}")
        return x

    with pytest.raises(KeyError, match="no 3") as caught:
        runwide.map(fail_at_three, range(6), on=place(2))
    (failure,) = caught.value.__cause__.failures
    assert failure.index == 3
    assert "fail_at_three" in failure.traceback


def test_options_of_the_map_reach_the_components(place, tmp_path):
    tries = tmp_path / "tries"
    tries.mkdir()
    folder = str(tries)

    def fail_once(x):
        mark = Path(folder) / str(x)
        if not mark.exists():
            mark.touch()
            raise ValueError("the first time")
        return x

    assert runwide.map(fail_once, range(4), on=place(2, mounts=(tries,)), retries=1) == [0, 1, 2, 3]


def test_a_component_shares_the_cores_of_this_machine_with_the_others(place):
    def workers(_):
        import os

        return int(os.environ["RUNWIDE_WORKERS"])

    assert set(runwide.map(workers, range(4), on=place(2))) == {max(1, runwide.cores().count // 2)}


def test_a_dead_component_is_named_and_nothing_that_finished_is_lost(tmp_path):
    folder = str(tmp_path)

    def die_once_at_four(x):
        mark = Path(folder) / "died"
        if x == 4 and not mark.exists():
            mark.touch()
            time.sleep(1)  # so that the others of this shard are stored
            os.kill(os.getppid(), signal.SIGKILL)
        return x * x

    place = Components(3, store=str(tmp_path / "store"), engine=Local("subprocess"))
    with pytest.raises(StepFailed, match=r"^shard \d failed with exit code -9") as caught:
        runwide.map(die_once_at_four, range(6), on=place)
    error = caught.value
    lost = read_job(error.uri).shard_of(4)
    assert (error.step, error.exitcode) == (f"shard {lost}", -9)
    assert f"runwide wait '{error.uri}'" in error.hint
    assert [shard.index for shard in status(error.uri).shards if not shard.finished] == [lost]
    runwide.shard(error.uri, lost, workers=1)
    assert runwide.gather(error.uri) == [0, 1, 4, 9, 16, 25]


class NotInstalledThere:
    """Represents an object of a package that the image does not have."""

    def __reduce__(self):
        return __import__, ("no_such_package",)


def test_an_error_carries_the_end_of_the_log_of_its_step(place):
    thing = NotInstalledThere()
    with pytest.raises(
        StepFailed, match=r"EnvironmentMismatch: the function .* cannot be loaded here"
    ) as caught:
        runwide.map(lambda x: (x, thing), [1, 2], on=place(2))
    assert "No module named 'no_such_package'" in caught.value.log
    assert "(and 1 other steps)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interrupted_map_stops_its_components_and_keeps_the_job(place, tmp_path, interrupted_once):
    busy = tmp_path / "busy"
    busy.mkdir()
    folder = str(busy)

    def be_busy(x):
        (Path(folder) / str(x)).touch()
        time.sleep(120)

    began = []

    def has_begun():
        if list(busy.iterdir()):
            began.append(time.monotonic())
        return began

    with pytest.raises(KeyboardInterrupt), interrupted_once(has_begun):
        runwide.map(be_busy, range(2), on=place(2, mounts=(busy,)))
    assert time.monotonic() - began[0] < 60
    assert list((tmp_path / "store").glob("*/job.json"))


@pytest.mark.gcs
def test_components_share_a_store_in_a_bucket(local, gcs):
    place = Components(2, store=gcs, engine=local())
    assert runwide.map(lambda x: x + 1, range(5), on=place) == [1, 2, 3, 4, 5]


@pytest.mark.docker
def test_an_image_that_is_not_there_is_named(engine, tmp_path):
    place = Components(2, store=str(tmp_path), engine=Local("docker"), image="localhost:1/no/such:image")
    with pytest.raises(
        StepFailed, match="exit code 125: cannot start a container of localhost:1/no/such:image"
    ):
        runwide.map(lambda x: x, [1, 2], on=place)
    with pytest.raises(EngineError, match=re.escape("does not have this image [localhost:1/no/such:image]")):
        Local("docker").check("localhost:1/no/such:image")


@pytest.mark.docker
def test_an_interrupted_map_leaves_no_container(engine, image_of_this_python, tmp_path, interrupted_once):
    place = Components(2, store=str(tmp_path), engine=Local("docker"), image=image_of_this_python)

    def listed():
        # one request: the client's own list inspects each, and fails when one is removed in between
        return {found["Id"] for found in engine.api.containers(all=True, filters={"label": "runwide.run"})}

    before = listed()  # of runs that were killed

    def containers():
        return listed() - before

    with pytest.raises(KeyboardInterrupt), interrupted_once(containers):
        runwide.map(lambda x: time.sleep(120), range(2), on=place)
    assert not containers()


@pytest.mark.parametrize(
    ("items", "function", "error"),
    [
        ([], abs, NoItems),
        ([1], threading.Lock().acquire, FunctionNotPicklable),
        ([1, threading.Lock()], abs, ItemNotPicklable),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tmp_path, items, function, error):
    place = Components(2, store=str(tmp_path), engine=Local("subprocess"))
    with pytest.raises(error):
        runwide.map(function, items, on=place)


def test_a_place_needs_a_number_and_a_store(monkeypatch):
    monkeypatch.delenv("RUNWIDE_STORE", raising=False)
    with pytest.raises(InputError, match="components=0"):
        Components(0, store="x")
    with pytest.raises(InputError, match="there is no store"):
        Components(2)
    monkeypatch.setenv("RUNWIDE_STORE", "gs://bucket/runs")
    assert Components(2).store == "gs://bucket/runs"


@pytest.mark.parametrize("local", ["subprocess"], indirect=True)
@pytest.mark.parametrize("gone", ["chunks/000000.pack", "shard.json"])
def test_results_that_were_removed_are_computed_by_the_same_call_and_by_attach(place, tmp_path, gone):
    components = place(2)
    call = lambda: runwide.map(abs, [-1, -2, -3, -4], on=components, name="absolute")
    assert call() == [1, 2, 3, 4]
    (folder,) = (path.parent for path in (tmp_path / "store").glob("*/job.json"))
    (folder / "shards/0001" / gone).unlink()
    assert call() == [1, 2, 3, 4]
    last = max((folder / "shards/0001").glob("chunks/*.pack"))
    last.unlink()
    job = f"{folder}/job.json#sha256={hashlib.sha256((folder / 'job.json').read_bytes()).hexdigest()}"
    assert runwide.attach(job, timeout=60) == [1, 2, 3, 4]
