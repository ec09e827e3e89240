"""A function that has changed under the same name is an error, and `reuse=` says what happens instead."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runwide
from runwide.errors import FunctionChanged, InputError, RunwideError
from runwide.job import Checkpoint, clean, finish, manifest, names, scatter_or_find, status
from runwide.store import records
from runwide.store.base import open_store
from runwide.store.buffers import sha256

KEY = "a key that is long enough"


@pytest.fixture(params=[None, KEY], ids=["no key", "key"])
def key(request, monkeypatch):
    """Run each test with and without a signing key."""
    if request.param:
        monkeypatch.setenv("RUNWIDE_SIGNING_KEY", request.param)
    return request.param


@pytest.fixture
def ran(tmp_path):
    """A folder in which functions leave a file for each item that they are run on."""
    folder = tmp_path / "ran"
    folder.mkdir()
    return folder


def first(folder):
    def squared(x):
        Path(folder, str(x)).touch()
        return x * x

    return squared


def second(folder):
    def cubed(x):
        Path(folder, str(x)).touch()
        return x**3

    return cubed


def items_run(folder):
    """The items that were run since the last time this was asked."""
    found = sorted(int(path.name) for path in Path(folder).iterdir())
    for item in found:
        Path(folder, str(item)).unlink()
    return found


def jobs_in(store):
    return {
        info.name.partition("/")[0] for info in open_store(store).list() if info.name.endswith("/job.json")
    }


def both_of(job, shard):
    """The squares of a job, and of one shard the cubes."""
    items = manifest.read_job(job).items_of(shard)
    return [CUBES[item] if item in items else SQUARES[item] for item in range(6)]


def mapped(function, items, store, **options):
    return runwide.map(function, items, store=store, name="n", workers=1, **options)


SQUARES = [x * x for x in range(6)]
CUBES = [x**3 for x in range(6)]


# --- a changed function is an error


def pool(method, *more):
    def run(function, items, store, reuse=None):
        with runwide.Pool(1, store=store, name="n", reuse=reuse) as made:
            found = getattr(made, method)(function, items, *more)
            return list(found.get(timeout=60) if method.endswith("_async") else found)

    return run


def starred(function, items, store, reuse=None):
    with runwide.Pool(1, store=store, name="n", reuse=reuse) as made:
        return made.starmap(function, [(item,) for item in items])


def through_begun(function, items, store, reuse=None):
    job = scatter_or_find(function, items, store=store, shards=2, name="n", reuse=reuse).job.reference
    shards = [runwide.shard(job, index, workers=1) for index in range(2)]
    return runwide.gather(job, shards)


SURFACES = {
    "map": mapped,
    "map of an iterator": lambda function, items, store, **options: mapped(
        function, (item for item in items), store, **options
    ),
    "Pool.map": pool("map"),
    "Pool.map_async": pool("map_async"),
    "Pool.imap": pool("imap"),
    "Pool.imap_unordered": pool("imap_unordered"),
    "Pool.starmap": starred,
    "Checkpoint": lambda function, items, store, reuse=None: Checkpoint(store, "n", reuse=reuse).map(
        function, items, workers=1
    ),
    "begun": through_begun,
}


@pytest.mark.parametrize("surface", SURFACES)
def test_a_changed_function_is_an_error_that_says_what_to_do_and_nothing_is_run(surface, memory, ran, key):
    run = SURFACES[surface]
    assert run(first(ran), range(6), memory) == SQUARES
    items_run(ran)
    with pytest.raises(FunctionChanged) as caught:
        run(second(ran), range(6), memory)
    line = str(caught.value)
    assert "\n" not in line
    assert "has changed since its results were made" in line
    for wanted in ("'n", f"{memory}/", 'reuse="results"', 'reuse="nothing"', "another name="):
        assert wanted in line
    assert caught.value.uri.rpartition("/")[2] in jobs_in(memory)
    assert isinstance(caught.value, InputError)
    assert items_run(ran) == []
    assert len(jobs_in(memory)) == 1
    assert run(first(ran), range(6), memory) == SQUARES
    assert items_run(ran) == []


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("reuse", ["results", "nothing"])
def test_every_surface_takes_reuse_and_the_next_call_finds_the_new_job(surface, reuse, memory, ran):
    run = SURFACES[surface]
    expected, again = {"results": (SQUARES, []), "nothing": (CUBES, list(range(6)))}[reuse]
    run(first(ran), range(6), memory)
    items_run(ran)
    assert run(second(ran), range(6), memory, reuse=reuse) == expected
    assert items_run(ran) == again
    assert run(second(ran), range(6), memory) == expected
    assert items_run(ran) == []
    with pytest.raises(FunctionChanged):
        run(first(ran), range(6), memory)


def test_both_ways_hold_in_every_store(anywhere, ran):
    assert mapped(first(ran), range(6), anywhere) == SQUARES
    assert mapped(second(ran), range(6), anywhere, reuse="results") == SQUARES
    assert mapped(second(ran), range(6), anywhere) == SQUARES
    assert items_run(ran) == list(range(6))
    assert mapped(second(ran), range(6), anywhere, reuse="nothing") == CUBES
    assert mapped(second(ran), range(6), anywhere) == CUBES
    assert items_run(ran) == list(range(6))
    assert len(jobs_in(anywhere)) == 3  # nothing is deleted


@pytest.mark.parametrize("changed", ["constant", "default", "code", "name", "global"])
def test_each_kind_of_change_counts(changed, memory):
    def made(constant=1, default=1, code="x + constant + scale", name="f"):
        space = {"constant": constant, "scale": default, "__name__": "__main__"}
        exec(f"def {name}(x, more={default}):\n    return {code}", space)
        return space[name]

    other = {
        "constant": {"constant": 2},
        "default": {"default": 2},
        "code": {"code": "x - constant"},
        "name": {"name": "g"},
        "global": {"constant": [1]},
    }[changed]
    mapped(made(), [1, 2], memory)
    assert mapped(made(), [1, 2], memory) == [3, 4]
    with pytest.raises(FunctionChanged):
        mapped(made(**other), [1, 2], memory)


def test_a_function_that_changes_back_is_one_that_has_changed(memory, ran):
    mapped(first(ran), range(6), memory)
    mapped(second(ran), range(6), memory, reuse="nothing")
    items_run(ran)
    with pytest.raises(FunctionChanged):
        mapped(first(ran), range(6), memory)
    assert mapped(first(ran), range(6), memory, reuse="results") == CUBES
    assert mapped(first(ran), range(6), memory, reuse="nothing") == SQUARES
    assert items_run(ran) == list(range(6))


# --- reuse="results"


def test_only_failed_items_are_run_again_with_the_new_function(anywhere, ran, key):
    note = first(ran)

    def broken(x):
        note(x)
        return 1 / (x - 2)

    found = mapped(broken, range(5), anywhere, shards=2, on_error="return")
    assert [isinstance(one, runwide.Failure) for one in found] == [False, False, True, False, False]
    assert items_run(ran) == [0, 1, 2, 3, 4]
    for again in ([2], []):
        found = mapped(lambda x: note(x) and "mended", range(5), anywhere, reuse="results")
        assert found == [-0.5, -1.0, "mended", 1.0, 0.5]
        assert items_run(ran) == again


def test_the_stored_results_of_an_unfinished_shard_are_copied(memory, ran, key):
    job = scatter_or_find(first(ran), range(6), store=memory, shards=3, name="n").job.reference
    runwide.shard(job, 0, workers=1)
    runwide.shard(job, 1, workers=1)
    manifest_of_1 = f"{job.partition('/job.json')[0].rpartition('/')[2]}/{manifest.shard_name(1)}"
    open_store(memory).delete(manifest_of_1)  # it was killed after its chunks
    items_run(ran)
    assert mapped(second(ran), range(6), memory, reuse="results") == both_of(job, 2)
    assert items_run(ran) == list(manifest.read_job(job).items_of(2))


def test_the_last_result_of_an_item_that_was_run_again_is_copied(memory, ran):
    def fails_once(x, folder=str(ran)):
        if not Path(folder, str(x)).exists():
            Path(folder, str(x)).touch()
            raise ValueError(x)
        return x * x

    mapped(fails_once, range(3), memory, on_error="return")
    assert mapped(fails_once, range(3), memory) == [0, 1, 4]
    items_run(ran)
    assert mapped(second(ran), range(3), memory, reuse="results") == [0, 1, 4]
    assert items_run(ran) == []


@pytest.mark.parametrize("shards", [1, 2, 3, 6])
@pytest.mark.parametrize("before", [1, 4, 6])
def test_the_new_job_may_have_another_number_of_shards(before, shards, memory, ran):
    mapped(first(ran), range(6), memory, shards=before)
    items_run(ran)
    job = scatter_or_find(
        second(ran), range(6), store=memory, shards=shards, name="n", reuse="results"
    ).job.reference
    about = status(job)
    assert [shard.finished for shard in about.shards] == [True] * shards  # no component is started
    assert runwide.gather(job) == SQUARES
    assert runwide.load(finish(job)) == SQUARES
    assert items_run(ran) == []


def test_results_are_copied_and_never_unpickled(memory, tmp_path):
    mark = tmp_path / "unpickled"

    class Noticed:
        def __init__(self, value):
            self.value = value

        def __setstate__(self, state):
            vars(self).update(state)
            mark.touch()

    array = np.arange(50_000.0)
    values = {0: array, 1: b"x" * 100_000, 2: ("a", frozenset({1})), 3: Noticed(7), 4: float("inf"), 5: None}
    mapped(lambda x: values[x], range(6), memory)
    mark.unlink()
    job = scatter_or_find(
        lambda x: None, range(6), store=memory, shards=2, name="n", reuse="results"
    ).job.reference
    assert not mark.exists()
    found = runwide.gather(job)
    assert np.array_equal(found[0], array)
    found[0] += 1  # writable, as every result
    assert found[1:3] == [values[1], values[2]]
    assert found[3].value == 7
    assert found[4:] == [values[4], None]


def test_compressed_results_are_reused(memory, monkeypatch):
    monkeypatch.setenv("RUNWIDE_COMPRESSION", "zstd")
    mapped(lambda x: bytes(200_000) + b"%d" % x, range(3), memory)
    found = mapped(lambda x: None, range(3), memory, reuse="results")
    assert found == [bytes(200_000) + b"%d" % x for x in range(3)]


@pytest.mark.parametrize("damage", ["gone", "flipped", "replaced"])
def test_damaged_and_removed_results_are_computed_again(damage, memory, ran, key):
    job = mapped(first(ran), range(6), memory, shards=2).job
    items_run(ran)
    store = open_store(memory)
    chunk = next(info.name for info in store.list() if "/shards/0001/chunks/" in info.name)
    other = next(info.name for info in store.list() if "/shards/0000/chunks/" in info.name)
    data = store.read(chunk)
    store.delete(chunk)
    if damage == "flipped":
        data[-70] ^= 1
        store.create(chunk, data)
    if damage == "replaced":
        store.create(chunk, store.read(other))
    assert mapped(second(ran), range(6), memory, reuse="results") == both_of(job, 1)
    assert items_run(ran) == list(manifest.read_job(job).items_of(1))


def test_with_a_key_unsigned_results_are_not_reused(memory, ran, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    job = scatter_or_find(first(ran), range(6), store=memory, shards=2, name="n").job.reference
    runwide.shard(job, 0, workers=1)
    monkeypatch.delenv("RUNWIDE_SIGNING_KEY")
    runwide.shard(job, 1, workers=1)
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    items_run(ran)
    assert mapped(second(ran), range(6), memory, reuse="results") == both_of(job, 1)
    assert items_run(ran) == list(manifest.read_job(job).items_of(1))


@pytest.mark.parametrize("other", [[0, 1], [0, 1, 2, 3, 4, 6], list(range(7))])
def test_other_items_are_an_error_with_reuse_results(other, memory, ran):
    mapped(first(ran), range(6), memory)
    items_run(ran)
    for function in (first(ran), second(ran)):
        with pytest.raises(InputError, match="other items than this call") as caught:
            mapped(function, other, memory, reuse="results")
        assert not isinstance(caught.value, FunctionChanged)
        assert 'reuse="nothing"' in str(caught.value)
    assert items_run(ran) == []


def test_the_report_of_reused_results_is_that_of_what_was_run(memory, ran):
    mapped(first(ran), range(6), memory, shards=2)
    found = mapped(second(ran), range(6), memory, shards=2, reuse="results")
    assert "2 of 2 shards finished" in found.report().html()
    assert items_run(ran) == list(range(6))


# --- reuse="nothing"


def test_all_is_run_again_and_the_next_call_finds_the_newest_job(memory, ran, key):
    for _ in range(3):
        assert mapped(first(ran), range(6), memory, reuse="nothing") == SQUARES
        assert items_run(ran) == list(range(6))
    assert mapped(first(ran), range(6), memory) == SQUARES
    assert items_run(ran) == []
    assert len(jobs_in(memory)) == 3


def test_other_items_may_begin_the_new_job(memory, ran):
    mapped(first(ran), range(6), memory)
    assert mapped(first(ran), [7, 8], memory, reuse="nothing") == [49, 64]
    items_run(ran)
    assert mapped(first(ran), [7, 8], memory) == [49, 64]
    assert items_run(ran) == []
    with pytest.raises(InputError, match="other items"):
        mapped(first(ran), range(6), memory)


def test_slow_items_are_started_as_they_arrive(memory, ran):
    mapped(first(ran), range(3), memory)
    items_run(ran)

    def slowly():
        yield 0
        while not (
            ran / "0"
        ).exists():  # for ever, were the first item not started before the last one is there
            pass
        yield from (1, 2)

    assert mapped(second(ran), slowly(), memory, reuse="nothing") == CUBES[:3]


# --- both words


@pytest.mark.parametrize("reuse", ["results", "nothing"])
def test_a_name_without_a_job_gets_a_new_one(reuse, memory, ran):
    assert mapped(first(ran), range(6), memory, reuse=reuse) == SQUARES
    assert mapped(first(ran), range(6), memory) == SQUARES
    assert items_run(ran) == list(range(6))


def test_results_of_an_unchanged_function_are_found_and_no_job_is_made(memory, ran):
    mapped(first(ran), range(6), memory)
    items_run(ran)
    assert mapped(first(ran), range(6), memory, reuse="results") == SQUARES
    assert items_run(ran) == []
    assert len(jobs_in(memory)) == 1


@pytest.mark.parametrize(
    "reuse", ["all", "", "Results", 1, True, b"results", ["results"], np.arange(2)], ids=repr
)
def test_an_invalid_reuse_is_an_error_before_any_item_is_read_or_run(reuse, memory, ran):
    def items():
        (ran / "taken").touch()
        yield 1

    calls = {
        "map": lambda: mapped(first(ran), items(), memory, reuse=reuse),
        "Pool": lambda: runwide.Pool(1, store=memory, name="n", reuse=reuse),
        "Checkpoint": lambda: Checkpoint(memory, "n", reuse=reuse).map(first(ran), items()),
        "begun": lambda: (
            scatter_or_find(first(ran), items(), store=memory, shards=1, name="n", reuse=reuse).job.reference
        ),
    }
    for call in calls.values():
        with pytest.raises(
            InputError, match=r"invalid reuse=.*: expected 'results', 'nothing' or None"
        ) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert list(ran.iterdir()) == []
    assert list(open_store(memory).list()) == []


@pytest.mark.parametrize("reuse", ["results", "nothing"])
def test_reuse_without_a_name_is_an_error(reuse, memory, ran):
    calls = {
        "map": lambda: runwide.map(first(ran), [1], store=memory, reuse=reuse),
        "map without a store": lambda: runwide.map(first(ran), [1], reuse=reuse),
        "Pool": lambda: runwide.Pool(1, store=memory, reuse=reuse),
        "Checkpoint": lambda: Checkpoint(memory, reuse=reuse).map(first(ran), [1]),
        "begun": lambda: scatter_or_find(first(ran), [1], store=memory, shards=1, reuse=reuse).job.reference,
    }
    for call in calls.values():
        with pytest.raises(InputError, match="give name= as well"):
            call()
    with pytest.raises(InputError, match="give store= as well"):
        runwide.map(first(ran), [1], name="n", reuse=reuse)
    assert list(ran.iterdir()) == []


def test_the_error_crosses_processes():
    error = FunctionChanged("it has changed", uri="memory://x/y", hint="give another name=")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.uri) == (FunctionChanged, str(error), error.uri)


# --- two callers at the same moment


class Meanwhile:
    """An item that makes another call when it is pickled for the first time since it was armed."""

    def __init__(self):
        self.call = None

    def __reduce__(self):
        call, self.call = self.call, None
        if call is not None:
            call()
        return Meanwhile, ()


@pytest.mark.parametrize("reuse", ["results", "nothing"])
def test_a_call_that_another_copy_overtakes_takes_part_in_its_job(reuse, memory, ran):
    item = Meanwhile()

    def noted(_, folder=str(ran)):
        Path(folder, "1").touch()
        return "new"

    mapped(lambda _: "old", [item], memory)
    expected = {"results": ["old"], "nothing": ["new"]}[reuse]
    overtaken = []
    item.call = lambda: overtaken.append(mapped(noted, [item], memory, reuse=reuse))
    if (
        reuse == "results"
    ):  # this call's first look at the items compares them: the other one comes after that
        later, item.call = item.call, None

        def armed():
            item.call = later

        item.call = armed
    assert mapped(noted, [item], memory, reuse=reuse) == expected
    assert overtaken == [expected]
    assert items_run(ran) == ([] if reuse == "results" else [1])
    assert len(jobs_in(memory)) == 2
    assert mapped(noted, [item], memory) == expected
    assert items_run(ran) == []


@pytest.mark.parametrize("reuse", ["results", "nothing"])
def test_a_call_that_another_function_overtakes_follows_its_job(reuse, memory):
    item = Meanwhile()
    mapped(lambda _: "old", [item], memory)

    def arm():
        item.call = lambda: mapped(lambda _: "theirs", [item], memory, reuse="nothing")

    if reuse == "results":
        item.call = arm
    else:
        arm()

    def ours(_):
        return "ours"

    expected = {"results": ["theirs"], "nothing": ["ours"]}[reuse]
    assert mapped(ours, [item], memory, reuse=reuse) == expected
    assert mapped(ours, [item], memory) == expected
    assert len(jobs_in(memory)) == 3


def test_a_first_call_that_another_function_overtakes_is_an_error(memory, ran):
    item = Meanwhile()
    item.call = lambda: mapped(lambda _: "theirs", [item], memory)
    with pytest.raises(FunctionChanged):
        mapped(lambda _: "ours", [item], memory)
    assert len(jobs_in(memory)) == 1


RACE = """
import sys
from pathlib import Path
import runwide

