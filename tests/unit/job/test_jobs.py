"""A job gives the results of a loop, in every store, and loses no finished results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import runwide
from runwide import json_text
from runwide.errors import (
    DigestMismatch,
    EnvironmentMismatch,
    FormatTooNew,
    FrameCorrupt,
    ItemNotLoadable,
    ItemNotPicklable,
    JobIncomplete,
    NoItems,
    ResultNotPicklable,
    ShardOutOfRange,
    StoreNotWritable,
    StoreUnavailable,
    TasksFailed,
)
from runwide.job import chunk_log, finish, load, manifest, scatter_pickled, short_reference
from runwide.job.reference import parse
from runwide.records import FailureKind
from runwide.store import records
from runwide.store.base import open_store
from runwide.store.buffers import sha256
from runwide.testing.stores import Recorder, mount


def square(x):
    return x * x


def run(job, *, workers=1):
    return [runwide.shard(job, index, workers=workers) for index in range(manifest.read_job(job).shards)]


def edited(job, change, *, name=manifest.JOB):
    """A reference to a changed copy of a job's manifest, as a maker of another kind would have written it."""
    about = parse(job)
    store = open_store(about.folder)
    content = json_text.loads(store.read(name))
    change(content)
    data = json_text.dumps(content)
    store.delete(name)
    store.create(name, data)
    return f"{about.folder}/{name}#sha256={sha256(data)}"


def test_results_are_those_of_a_loop_in_input_order(anywhere):
    factor = 3
    job = runwide.scatter(lambda x: x * factor, range(50), store=anywhere, shards=4)
    shards = run(job, workers=2)
    assert runwide.gather(job, shards) == [x * factor for x in range(50)]
    assert runwide.gather(job) == [x * factor for x in range(50)]
    assert runwide.gather(
        job, [short_reference(i, shard) for i, shard in reversed(list(enumerate(shards)))]
    ) == [x * factor for x in range(50)]
    assert load(finish(job, shards)) == [x * factor for x in range(50)]


def test_arrays_come_back_equal_and_writable(memory):
    job = runwide.scatter(lambda n: np.arange(n, dtype=float) * 2, [10, 100_000], store=memory, shards=1)
    small, large = runwide.gather(job, run(job))
    large += 1
    small += 1
    assert np.array_equal(small, np.arange(10.0) * 2 + 1)
    assert np.array_equal(large, np.arange(100_000.0) * 2 + 1)


def test_items_may_be_an_iterator_and_of_any_kind(memory):
    items = [None, "text", {"a": [1]}, (1, 2), b"bytes", lambda: 3]
    job = runwide.scatter(lambda x: x() if callable(x) else x, iter(items), store=memory, shards=2)
    assert runwide.gather(job, run(job)) == [*items[:-1], 3]


def test_more_shards_than_items_are_as_many_as_items(memory):
    job = runwide.scatter(square, [1, 2, 3], store=memory, shards=10)
    assert manifest.read_job(job).shards == 3
    assert runwide.gather(job, run(job)) == [1, 4, 9]


def test_a_job_id_begins_with_a_hash_and_then_sorts_by_time(memory):
    ids = [manifest.read_job(runwide.scatter(square, [1], store=memory, shards=1)).id for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(name) == len("a-20261124t231308-36c13f7040d35a90") for name in ids)
    times = [name.split("-")[1] for name in ids]
    assert times == sorted(times)
    assert len({name[0] for name in ids}) > 1


def test_a_failed_item_is_recorded_and_the_others_are_finished(anywhere):
    def picky(x):
        if x % 10 == 3:
            raise KeyError(x)
        return x

    job = runwide.scatter(picky, range(20), store=anywhere, shards=2)
    result = finish(job, run(job, workers=2))
    found = load(result, on_error="return")
    assert [value for value in found if not isinstance(value, runwide.Failure)] == [
        x for x in range(20) if x % 10 != 3
    ]
    assert (found[13].index, found[13].kind, found[13].type) == (13, FailureKind.EXCEPTION, "KeyError")
    assert found[13].exception.args == (13,)
    assert "in picky" in found[13].traceback
    with pytest.raises(KeyError) as caught:
        load(result)
    assert isinstance(caught.value.__cause__, TasksFailed)
    assert [failure.index for failure in caught.value.__cause__.failures] == [3, 13]


