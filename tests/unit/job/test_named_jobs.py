"""A map with a store resumes where it was killed; a name never leads to results of other items."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import runwide
from runwide import json_text
from runwide.errors import FunctionChanged, FunctionNotPicklable, InputError, NoItems, TasksFailed
from runwide.job import clean, manifest, names, scatter_or_find
from runwide.store import records
from runwide.store.base import open_store


def noting(folder):
    def noted(x):
        descriptor = os.open(f"{folder}/calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{x}\n".encode())
        os.close(descriptor)
        return x * x

    return noted


def calls(folder):
    """The items that were run since the last time this was asked."""
    path = Path(folder, "calls")
    found = [int(line) for line in path.read_text().split()] if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def names_in(store):
    return [info.name for info in open_store(store).list("names/")]


def jobs_in(store):
    return {
        info.name.partition("/")[0] for info in open_store(store).list() if info.name.endswith("/job.json")
    }


def test_a_second_call_of_the_same_name_computes_nothing(anywhere, tmp_path):
    for expected in (list(range(20)), []):
        assert runwide.map(noting(tmp_path), range(20), store=anywhere, name="n", workers=2) == [
            x * x for x in range(20)
        ]
        assert calls(tmp_path) == expected
    assert len(jobs_in(anywhere)) == 1


def test_without_a_name_each_call_is_a_job_of_its_own(memory, tmp_path):
    for _ in range(2):
        assert runwide.map(noting(tmp_path), range(3), store=memory, workers=1) == [0, 1, 4]
        assert calls(tmp_path) == [0, 1, 2]
    assert len(jobs_in(memory)) == 2


def test_another_name_is_another_job(memory):
    assert runwide.map(abs, [-1], store=memory, name="a", workers=1) == [1]
    assert runwide.map(abs, [-2], store=memory, name="b", workers=1) == [2]


@pytest.mark.parametrize("other", [[1, 2], [1, 2, 4], [1, 2, 3, 4], ["1", 2, 3]])
def test_other_items_under_the_same_name_are_an_error_and_nothing_is_run(memory, tmp_path, other):
    runwide.map(abs, [1, 2, 3], store=memory, name="n", workers=1)
    with pytest.raises(InputError, match="the job 'n' has other items than this call"):
        runwide.map(noting(tmp_path), other, store=memory, name="n", workers=1)
    assert calls(tmp_path) == []


def test_failed_items_are_run_again_with_the_function_of_the_second_call(memory, tmp_path):
    note = noting(tmp_path)

    def broken(x):
        note(x)
        return 1 / (x - 2)

    with pytest.raises(ZeroDivisionError) as caught:
        runwide.map(broken, range(5), store=memory, name="n", workers=1)
    assert isinstance(caught.value.__cause__, TasksFailed)
    assert calls(tmp_path) == [0, 1, 2, 3, 4]
    found = runwide.map(
        lambda x: note(x) and "mended", range(5), store=memory, name="n", workers=1, reuse="results"
    )
    assert found == [-0.5, -1.0, "mended", 1.0, 0.5]
    assert calls(tmp_path) == [2]


def test_on_error_return_gives_a_failure_for_a_failed_item(memory):
    found = runwide.map(lambda x: 1 / x, [1, 0], store=memory, on_error="return", workers=1)
    assert (found[0], found[1].index, found[1].type) == (1.0, 1, "ZeroDivisionError")


def test_arrays_arrive_writable(memory):
    def doubled(array):
        array *= 2
        return array

    (found,) = runwide.map(doubled, [np.arange(100_000.0)], store=memory, workers=1)
    found += 1
    assert np.array_equal(found, np.arange(100_000.0) * 2 + 1)


def test_options_of_the_pool_are_those_of_a_map_with_a_store(memory, tmp_path):
    def fails_once(x):
        mark = Path(tmp_path, str(x))
        if not mark.exists():
            mark.touch()
            raise ValueError(x)
        return os.environ["READY"]

    def ready():
        os.environ["READY"] = "yes"

    found = runwide.map(
        fails_once,
        range(3),
        store=memory,
        workers=1,
        retries=1,
        chunksize=1,
        initializer=ready,
        progress=False,
    )
    assert found == ["yes"] * 3
    with pytest.raises(TypeError, match="unknown option 'colour'"):
        runwide.map(abs, [1], store=memory, colour="red")


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"name": "n"}, InputError, "give store= as well"),
        ({"shards": 2}, InputError, "give store= as well"),
        ({"store": "memory://x", "on": object()}, InputError, "both on= and store="),
        ({"store": "memory://x", "name": ""}, InputError, "it is empty"),
        ({"store": "memory://x", "on_error": "ignore"}, InputError, "invalid on_error='ignore'"),
        ({"store": "memory://x", "shards": 0}, InputError, "shards=0"),
    ],
)
def test_invalid_options_are_an_error(options, error, why):
    with pytest.raises(error, match=why):
        runwide.map(abs, [1, 2], **options)


def test_no_items_and_functions_that_cannot_be_pickled_are_the_same_errors_as_without_a_store(memory):
    with pytest.raises(NoItems):
        runwide.map(abs, [], store=memory, name="n")
    lock = threading.Lock()
    with pytest.raises(FunctionNotPicklable):
        runwide.map(lambda _: lock, [1], store=memory, name="n")
    assert names_in(memory) == []


PROGRAM = """
import os, sys, time
from runwide.job import plan
plan._FLUSH_SECONDS = (0.02, 0.02)
import runwide