def old(x):
    return -x

def new(x):
    Path(sys.argv[2], f"{x}-{sys.argv[4]}").touch()
    return x * x

if __name__ == "__main__":
    store, reuse = sys.argv[1], sys.argv[3]
    function = old if reuse == "old" else new
    reuse = None if reuse in ("old", "plain") else reuse
    print(runwide.map(function, range(40), store=store, name="n", shards=2, workers=1, reuse=reuse))
"""


@pytest.mark.parametrize("reuse", ["results", "nothing"])
def test_of_several_calls_at_once_all_have_the_same_results_and_the_next_one_runs_nothing(
    reuse, tmp_path, ran
):
    program = tmp_path / "program.py"
    program.write_text(RACE)

    def start(what, copy):
        command = [sys.executable, str(program), str(tmp_path / "store"), str(ran), what, str(copy)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def ended(process):
        out = process.communicate(timeout=120)[0].strip()
        assert process.returncode == 0
        return out

    ended(start("old", 0))
    copies = [start(reuse, copy) for copy in range(3)]
    found = {ended(copy) for copy in copies}
    expected = {"results": [-x for x in range(40)], "nothing": [x * x for x in range(40)]}[reuse]
    assert found == {str(expected)}
    run = {int(path.name.partition("-")[0]) for path in ran.iterdir()}
    assert run == (set() if reuse == "results" else set(range(40)))
    if reuse == "results":
        assert len(jobs_in(str(tmp_path / "store"))) == 2
    assert ended(start("plain", "again")) == str(expected)
    assert list(ran.glob("*-again")) == []


# --- a program that is edited


EDITED = """
import sys
from dataclasses import dataclass
from pathlib import Path
import runwide