def test_a_worker_that_dies_costs_its_item_and_the_failure_has_the_items_own_index(memory):
    job = runwide.scatter(lambda x: os._exit(7) if x == 5 else x, range(8), store=memory, shards=2)
    found = runwide.gather(job, run(job), on_error="return")
    assert found[:5] + found[6:] == [0, 1, 2, 3, 4, 6, 7]
    assert (found[5].index, found[5].exception.item, found[5].kind) == (5, 5, FailureKind.CRASH)


def test_a_result_that_cannot_be_pickled_fails_its_item_only(memory):
    job = runwide.scatter(lambda x: (y for y in ()) if x == 1 else x, range(3), store=memory, shards=1)
    found = runwide.gather(job, run(job), on_error="return")
    assert (found[0], found[2]) == (0, 2)
    assert found[1].kind is FailureKind.PICKLING
    assert isinstance(found[1].exception, ResultNotPicklable)


class LoadsNowhere:
    def __reduce__(self):
        return (int, ("not a number",))


def test_an_item_that_cannot_be_loaded_fails_alone(memory):
    job = runwide.scatter(square, [2, LoadsNowhere(), 3], store=memory, shards=1)
    found = runwide.gather(job, run(job), on_error="return")
    assert (found[0], found[2]) == (4, 9)
    assert found[1].kind is FailureKind.PICKLING
    assert isinstance(found[1].exception, ItemNotLoadable)


def test_a_result_that_cannot_be_loaded_fails_alone(memory):
    job = runwide.scatter(lambda x: LoadsNowhere() if x == 1 else x, range(3), store=memory, shards=1)
    found = runwide.gather(job, run(job), on_error="return")
    assert (found[0], found[2]) == (0, 2)
    assert found[1].kind is FailureKind.PICKLING
    assert "cannot be unpickled here" in found[1].message


def test_no_items_are_an_error(memory):
    with pytest.raises(NoItems):
        runwide.scatter(square, [], store=memory, shards=2)


def test_an_item_that_cannot_be_pickled_is_named(memory):
    with pytest.raises(ItemNotPicklable, match="item 2: a lock cannot be pickled") as caught:
        runwide.scatter(square, [0, 1, threading.Lock()], store=memory, shards=2)
    assert caught.value.item == 2


def test_a_shard_out_of_range_is_named(memory):
    job = runwide.scatter(square, [1, 2], store=memory, shards=2)
    with pytest.raises(ShardOutOfRange, match="there is no shard 2, the job has 2"):
        runwide.shard(job, 2)


def test_a_second_run_of_a_shard_computes_nothing_and_returns_the_same_reference(tmp_path):
    def noted(x):
        with Path(tmp_path, "calls").open("a") as file:
            file.write(f"{x}\n")
        return x

    job = runwide.scatter(noted, range(6), store=str(tmp_path / "store"), shards=2)
    first = run(job)
    assert run(job) == first
    assert sorted(map(int, Path(tmp_path, "calls").read_text().split())) == list(range(6))


def test_two_copies_of_a_shard_at_once_agree(tmp_path):
    job = runwide.scatter(lambda x: time.sleep(0.01) or os.getpid(), range(30), store=str(tmp_path), shards=1)
    program = "import sys, runwide; print(runwide.shard(sys.argv[1], 0, workers=1))"
    command = [sys.executable, "-c", program, job]
    copies = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    references = {copy.communicate(timeout=60)[0].strip() for copy in copies}
    assert [copy.returncode for copy in copies] == [0, 0, 0]
    assert len(references) == 1
    assert len(runwide.gather(job, list(references))) == 30


def test_the_error_of_missing_shards_names_them_and_says_what_to_do(memory):
    job = runwide.scatter(square, range(9), store=memory, shards=3)
    done = runwide.shard(job, 1, workers=1)
    with pytest.raises(JobIncomplete, match=r"2 of 3 shards have not finished: 0, 2.*runwide shard"):
        runwide.gather(job)
    with pytest.raises(JobIncomplete, match="2 of 3 shards were not given to gather: 0, 2"):
        runwide.gather(job, [done])
    assert runwide.gather(
        job, [runwide.shard(job, 0, workers=1), done, runwide.shard(job, 2, workers=1)]
    ) == [x * x for x in range(9)]