def slow(x):
    with open(sys.argv[2] + "/calls", "a") as file:
        file.write(f"{x}\\n")
    while len(open(sys.argv[2] + "/calls").readlines()) > 50 and not os.path.exists(sys.argv[2] + "/to-the-end"):
        time.sleep(0.01)
    time.sleep(0.02)
    return "r" * 100 + str(x)

if __name__ == "__main__":
    found = runwide.map(slow, range(60), store=sys.argv[1], name="n", shards=3, workers=2, progress=False)
    assert found == ["r" * 100 + str(x) for x in range(60)]
"""


@pytest.mark.parametrize("kind", ["folder", pytest.param("bucket", marks=pytest.mark.gcs)])
def test_a_killed_map_that_is_called_again_computes_only_the_rest(kind, gcs, tmp_path):
    store = gcs if kind == "bucket" else str(tmp_path / "store")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), store, str(tmp_path)]
    with subprocess.Popen(command, start_new_session=True) as process:
        noted = tmp_path / "calls"
        while process.poll() is None and (not noted.exists() or noted.read_text().count("\n") < 30):
            time.sleep(0.005)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    before = calls(tmp_path)
    (tmp_path / "to-the-end").touch()
    assert 30 <= len(before) < 60
    subprocess.run(command, check=True, timeout=60)
    again = calls(tmp_path)
    assert len(again) < 50  # the first shard was finished, and some of the second
    assert set(before) | set(again) == set(range(60))


def test_of_two_first_calls_at_once_one_makes_the_job_and_the_other_takes_part(tmp_path):
    store = str(tmp_path / "store")
    program = (
        "import sys, runwide; print(runwide.map(abs, range(50), store=sys.argv[1], name='n', workers=1))"
    )
    command = [sys.executable, "-c", program, store]
    copies = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {copy.communicate(timeout=60)[0].strip() for copy in copies} == {str(list(range(50)))}
    assert [copy.returncode for copy in copies] == [0, 0, 0]
    assert len(jobs_in(store)) == 1


def test_a_name_whose_job_was_deleted_is_given_to_a_new_one(memory, tmp_path):
    runwide.map(noting(tmp_path), range(3), store=memory, name="n", workers=1)
    (job,) = jobs_in(memory)
    clean(f"{memory}/{job}")
    calls(tmp_path)
    for expected in ([0, 1, 2], []):
        assert runwide.map(noting(tmp_path), range(3), store=memory, name="n", workers=1) == [0, 1, 4]
        assert calls(tmp_path) == expected


def test_sigterm_keeps_what_was_finished_and_the_next_call_runs_the_rest(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("(0.02, 0.02)", "(60, 60)"))  # nothing is written before the end
    command = [sys.executable, str(program), str(tmp_path / "store"), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        noted = tmp_path / "calls"
        while process.poll() is None and (not noted.exists() or noted.read_text().count("\n") < 30):
            time.sleep(0.005)
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=30) == 143
    before = calls(tmp_path)
    (tmp_path / "to-the-end").touch()
    subprocess.run(command, check=True, timeout=60)
    assert sorted(before + calls(tmp_path)) == list(range(60))


def test_scatter_or_find_finds_only_a_job_with_the_same_function_and_items(memory):
    job = scatter_or_find(abs, [1, 2], store=memory, shards=2, name="n").job.reference
    assert scatter_or_find(abs, [1, 2], store=memory, shards=7, name="n").job.reference == job
    with pytest.raises(FunctionChanged, match="has changed"):
        scatter_or_find(str, [1, 2], store=memory, shards=2, name="n")
    assert scatter_or_find(abs, [1, 2], store=memory, shards=2).job.reference != job


# Attacks with write access to the bucket on names


def planted(store, name, content):
    """Replace the record of a name."""
    store = open_store(store)
    store.delete(names.place_of(name))
    store.create(names.place_of(name), content if isinstance(content, bytes) else json_text.dumps(content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"[]",
        b"{}",
        {"owner": "n", "mac": "xyz"},
        records.written("name", {"job": "../x#sha256="}, owner="n", place=names.place_of("n")),
        records.written(
            "name", {"job": "x/job.json#sha256=" + "0" * 64}, owner="n", place=names.place_of("m")
        ),
        records.written("name", {"job": 7}, owner="n", place=names.place_of("n")),
        records.written("name", {}, owner="n", place=names.place_of("n")),
    ],
)
def test_an_invalid_record_of_a_name_is_ignored(memory, tmp_path, content):
    planted(memory, "n", content)
    for expected in ([0, 1], []):
        assert runwide.map(noting(tmp_path), range(2), store=memory, name="n", workers=1) == [0, 1]
        assert calls(tmp_path) == expected


def test_with_a_key_an_unsigned_record_that_names_another_job_is_ignored(memory, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", "0123456789abcdef")
    runwide.map(lambda x: "old", range(2), store=memory, name="old", workers=1)
    about = json_text.loads(open_store(memory).read(names.place_of("old")))
    for number, forged in enumerate(
        (about, {**about, "owner": "n"}, {**about, "owner": "n", "mac": "00" * 32})
    ):
        planted(memory, "n", forged)
        assert runwide.map(noting(tmp_path), range(2), store=memory, name="n", workers=1) == [0, 1]
        assert calls(tmp_path) == (
            [] if number else [0, 1]
        )  # the signed object behind the forged one still counts


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_the_function_and_items_of_a_forged_job_are_never_unpickled(memory, tmp_path):
    bomb = str(tmp_path / "exploded")
    theirs = runwide.scatter(Bomb(bomb).__reduce__, range(3), store=memory, shards=1)
    about = manifest.read_job(theirs)
    name = {"job": f"{about.id}/job.json#sha256={about.digest}"}
    planted(memory, "n", records.written("name", name, owner="n", place=names.place_of("n")))
    # The items are ours, so the job is taken for an earlier call's; but no function is run other than this call's.
    with pytest.raises(FunctionChanged):
        runwide.map(noting(tmp_path), range(3), store=memory, name="n", workers=1)
    with pytest.raises(FunctionChanged):
        scatter_or_find(noting(tmp_path), range(3), store=memory, shards=1, name="n")
    assert runwide.map(noting(tmp_path), range(3), store=memory, name="n", workers=1, reuse="results") == [
        0,
        1,
        4,
    ]
    assert not Path(bomb).exists()


# Pool


def test_the_maps_of_a_pool_with_a_store_resume_in_the_order_of_their_calls(memory, tmp_path):
    def use():
        with runwide.Pool(2, store=memory, name="n") as pool:
            first = pool.map(noting(tmp_path), range(4))
            second = pool.map_async(noting(tmp_path), range(4, 6)).get(timeout=30)
            powers = pool.starmap(pow, [(2, 3), (3, 2)])
            return (
                first,
                second,
                powers,
                list(pool.imap(abs, [-1])),
                list(pool.imap_unordered(abs, [-2])),
                pool.map(abs, []),
            )

    expected = ([0, 1, 4, 9], [16, 25], [8, 9], [1], [2], [])
    assert use() == expected
    assert calls(tmp_path) == list(range(6))
    assert use() == expected
    assert calls(tmp_path) == []


def test_a_pool_with_a_store_raises_the_same_error_as_a_pool_without(memory):
    with runwide.Pool(1, store=memory) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.map(lambda x: 1 / x, [0])
        caught = []
        pool.map_async(lambda x: 1 / x, [0], error_callback=caught.append).wait(30)
    assert [type(error) for error in caught] == [ZeroDivisionError]
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(abs, [1])


def test_a_pool_with_a_store_raises_errors_of_pickling(memory):
    with runwide.Pool(1, store=memory) as pool:
        for function, item in ((id, threading.Lock()), (threading.Lock().acquire, 1)):
            with pytest.raises(TypeError, match="cannot pickle"):
                pool.map(function, [item])
        for size in (0, "2"):
            with pytest.raises(ValueError, match=r"(?i)chunksize must be"):
                pool.map(abs, [-1], chunksize=size)


def test_the_other_methods_of_a_pool_work_the_same_with_a_store(memory):
    with runwide.Pool(1, store=memory) as pool:
        assert pool.apply(pow, (2, 3)) == 8
    assert jobs_in(memory) == set()
    with pytest.raises(InputError, match="give store="):
        runwide.Pool(1, name="n")
