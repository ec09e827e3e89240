"""A file travels by reference: uploaded once, the same bytes in the task, nothing of it in a pickle."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest

import runwide
from runwide import File
from runwide.errors import DigestMismatch, InputError, ItemNotPicklable, StoreUnavailable
from runwide.job import manifest
from runwide.job._replay import function_and_item
from runwide.job.reference import parse
from runwide.store.base import open_store
from runwide.testing.stores import mount


def digest(file):
    with file.local() as path:
        return path.suffix, hashlib.sha256(path.read_bytes()).hexdigest()


def run(job):
    return runwide.gather(
        job, [runwide.shard(job, i, workers=1) for i in range(manifest.read_job(job).shards)]
    )


def in_folder(job):
    return list(open_store(parse(job).folder).list("files/"))


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.mark.parametrize("kind", ["folder", pytest.param("bucket", marks=pytest.mark.gcs)])
def test_a_file_arrives_as_a_path_to_the_same_bytes_and_is_stored_once(kind, gcs, data, tmp_path):
    store = gcs if kind == "bucket" else str(tmp_path / "store")
    expected = (".parquet", hashlib.sha256(data.read_bytes()).hexdigest())
    items = [File(data), {"deep": [File(str(data))]}, File(data)]
    job = runwide.scatter(
        lambda x: digest(x["deep"][0] if isinstance(x, dict) else x), items, store=store, shards=2
    )
    data.unlink()
    assert [info.size for info in in_folder(job)] == [300_000]
    assert manifest.read_job(job).packs[0].size < 10_000
    assert run(job) == [expected] * 3


def test_a_file_larger_than_one_read_arrives_whole(memory, data, monkeypatch):
    job = runwide.scatter(digest, [File(data)], store=memory, shards=1)
    monkeypatch.setattr("runwide.store.file._PIECE", 70_001)
    assert runwide.replay(job, 0)[1] == hashlib.sha256(data.read_bytes()).hexdigest()


def test_an_empty_file_and_one_with_an_odd_name_arrive(memory, tmp_path):
    empty, odd = tmp_path / "empty.csv", tmp_path / ".partial-\n"
    empty.touch()
    odd.write_text("odd")
    job = runwide.scatter(digest, [File(empty), File(odd)], store=memory, shards=1)
    assert [runwide.replay(job, n) for n in range(2)] == [
        (".csv", hashlib.sha256().hexdigest()), ("", hashlib.sha256(b"odd").hexdigest()),
    ]  # fmt: skip


def test_downloaded_files_are_removed_after_the_block(gcs, data):
    job = runwide.scatter(abs, [File(data)], store=gcs, shards=1)
    (file,) = (File(open_store(parse(job).folder).child_uri(info.name), info.name.split("/")[1], info.size)
               for info in in_folder(job))  # fmt: skip
    with file.local() as path:
        assert path.read_bytes() == data.read_bytes()
    assert not path.parent.exists()


@pytest.mark.parametrize("uri", ["gs://bucket/table.parquet", "s3://any/thing"])
def test_a_uri_is_passed_on_and_nothing_is_copied(memory, uri):
    job = runwide.scatter(lambda file: file.uri, [File(uri)], store=memory, shards=1)
    assert in_folder(job) == []
    assert run(job) == [uri]
    with pytest.raises(InputError, match=r"read \.uri with a library"), File(uri).local():
        pass


def test_on_this_containers_cores_a_file_is_its_path(data):
    assert runwide.map(digest, [File(data)], workers=1) == [digest(File(data))]
    assert pickle.loads(pickle.dumps(File(data))) == File(data)


def test_a_map_with_a_store_finds_its_job_by_the_bytes_of_its_files(memory, data):
    def call():
        return runwide.map(digest, [File(data)], store=memory, name="n", workers=1)

    before = call()
    os.utime(data)
    assert call() == before
    data.write_bytes(b"changed")
    with pytest.raises(InputError, match="other items"):
        call()


@pytest.mark.parametrize("kind", ["folder", pytest.param("bucket", marks=pytest.mark.gcs)])
def test_a_file_that_was_changed_in_the_store_is_refused(kind, gcs, gcs_server, data, tmp_path):
    store = gcs if kind == "bucket" else str(tmp_path / "store")
    job = runwide.scatter(digest, [File(data)], store=store, shards=1)
    uri = f"{parse(job).folder}/{in_folder(job)[0].name}"
    changed = bytes(300_000)
    if kind == "bucket":
        gcs_server.put(uri.removeprefix("gs://bucket/"), changed)
    else:
        Path(uri).write_bytes(changed)
    with pytest.raises(DigestMismatch, match="not the one that was spilled"):
        run(job)


def test_a_file_that_is_not_there_is_named_before_anything_runs(memory):
    with pytest.raises(ItemNotPicklable, match=r"item 1: .*No such file.*nowhere") as caught:
        runwide.scatter(digest, ["x", File("nowhere.csv")], store=memory, shards=1)
    assert caught.value.item == 1
    with pytest.raises(InputError):
        File("")


def test_a_store_that_is_unavailable_while_a_file_is_stored_raises_that_error(memory, data):
    def refuse(method, name, before):
        if "/files/" in name:
            raise StoreUnavailable("away", uri=name)

    with pytest.raises(StoreUnavailable):
        runwide.scatter(digest, [File(data)], store=mount("files", memory, refuse), shards=1)


def test_a_task_reads_the_same_bytes_with_every_store(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("1 2 3")
    job = runwide.scatter(str, [File(str(path))], store=str(tmp_path / "store"), shards=1)
    _, file = function_and_item(job, 0)
    with file.local() as mine:
        (stored,) = (tmp_path / "store").rglob("files/*/*")
        stored.write_text("4 5 6")
        assert mine.read_text() == "1 2 3"
    with pytest.raises(DigestMismatch), file.local():
        pass