def test_a_shard_reads_only_its_own_items(memory):
    recorder = Recorder()
    store = mount("own-items", memory, recorder)
    job = runwide.scatter(square, range(40), store=store, shards=4)
    recorder.calls.clear()
    runwide.shard(job, 2, workers=1)
    read = [name.rpartition("/")[2] for method, name in recorder.calls if method == "read"]
    assert read == ["job.json", "code.zip", "function.pkl", "0002.pack"]
    assert [method for method, _ in recorder.calls] == [
        "read",
        "list",
        "read",
        "read",
        "read",
        "create",  # results
        "create",  # events
        "create",  # the manifest
    ]


def test_a_store_that_becomes_unavailable_loses_no_stored_results(memory):
    away = threading.Event()

    def hook(method, name, _before):
        if away.is_set() and method == "create" and name.endswith("shard.json"):
            raise StoreUnavailable("no answer", uri=name)

    job = runwide.scatter(square, range(10), store=mount("goes-away", memory, hook), shards=1)
    away.set()
    with pytest.raises(StoreUnavailable):
        runwide.shard(job, 0, workers=1)
    away.clear()
    assert [info.name for info in open_store(parse(job).folder).list("shards/0000/chunks/")] == [
        "shards/0000/chunks/000000.pack"
    ]
    assert runwide.gather(job, run(job)) == [x * x for x in range(10)]


def test_a_store_that_cannot_take_results_ends_the_shard_with_its_error(memory):
    def hook(method, name, _before):
        if method == "create" and "/chunks/" in name:
            raise StoreNotWritable("no", uri=name)

    job = runwide.scatter(square, range(10), store=mount("refuses-chunks", memory, hook), shards=1)
    with pytest.raises(StoreNotWritable):
        runwide.shard(job, 0, workers=1)


def test_results_that_were_finished_when_a_shard_was_interrupted_are_stored(tmp_path):
    def slow(x):
        if x == 3:
            Path(tmp_path, "reached").touch()
        time.sleep(0.3)
        return x

    job = runwide.scatter(slow, range(40), store=str(tmp_path / "store"), shards=1)
    command = [
        sys.executable,
        "-c",
        "from runwide.cli import main; main()",
        "shard",
        job,
        "0",
        "--workers",
        "1",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not Path(tmp_path, "reached").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)  # the finished result is being sent by the worker
        process.terminate()
        assert process.wait(timeout=20) == 128 + 15
        process.stderr.read()
    log = chunk_log.ChunkLog(open_store(parse(job).folder), manifest.read_job(job), 0)
    log.resume()
    assert {0, 1, 2} <= log.finished < set(range(40))


def test_a_damaged_chunk_is_computed_again_and_a_further_manifest_written(tmp_path):
    job = runwide.scatter(square, range(10), store=str(tmp_path), shards=1)
    first = runwide.shard(job, 0, workers=1)
    path = Path(parse(job).folder, "shards/0000/chunks/000000.pack")
    content = bytearray(path.read_bytes())
    content[-70] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestMismatch) as caught:
        runwide.gather(job, [first])
    assert caught.value.uri == str(path)
    second = runwide.shard(job, 0, workers=1)
    assert second != first
    assert runwide.gather(job, [second]) == [x * x for x in range(10)] == runwide.gather(job)


def test_another_minor_version_of_python_is_an_error_that_names_both(memory):
    job = runwide.scatter(square, [1], store=memory, shards=1)
    job = edited(job, lambda about: about["environment"].update(python="3.9.1"))
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(
        EnvironmentMismatch, match=rf"made by Python 3\.9\.1, this is Python {ours}.*image with Python 3\.9"
    ):
        runwide.shard(job, 0, workers=1)


def test_another_version_of_cloudpickle_is_only_a_warning(memory, caplog):
    job = runwide.scatter(square, [3], store=memory, shards=1)
    job = edited(job, lambda about: about["environment"].update(cloudpickle="1.0"))
    assert runwide.gather(job, run(job)) == [9]
    assert [record.msg["theirs"] for record in caplog.records if record.levelname == "WARNING"] == ["1.0"]


