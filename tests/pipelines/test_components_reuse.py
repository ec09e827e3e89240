"""A function that has changed under the name of a job on components: an error, or what `reuse=` says."""

from __future__ import annotations

from pathlib import Path

import pytest

import runwide
from runwide.errors import FunctionChanged, InputError
from runwide.job import status
from runwide.job.manifest import read_job
from runwide_components import Components, Local

KEY = "a key of the pipeline's own that is long enough"
SQUARES = [x * x for x in range(6)]
CUBES = [x**3 for x in range(6)]


@pytest.fixture(params=[None, KEY], ids=["no key", "key"])
def key(request, monkeypatch):
    """True if results and names in the store are signed."""
    if request.param:
        monkeypatch.setenv("RUNWIDE_SIGNING_KEY", request.param)
    return request.param


@pytest.fixture
def ran(tmp_path):
    """A folder in which functions leave a file for each item that they are run on."""
    folder = tmp_path / "ran"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "store")


def raised_to(power, folder, failing=None):
    place = str(folder)

    def work(x):
        from pathlib import Path

        Path(place, str(x)).touch()
        if x == failing:
            raise ValueError(x)
        return x**power

    return work


def items_run(folder):
    """The items that were run since the last time this was asked."""
    found = sorted(int(path.name) for path in Path(folder).iterdir())
    for item in found:
        Path(folder, str(item)).unlink()
    return found


def runs_in(store):
    return len(list(Path(store).glob("*/runs/*.json")))


def components(store, count=2, **options):
    return Components(count, store=store, engine=Local("subprocess", **options), progress=False)


def on_components(function, store, *, count=2, **options):
    return runwide.map(function, range(6), on=components(store, count), name="n", **options)


def test_a_changed_function_is_an_error_and_no_run_is_started(store, ran, key):
    assert on_components(raised_to(2, ran), store) == SQUARES
    items_run(ran)
    place = components(store)
    for call in (place.map, place.submit):
        with pytest.raises(FunctionChanged, match="the function of the job 'n' has changed") as caught:
            call(raised_to(3, ran), range(6), name="n")
        assert caught.value.uri.startswith(store)
        assert 'reuse="results"' in str(caught.value)
        assert 'reuse="nothing"' in str(caught.value)
    assert items_run(ran) == []
    assert runs_in(store) == 1


def test_results_are_reused_and_no_run_is_started_where_all_are_there(store, ran, key):
    on_components(raised_to(2, ran), store)
    items_run(ran)
    for reuse in ("results", None, "results"):
        assert on_components(raised_to(3, ran), store, count=3, reuse=reuse) == SQUARES
    assert items_run(ran) == []
    assert runs_in(store) == 1


def test_what_failed_is_run_with_the_new_function_and_nothing_else(store, ran, key):
    found = on_components(raised_to(2, ran, failing=4), store, on_error="return")
    assert isinstance(found[4], runwide.Failure)
    items_run(ran)
    job, run = components(store).submit(raised_to(3, ran), range(6), name="n", reuse="results")
    assert [shard.index for shard in status(job).shards if not shard.finished] == [read_job(job).shard_of(4)]
    assert run is not None
    run.wait(120)
    assert items_run(ran) == [4]
    assert runwide.attach(job) == [0, 1, 4, 9, 64, 25]
    assert on_components(raised_to(3, ran), store) == [0, 1, 4, 9, 64, 25]
    assert items_run(ran) == []


def test_all_is_run_again_where_nothing_is_reused(store, ran, key):
    on_components(raised_to(2, ran), store)
    items_run(ran)
    assert on_components(raised_to(3, ran), store, reuse="nothing") == CUBES
    assert items_run(ran) == list(range(6))
    assert on_components(raised_to(3, ran), store) == CUBES
    assert items_run(ran) == []


def test_a_job_goes_on_from_the_pool_to_components_and_back(store, ran, key):
    def here(function, **options):
        return runwide.map(function, range(6), store=store, name="n", workers=1, **options)

    found = here(raised_to(2, ran, failing=1), on_error="return")
    assert isinstance(found[1], runwide.Failure)
    items_run(ran)
    with pytest.raises(FunctionChanged):
        on_components(raised_to(3, ran), store)
    expected = [0, 1, 4, 9, 16, 25]
    assert on_components(raised_to(3, ran), store, reuse="results") == expected
    assert items_run(ran) == [1]
    assert here(raised_to(3, ran)) == expected
    assert here(raised_to(4, ran), reuse="results") == expected
    assert on_components(raised_to(4, ran), store) == expected
    assert items_run(ran) == []


@pytest.mark.docker
def test_containers_run_only_missing_items(engine, image_of_this_python, store, ran):
    def on_containers(function, **options):
        place = Components(
            2, store=store, engine=Local("docker", mounts=[ran]), image=image_of_this_python, progress=False
        )
        return runwide.map(function, range(6), on=place, name="n", **options)

    found = on_containers(raised_to(2, ran, failing=4), on_error="return")
    assert isinstance(found[4], runwide.Failure)
    before = {path.name: path.stat().st_mtime_ns for path in ran.iterdir()}
    assert on_containers(raised_to(3, ran), reuse="results") == [0, 1, 4, 9, 64, 25]
    after = {path.name: path.stat().st_mtime_ns for path in ran.iterdir()}
    assert [item for item in sorted(after) if after[item] != before[item]] == ["4"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": "n", "reuse": "all"}, "invalid reuse='all': expected 'results', 'nothing' or None"),
        ({"name": "n", "reuse": 1}, "invalid reuse=1"),
        ({"reuse": "results"}, "give name= as well"),
        ({"reuse": "nothing"}, "give name= as well"),
    ],
    ids=["word", "number", "results without a name", "nothing without a name"],
)
def test_an_invalid_reuse_is_an_error_before_anything_is_taken(options, why, store):
    def items():
        raise AssertionError("an item was taken")
        yield

    place = components(store)
    for call in (place.map, place.submit, lambda *args, **more: runwide.map(*args, on=place, **more)):
        with pytest.raises(InputError, match=why):
            call(abs, items(), **options)
    assert not Path(store).exists()
