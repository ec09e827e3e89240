"""Components that fail, one among many: they start again, keep stored results, and are reported.

No annotations as strings here: kfp takes those of a pipeline as objects.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from kfp import dsl

import runwide
from runwide.errors import EngineError, StepFailed
from runwide.job import rerun, status
from runwide.job.manifest import found_job, read_job
from runwide.options.record import RunOptions
from runwide.records import Failure
from runwide_components import Components, Local, fan_out

pytestmark = pytest.mark.faults


def deadly(folder: Path, guilty: int, deaths: int):
    """A function that counts its calls, and kills the process of its shard at one item, so many times."""
    place = str(folder)

    def work(x):
        here = Path(place)
        (here / f"ran-{x}-{time.monotonic_ns()}").touch()
        if x == guilty and len(list(here.glob("died-*"))) < deaths:
            (here / f"died-{time.monotonic_ns()}").touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return x * x

    return work


def killing_its_step(folder: Path):
    """A function that kills the step itself at item 1, not only the process below it: no process is left to record that."""
    place = str(folder)

    def kill_step(x):
        if x == 1:
            step = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
            (Path(place) / "died").touch()
            os.kill(step, signal.SIGKILL)
            time.sleep(60)
        return x * x

    return kill_step


def only_job(folder: Path):
    """The only job in a store."""
    (place,) = folder.glob("*/job.json")
    return found_job(str(place))


def squares_and_one_gap(results: list, guilty: int, count: int) -> Failure:
    assert len(results) == count
    gap = results[guilty]
    assert isinstance(gap, Failure)
    assert [one for one in results if one is not gap] == [x * x for x in range(count) if x != guilty]
    return gap


@pytest.mark.parametrize("components", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_one_component_of_many_that_fails_permanently_leaves_the_others_and_a_typed_gap(components, tmp_path):
    store = str(tmp_path / "store")
    work = deadly(tmp_path, guilty=7, deaths=99)

    @dsl.pipeline(name="all-but-one")
    def all_but_one() -> str:
        items = list(range(components))
        return fan_out(work, items, components=components, store=store, on_error="return", workers=1).output

    result = Local("subprocess").run(all_but_one)["Output"]
    gap = squares_and_one_gap(runwide.load(result, on_error="return"), 7, components)
    shard = only_job(tmp_path / "store").shard_of(7)
    assert str(gap) == f"item 7: StepFailed: shard {shard} ended with signal 9, 2 times"
    assert isinstance(gap.exception, StepFailed)
    with pytest.raises(StepFailed) as caught:
        runwide.load(result)
    assert [failure.index for failure in caught.value.__cause__.failures] == [7]


def test_a_pipeline_may_go_on_without_some_components_but_not_without_more(tmp_path):
    work = deadly(tmp_path, guilty=2, deaths=99)

    def pipeline(share: float):
        @dsl.pipeline(name="enough")
        def enough(store: str) -> str:
            return fan_out(
                work, list(range(4)), components=4, store=store, min_success=share, workers=1
            ).output

        return enough

    engine = Local("subprocess")
    result = engine.run(pipeline(0.75), store=str(tmp_path / "store"))["Output"]
    squares_and_one_gap(runwide.load(result, on_error="return"), 2, 4)
    with pytest.raises(
        StepFailed, match=r"1 of 4 items failed: item 2: StepFailed: shard \d ended with signal 9"
    ):
        engine.run(pipeline(0.8), store=str(tmp_path / "store"))


def test_without_tolerance_the_error_names_the_job_and_how_to_go_on(tmp_path):
    @dsl.pipeline(name="strict")
    def strict(store: str) -> str:
        work = deadly(tmp_path, guilty=1, deaths=2)
        return fan_out(work, [0, 1], components=2, store=store, workers=1, shard_retries=1).output

    with pytest.raises(
        StepFailed, match=r"^shard \d failed with exit code -9 \[\S+#sha256=\w+\]; finished work"
    ) as caught:
        Local("subprocess").run(strict, store=str(tmp_path / "store"))
    job = caught.value.uri
    lost = read_job(job).shard_of(1)
    assert caught.value.step == f"shard {lost}"
    assert [shard.index for shard in status(job).shards if not shard.finished] == [lost]
    assert runwide.gather(job, rerun(job, workers=1)) == [0, 1]


def test_a_step_that_was_started_again_and_went_well_is_not_blamed(tmp_path):
    @dsl.pipeline(name="blamed")
    def blamed(store: str) -> str:
        work = deadly(tmp_path, guilty=1, deaths=1)
        fails = lambda x: work(x) if x else 1 / 0
        return fan_out(fails, [0, 1], components=2, store=store, workers=1, shard_retries=1).output

    with pytest.raises(StepFailed, match=r"^gather failed with exit code 1: .*item 0: ZeroDivisionError"):
        Local("subprocess").run(blamed, store=str(tmp_path / "store"))
    assert len(list(tmp_path.glob("died-*"))) == 1


def test_a_map_over_components_has_the_gap_too(tmp_path):
    place = Components(4, store=str(tmp_path / "store"), engine=Local("subprocess"), progress=False)
    results = runwide.map(
        deadly(tmp_path, guilty=3, deaths=99), range(4), on=place, on_error="return", workers=1
    )
    gap = squares_and_one_gap(results, 3, 4)
    assert f"shard {only_job(tmp_path / 'store').shard_of(3)} ended with signal 9" in str(gap)


def test_a_named_map_called_again_runs_what_failed_and_nothing_else(tmp_path):
    place = Components(4, store=str(tmp_path / "store"), engine=Local("subprocess"), progress=False)
    work = deadly(tmp_path, guilty=3, deaths=2)

    def run(**options):
        return runwide.map(work, range(8), on=place, name="squares", workers=1, **options)

    results = run(on_error="return")
    failed = sum(isinstance(one, Failure) for one in results)
    assert failed in (1, 2), results  # its neighbour may have been stored, or not
    job = only_job(tmp_path / "store")
    before = {x: len(list(tmp_path.glob(f"ran-{x}-*"))) for x in range(8)}
    assert run() == [x * x for x in range(8)]
    ran_again = [x for x in range(8) if len(list(tmp_path.glob(f"ran-{x}-*"))) > before[x]]
    assert 3 in ran_again
    assert set(ran_again) <= set(job.items_of(job.shard_of(3)))
    assert run() == [x * x for x in range(8)]  # nothing is left to run
    assert len(list((tmp_path / "store").glob("*/runs/*.json"))) == 2


def test_a_failure_that_a_shard_had_stored_when_it_was_killed_is_run_again_by_a_named_map(tmp_path):
    place = Components(2, store=str(tmp_path / "store"), engine=Local("subprocess"), progress=False)
    mended = str(tmp_path / "mended")

    def work(x):
        return x if x != 1 or Path(mended).exists() else 1 / 0

    def run(**options):
        return runwide.map(work, range(4), on=place, name="mended", workers=1, **options)

    assert isinstance(run(on_error="return")[1], Failure)
    shard = only_job(tmp_path / "store").shard_of(1)
    (manifest,) = (tmp_path / "store").glob(f"*/shards/{shard:04d}/shard.json")
    manifest.unlink()  # killed before it wrote that, and after its chunks
    Path(mended).touch()
    assert run() == [0, 1, 2, 3]


def test_a_component_is_started_again_as_often_as_asked(tmp_path):
    place = Components(
        2, store=str(tmp_path / "store"), engine=Local("subprocess"), shard_retries=1, progress=False
    )
    assert runwide.map(deadly(tmp_path, guilty=3, deaths=1), range(4), on=place, workers=1) == [0, 1, 4, 9]
    assert len(list(tmp_path.glob("died-*"))) == 1


@pytest.mark.docker
def test_a_container_that_is_killed_is_started_again_and_goes_on_where_it_was(
    engine, image_of_this_python, tmp_path, until
):
    import docker

    place = str(tmp_path)

    def slow(x):
        (Path(place) / f"ran-{x}-{time.monotonic_ns()}").touch()
        if x == 5:
            deadline = time.monotonic() + 120
            while not (Path(place) / "killed").exists():
                if time.monotonic() > deadline:
                    raise TimeoutError("the test has not killed it")
                time.sleep(0.05)
        return x * x

    def kill_one():
        until(lambda: list(tmp_path.glob("store/*/job.json")))
        shard = only_job(tmp_path / "store").shard_of(5)
        until(lambda: list(tmp_path.glob(f"store/*/shards/{shard:04d}/chunks/*.pack")))
        for about in engine.api.containers(filters={"label": "runwide.run"}):
            with suppress(docker.errors.NotFound):  # the other one may end meanwhile
                words = engine.api.inspect_container(about["Id"])["Config"]["Cmd"]
                if words[:2] == ["runwide", "shard"] and words[3] == str(shard):
                    engine.api.kill(about["Id"])
        (tmp_path / "killed").touch()

    killer = threading.Thread(target=kill_one)
    killer.start()
    components = Components(
        2, store=str(tmp_path / "store"), image=image_of_this_python, shard_retries=1, progress=False,
        engine=Local("docker", mounts=[tmp_path]),
    )  # fmt: skip
    try:
        assert runwide.map(slow, range(6), on=components, workers=1) == [x * x for x in range(6)]
    finally:
        killer.join()
    assert (tmp_path / "killed").exists()
    assert [len(list(tmp_path.glob(f"ran-{x}-*"))) for x in range(6)] == [1, 1, 1, 1, 1, 2]


@pytest.mark.docker
@pytest.mark.parametrize("components", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_many_components_run_in_containers_of_the_image(
    components, image_of_this_python, monkeypatch, tmp_path
):
    monkeypatch.setenv("RUNWIDE_IMAGE", image_of_this_python)

    @dsl.pipeline(name="many")
    def many(numbers: list, store: str) -> str:
        return fan_out(lambda x: x * x, numbers, components=components, store=store).output

    outputs = Local("docker").run(many, numbers=list(range(100)), store=str(tmp_path / "store"))
    assert runwide.load(outputs["Output"]) == [x * x for x in range(100)]
    assert len(list((tmp_path / "store").glob("*/shards/*/shard.json"))) == components


def test_a_shard_that_an_engine_lost_is_a_gap_of_a_map_or_its_error(tmp_path):
    place = Components(3, store=str(tmp_path / "store"), engine=Local("subprocess"), progress=False)
    results = runwide.map(killing_its_step(tmp_path), range(3), on=place, on_error="return", workers=1)
    gap = squares_and_one_gap(results, 1, 3)
    lost = f"shard {only_job(tmp_path / 'store').shard_of(1)}"
    assert f"{lost} failed with exit code -9" in str(gap)
    assert (gap.exception.step, gap.exception.exitcode) == (lost, -9)


def test_an_attached_job_has_the_gap_as_well(tmp_path):
    place = Components(2, store=str(tmp_path / "store"), engine=Local("subprocess"), progress=False)
    job, run = place.submit(killing_its_step(tmp_path), [0, 1], on_error="return", workers=1)
    run.leave()  # as if the client had been killed
    results = runwide.attach(job, on_error="return", timeout=60)
    lost = read_job(job).shard_of(1)
    assert f"shard {lost} failed with exit code -9" in str(squares_and_one_gap(results, 1, 2))


def test_a_cancelled_map_has_no_gaps(tmp_path, until):
    place = Components(1, store=str(tmp_path / "store"), engine=Local("subprocess"), progress=False)
    folder = str(tmp_path)

    def wait(x):
        (Path(folder) / "busy").touch()
        time.sleep(60)

    def cancel():
        until((tmp_path / "busy").exists)
        submitted.run.cancel()

    options = RunOptions()
    submitted = place.submitted(wait, [1], options, name=None, reuse=None, on_error="return")
    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(EngineError, match="cancelled"):
        place.manifests(submitted, options, "return")
    thread.join()