@pytest.mark.parametrize("version", [records.FORMAT + 1, 10**9])
def test_a_newer_format_is_an_error_that_says_to_upgrade(memory, version):
    job = runwide.scatter(square, [1], store=memory, shards=1)
    job = edited(job, lambda about: about.update(format=version))
    with pytest.raises(FormatTooNew, match=rf"format {version}, this runwide reads up to 1.*upgrade runwide"):
        runwide.shard(job, 0, workers=1)


def test_a_changed_manifest_is_an_error(memory):
    job = runwide.scatter(square, [1], store=memory, shards=1)
    edited(job, lambda about: about.update(function_name="other"))
    with pytest.raises(DigestMismatch) as caught:
        runwide.shard(job, 0, workers=1)
    assert caught.value.uri == parse(job).uri


def test_a_function_that_cannot_be_loaded_is_an_error_before_any_item_runs(memory):
    pickled = b"\x80\x04cnowhere_module\nfunction\n."
    job = scatter_pickled(pickled, [1, 2], store=memory, shards=1, name="nowhere_module:function")
    with pytest.raises(
        EnvironmentMismatch, match="nowhere_module:function cannot be loaded here: ModuleNotFoundError"
    ):
        runwide.shard(job, 0, workers=1)


def test_the_manifest_of_another_kind_is_refused(memory):
    job = runwide.scatter(square, [1], store=memory, shards=1)
    shard = runwide.shard(job, 0, workers=1)
    with pytest.raises(FrameCorrupt, match="manifest of a shard, not of a job"):
        runwide.shard(shard, 0)


def test_large_items_are_split_into_packs_and_results_into_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("runwide.job.plan.PACK_BYTES", 200_000)
    monkeypatch.setattr("runwide.job.plan.CHUNK_BYTES", 200_000)
    monkeypatch.setattr("runwide.job.reading._RANGE", 150_000)
    items = [np.full(10_000, float(n)) for n in range(20)]
    job = runwide.scatter(lambda x: x + 1, items, store=str(tmp_path), shards=2)
    assert len(manifest.read_job(job).packs) > 4
    found = runwide.gather(job, run(job))
    assert all(np.array_equal(one, item + 1) for one, item in zip(found, items, strict=True))
    assert len(list(open_store(parse(job).folder).list("shards/0000/chunks/"))) > 1


def test_the_log_of_a_job_has_names_of_what_happened(memory, caplog):
    job = runwide.scatter(square, range(4), store=memory, shards=2)
    run(job)
    runwide.gather(job)
    events = [record.msg["event"] for record in caplog.records]
    assert events == ["job.scattered", *["shard.started", "shard.finished"] * 2, "job.gathered"]


@pytest.mark.parametrize(("theirs", "error"), [("0.1.0", True), (np.__version__ + ".post1", False)])
def test_a_package_that_breaks_pickles_is_an_error_and_another_patch_is_not(memory, theirs, error):
    job = runwide.scatter(lambda x: np.float64(x) + 0, [3], store=memory, shards=1)
    assert manifest.read_job(job).packages["numpy"] == np.__version__
    job = edited(job, lambda about: about["packages"].update(numpy=theirs))
    if error:
        with pytest.raises(
            EnvironmentMismatch,
            match=rf"numpy 0\.1\.0 is too different from {np.__version__} here.*requirements=\['numpy==0\.1\.0'\]",
        ):
            runwide.shard(job, 0, workers=1)
    else:
        assert runwide.gather(job, run(job)) == [3.0]


def test_lines_that_tasks_print_have_the_index_in_the_whole_job(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("RUNWIDE_LOG", "json")
    job = runwide.scatter(lambda x: print("hello"), range(4), store=str(tmp_path), shards=2)
    runwide.shard(job, 1, workers=1)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if "hello" in line]
    assert [(line["message"], line["item"], line["shard"]) for line in lines] == [
        ("hello", item, 1) for item in manifest.read_job(job).items_of(1)
    ]


class Refused(Exception):
    """An error of the user's, which has an attribute that errors of runwide have too."""

    def __init__(self, item):
        super().__init__(item)
        self.item = item


def refuse(item):
    raise Refused(item)


def test_an_error_of_the_users_keeps_what_its_author_calls_item(tmp_path):
    with pytest.raises(Refused) as raised:
        runwide.map(refuse, ["oslo"], store=tmp_path / "store", workers=1)
    assert raised.value.item == "oslo"