FACTOR = {factor}

def scale(x):
    return FACTOR * x

def score(x, folder=sys.argv[2]):
    Path(folder, str(x)).touch()
    return scale(x){more}

if __name__ == "__main__":
    reuse = sys.argv[3] if len(sys.argv) > 3 else None
    try:
        print(runwide.map(score, [1, 2, 3], store=sys.argv[1], name="n", workers=1, reuse=reuse))
    except runwide.RunwideError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    "edit", [{"factor": 3, "more": ""}, {"factor": 2, "more": " + 1"}], ids=["global", "code"]
)
def test_a_program_that_was_edited_between_two_calls_says_so(edit, tmp_path, ran, key):
    program = tmp_path / "program.py"

    def run(*words):
        command = [sys.executable, str(program), str(tmp_path / "store"), str(ran), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    program.write_text(EDITED.format(factor=2, more=""))
    assert run() == "[2, 4, 6]"
    assert run() == "[2, 4, 6]"
    assert items_run(ran) == [1, 2, 3]
    program.write_text(EDITED.format(**edit))
    new = str([edit["factor"] * x + len(edit["more"][3:]) for x in (1, 2, 3)])
    found = run()
    assert found.startswith("FunctionChanged the function of the job 'n' has changed")
    assert len(found.splitlines()) == 1
    assert items_run(ran) == []
    assert run("results") == "[2, 4, 6]"
    assert items_run(ran) == []
    assert run("nothing") == new
    assert items_run(ran) == [1, 2, 3]
    assert run() == new
    assert items_run(ran) == []


# --- the records of a name


def test_the_newest_job_counts_where_a_lifecycle_rule_has_removed_the_first_records(memory, ran):
    store = open_store(memory)
    for _ in range(3):
        mapped(first(ran), range(6), memory, reuse="nothing")
    for number in (0, 1):
        store.delete(names.place_of("n", number))
    items_run(ran)
    assert mapped(first(ran), range(6), memory) == SQUARES
    assert items_run(ran) == []
    mapped(second(ran), range(6), memory, reuse="nothing")
    assert [info.name for info in store.list("names/")] == [names.place_of("n", 2), names.place_of("n", 3)]
    assert mapped(second(ran), range(6), memory) == CUBES


def test_where_the_newest_job_was_deleted_the_one_before_it_counts(memory, ran):
    mapped(first(ran), range(6), memory)
    (older,) = jobs_in(memory)
    mapped(second(ran), range(6), memory, reuse="nothing")
    (newer,) = jobs_in(memory) - {older}
    clean(f"{memory}/{newer}")
    items_run(ran)
    assert mapped(first(ran), range(6), memory) == SQUARES
    assert items_run(ran) == []
    assert mapped(second(ran), range(6), memory, reuse="results") == SQUARES


def test_a_name_that_begins_as_another_one_has_its_own_records(memory):
    for name in ("n", "n-0001", "n/0"):
        for reuse in (None, "nothing"):
            assert runwide.map(str, [name], store=memory, name=name, workers=1, reuse=reuse) == [name]
    assert len(jobs_in(memory)) == 6


def test_a_signed_record_that_was_copied_to_a_later_number_is_ignored(memory, ran, monkeypatch):
    """Otherwise anyone without the key could make an older job count again."""
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", KEY)
    store = open_store(memory)
    mapped(first(ran), range(6), memory)
    mapped(second(ran), range(6), memory, reuse="nothing")
    for number in (2, 3, 9):
        store.create(names.place_of("n", number), store.read(names.place_of("n", 0)))
    assert mapped(second(ran), range(6), memory) == CUBES
    mapped(first(ran), range(6), memory, reuse="nothing")
    assert mapped(first(ran), range(6), memory) == SQUARES


@pytest.mark.parametrize("number", ["0500", "999999999", "0002-0003", "2", "00002x", "1000000000"])
def test_forged_records_with_high_numbers_and_invalid_records_stop_no_call(number, memory, ran):
    store = open_store(memory)
    mapped(first(ran), range(6), memory)
    place = names.place_of("n").replace(".json", f"-{number}.json")
    about = records.read(store, names.place_of("n"), "name", owner="n").about
    other = scatter_or_find(str, range(6), store=memory, shards=1, name="other").job.reference
    planted = {**about, "job": other.removeprefix(f"{memory}/")}
    store.create(place, records.written("name", planted, owner="n", place=place))
    items_run(ran)
    assert mapped(first(ran), range(6), memory) == SQUARES
    assert items_run(ran) == []
    assert mapped(second(ran), range(6), memory, reuse="nothing") == CUBES
    assert mapped(second(ran), range(6), memory) == CUBES


def test_without_a_key_the_function_of_a_forged_newer_job_is_not_run(memory, ran, tmp_path):
    mapped(first(ran), range(6), memory)
    bomb = str(tmp_path / "exploded")
    theirs = manifest.read_job(
        runwide.scatter(lambda x: Path(bomb).touch(), range(6), store=memory, shards=1)
    )
    place = names.place_of("n", 1)
    about = {"job": f"{theirs.id}/job.json#sha256={theirs.digest}"}
    open_store(memory).create(place, records.written("name", about, owner="n", place=place))
    for run in (mapped, through_begun):
        with pytest.raises(FunctionChanged):
            run(first(ran), range(6), memory)
    items_run(ran)
    assert mapped(first(ran), range(6), memory, reuse="results") == SQUARES
    assert items_run(ran) == list(range(6))
    assert not Path(bomb).exists()


@pytest.mark.parametrize("reuse", [None, "results"])
def test_a_forged_job_with_a_further_pack_has_other_items(reuse, memory, ran):
    made = manifest.read_job(
        scatter_or_find(first(ran), range(6), store=memory, shards=1, name="other").job.reference
    )
    data = manifest.job_bytes(replace(made, packs=(replace(made.packs[0], digest="0" * 64),)))
    store = open_store(memory)
    store.delete(f"{made.id}/job.json")
    store.create(f"{made.id}/job.json", data)
    about = {"job": f"{made.id}/job.json#sha256={sha256(data)}"}
    place = names.place_of("n")
    store.create(place, records.written("name", about, owner="n", place=place))
    with pytest.raises(InputError, match="other items than this call"):
        mapped(first(ran), range(6), memory, reuse=reuse)
    assert mapped(first(ran), range(6), memory, reuse="nothing") == SQUARES


def test_a_store_that_is_not_there_is_the_same_error_as_without_a_name(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for reuse in (None, "results", "nothing"):
        with pytest.raises(RunwideError) as caught:
            mapped(abs, [1], str(blocked / "store"), reuse=reuse)
        assert "\n" not in str(caught.value)
