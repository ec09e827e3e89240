"""A store in which someone has put folders that only look like jobs, and other things into those that are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import runwide
from runwide import json_text
from runwide.cli.ls import clean_command
from runwide.errors import BadReference, StoreNotWritable
from runwide.job import clean, clean_older, manifest, scatter, status
from runwide.job.housekeeping import older
from runwide.job.reference import parse
from runwide.store import records
from runwide.store.base import open_store
from runwide.store.buffers import sha256
from runwide.testing.stores import mount

OLD = "a-20200101t000000-5f0c61d2a4b98e37"
OTHER = "b-20200101t000000-5f0c61d2a4b98e37"
TREASURE = b"what lies outside"


def square(x):
    return x * x


@pytest.fixture
def outside(tmp_path):
    """A folder beside the store that has what a job has, of which every byte must be there in the end."""
    folder = tmp_path / "outside"
    names = ("job.json", "function.pkl", "items/0000.pack", "shards/0000/chunks/000000.pack", "treasure")
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TREASURE)
    yield folder
    left = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files(folder)}
    assert left == dict.fromkeys(names, TREASURE)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("given", ["{}", "{}/", "file://{}", "{}/job.json#sha256=" + "0" * 64])
@pytest.mark.parametrize("target", ["outside", "job", "nothing", "itself"])
def test_a_link_with_the_name_of_a_job_is_not_cleaned(root, outside, given, target):
    job = runwide.scatter(square, [1], store=root, shards=1)
    place = root / OLD
    targets = {"outside": outside, "job": Path(parse(job).folder), "nothing": root / "no", "itself": place}
    place.symlink_to(targets[target])
    with pytest.raises(BadReference, match="not the folder of a job: this is a link") as caught:
        clean(given.format(place))
    assert caught.value.uri == str(place)
    assert "\n" not in str(caught.value)
    assert older(root, seconds=3600) == clean_older(root, seconds=3600) == []
    assert place.is_symlink()
    assert runwide.gather(job, [runwide.shard(job, 0, workers=1)]) == [1]


@pytest.mark.parametrize("plant", ["link", "link to a job's", "pipe", "folder"])
def test_a_folder_whose_manifest_is_not_a_file_is_not_a_job(root, outside, plant):
    (root / OLD / "shards").mkdir(parents=True)
    place = root / OLD / "job.json"
    {
        "link": lambda: place.symlink_to(outside / "treasure"),
        "link to a job's": lambda: place.symlink_to(outside / "job.json"),
        "pipe": lambda: os.mkfifo(place),
        "folder": place.mkdir,
    }[plant]()
    with pytest.raises(BadReference, match=r"not the folder of a job: this is a .*, not an object"):
        clean(str(root / OLD))
    assert older(root, seconds=3600) == []
    assert sorted(path.name for path in (root / OLD).iterdir()) == ["job.json", "shards"]


FOREIGN = [
    ["notes.txt"],
    ["data/job.json"],
    ["function.pkl", "function.pkl.bak"],
    ["items/0000.pack", "items/0000.pack.txt"],
    ["items/1.pack"],
    ["items/\u0660\u0660\u0660\u0660.pack"],
    ["files/0123/data.csv"],
    ["files/" + "0" * 64],
    ["files/" + "0" * 64 + "/a/b"],
    ["shards/0000/shard.json"],
    ["result.json"],
    ["JOB.JSON"],
]


@pytest.mark.parametrize("names", FOREIGN)
def test_a_folder_that_only_has_the_name_of_a_job_stays(anywhere, names, caplog):
    store = open_store(anywhere)
    for name in names:
        store.create(f"{OLD}/{name}", b"theirs")
    store.create(f"{OTHER}/job.json", b"")
    with pytest.raises(BadReference, match=r"not the folder of a job: it has no job\.json") as caught:
        clean(f"{anywhere}/{OLD}")
    assert caught.value.uri == store.child_uri(OLD)
    assert "\n" not in str(caught.value)
    assert clean_older(anywhere, seconds=3600) == [store.child_uri(OTHER)]
    assert sorted(info.name for info in store.list()) == sorted(f"{OLD}/{name}" for name in names)
    ignored = [record.msg for record in caplog.records if record.msg["event"] == "folder.ignored"]
    assert [line["uri"] for line in ignored] == [store.child_uri(OLD)]


@pytest.mark.parametrize(
    "names",
    [
        ["function.pkl"],
        ["items/0000.pack"],
        ["function.pkl", "items/0000.pack", "items/12345.pack"],
        ["function.pkl", "files/" + "0a" * 32 + "/data 1.csv", "items/0001.pack"],
        ["job.json"],
        ["job.json", "runs/000.json"],
    ],
)
def test_the_objects_of_a_killed_scatter_or_clean_are_cleaned(anywhere, names):
    store = open_store(anywhere)
    for name in names:
        store.create(f"{OLD}/{name}", b"ours")
    assert older(anywhere, seconds=3600) == [store.child_uri(OLD)]
    assert clean(f"{anywhere}/{OLD}") == len(names)
    assert list(store.list()) == []
    assert clean(f"{anywhere}/{OLD}") == 0  # another one may have cleaned it since


def test_the_objects_of_a_scatter_that_was_killed_at_any_moment_are_cleaned(tmp_path, root):
    """Any object may be the last one that a killed scatter writes; some items are files."""
    (tmp_path / "data.csv").write_text("1,2")
    items = [runwide.File(str(tmp_path / "data.csv")), 2, 3]
    written = []
    scatter(square, items, store=mount("moments", str(root), lambda *call: written.append(call)), shards=2)
    assert len(written) == 6
    for number in range(1, len(written) + 1):
        calls = iter(range(number))

        def hook(_method, _name, _before, calls=calls):
            if next(calls, None) is None:
                raise KeyboardInterrupt

        place = root / f"moment-{number}"
        if number < len(written):
            with pytest.raises(KeyboardInterrupt):
                scatter(square, items, store=mount(f"moment-{number}", str(place), hook), shards=2)
        else:
            scatter(square, items, store=place, shards=2)
        assert len(clean_older(place, seconds=-60)) == 1
        assert list(place.iterdir()) == []


def test_clean_deletes_the_whole_job_and_nothing_outside_it(root, outside):
    job = runwide.scatter(square, range(4), store=root, shards=2)
    runwide.shard(job, 0, workers=1)
    other = runwide.scatter(square, [1], store=root, shards=1)
    folder = Path(parse(job).folder)
    for place in (folder, folder / "shards", folder / "shards/0000", folder / "shards/0000/chunks"):
        (place / "folder").symlink_to(outside)
        (place / "file").symlink_to(outside / "treasure")
        (place / "up").symlink_to("..")
        (place / "other").symlink_to(parse(other).folder)
        (place / "loop").symlink_to("loop")
        os.mkfifo(place / "pipe")
        Path(os.fsdecode(os.fsencode(place) + b"/\xff")).write_bytes(b"")
        (place / "empty/deep").mkdir(parents=True)
    (folder / "shards/0001").symlink_to(outside)
    assert clean(job) == 8
    assert [str(path) for path in root.iterdir()] == [parse(other).folder]
    assert runwide.gather(other, [runwide.shard(other, 0, workers=1)]) == [1]


@pytest.mark.parametrize(
    "name",
    [
        "a-" + "9" * 5000 + "t000000-5f0c61d2a4b98e37",
        "a-20200101t" + "0" * 5000 + "-5f0c61d2a4b98e37",
        "a-\u0662\u0660\u0662\u0660\u0660\u0661\u0660\u0661t\u0660\u0660\u0660\u0660\u0660\u0660-5f0c61d2a4b98e37",
        "a-20200132t000000-5f0c61d2a4b98e37",
        "a-00000101t000000-5f0c61d2a4b98e37",
        "a-20200101t246060-5f0c61d2a4b98e37",
        "A-20200101T000000-0123456789ABCDEF",
        OLD + "\n",
        OLD + "\x1b[31m",
        "\x00" + OLD,
        OLD + "-1",
    ],
)
def test_a_name_that_only_resembles_a_job_id_is_rejected(memory, name):
    store = open_store(memory)
    store.create("else", b"")
    store._objects[f"{name}/job.json"] = b"theirs"  # which anyone may call it who can write to the store
    assert older(memory, seconds=3600) == clean_older(memory, seconds=3600) == []
    assert f"{name}/job.json" in store._objects


def refusing(store, refused):
    """A store in which some objects may not be deleted."""

    def hook(method, name, _before):
        if method == "delete" and name.endswith(refused):
            raise StoreNotWritable("it is on hold", uri=name, hint="wait until it is not")

    return mount(f"holds-{store.rpartition('/')[2]}", store, hook)


def test_objects_that_may_not_be_deleted_are_one_error_and_all_others_are_deleted(memory):
    job = runwide.scatter(square, range(40), store=memory, shards=4)
    uri = f"{refusing(memory, ('items/0001.pack', 'items/0003.pack'))}/{manifest.read_job(job).id}"
    with pytest.raises(StoreNotWritable, match=r"2 of 6 objects could not be deleted.*on hold") as caught:
        clean(uri)
    assert "\n" not in str(caught.value)
    assert caught.value.uri == uri
    left = {info.name.partition("/")[2] for info in open_store(memory).list()}
    assert left == {"items/0001.pack", "items/0003.pack", "job.json"}
    assert clean(job) == 3


def test_a_job_that_cannot_be_deleted_does_not_stop_the_deletion_of_others(memory):
    for name in (OLD, OTHER):
        open_store(memory).create(f"{name}/function.pkl", b"")
        open_store(memory).create(f"{name}/job.json", b"")
    with pytest.raises(StoreNotWritable, match="1 of 1 objects"):
        clean_older(refusing(memory, f"{OLD}/function.pkl"), seconds=3600)
    assert [info.name for info in open_store(memory).list()] == [f"{OLD}/function.pkl", f"{OLD}/job.json"]


def test_the_command_goes_on_with_the_other_jobs_too(memory):
    for name in (OLD, OTHER):
        open_store(memory).create(f"{name}/function.pkl", b"")
    words = ["--yes", "--older-than", "1s", refusing(memory, f"{OLD}/function.pkl")]
    done = CliRunner().invoke(clean_command, words)
    assert isinstance(done.exception, StoreNotWritable)
    assert "deleted 1 objects" in done.output
    assert [info.name for info in open_store(memory).list()] == [f"{OLD}/function.pkl"]


def planted(about, index, **changes):
    """A manifest of a shard that is right but for some fields."""
    right = {
        "chunks": [],
        "failures": [],
        "format": records.FORMAT,
        "kind": "shard",
        "mac": "0" * 64,
        "owner": about.digest,
        "place": str(index),
    }
    return json_text.dumps({**right, **changes})


MANIFESTS = {
    "nothing": lambda about: b"",
    "garbage": lambda about: bytes(range(256)),
    "a number": lambda about: b"1",
    "a list": lambda about: b"[]",
    "null": lambda about: b"null",
    "deep JSON": lambda about: b"[" * 200_000,
    "deep objects": lambda about: b'{"a":' * 200_000,
    "no items": lambda about: planted(about, 1),
    "another shard's": lambda about: planted(about, 0),
    "another job's": lambda about: planted(about, 1, owner=sha256(b"")),
    "a newer format": lambda about: planted(about, 1, format=2),
    "a format of text": lambda about: planted(about, 1, format="1"),
    "another kind": lambda about: planted(about, 1, kind="job"),
    "a forged span": lambda about: planted(
        about, 1, chunks=[{"name": "x", "size": 1, "digest": "0", "items": [[2, 1 << 60]]}]
    ),
    "no chunks": lambda about: planted(about, 1, chunks=None),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_shard_whose_manifest_is_not_its_own_has_not_finished(memory, kind, caplog):
    job = runwide.scatter(square, range(4), store=memory, shards=2)
    about = manifest.read_job(job)
    store = open_store(memory)
    store.create(f"{about.id}/shards/0001/shard.json", MANIFESTS[kind](about))
    found = status(job)
    assert [(one.finished, one.failed) for one in found.shards] == [(False, 0)] * 2
    assert (found.finished, found.failed) == (0, 0)
    ignored = [record.msg for record in caplog.records if record.msg["event"] == "manifest.ignored"]
    assert [line["uri"] for line in ignored] == [store.child_uri(f"{about.id}/shards/0001/shard.json")]
    assert ignored[0]["cause"]


@pytest.mark.parametrize("plant", ["sparse", "link", "pipe", "folder", "linked folder"])
def test_status_ignores_objects_that_are_not_manifests(root, outside, plant):
    job = runwide.scatter(square, range(4), store=root, shards=2)
    folder = Path(parse(job).folder, "shards/0001")
    if plant != "linked folder":
        folder.mkdir(parents=True)
    place = folder / "shard.json"
    {
        "sparse": lambda: (place.touch(), os.truncate(place, 1 << 40)),
        "link": lambda: place.symlink_to(outside / "treasure"),
        "pipe": lambda: os.mkfifo(place),
        "folder": place.mkdir,
        "linked folder": lambda: (folder.parent.mkdir(exist_ok=True), folder.symlink_to(outside)),
    }[plant]()
    assert [one.finished for one in status(job).shards] == [False, False]


def test_status_counts_only_the_chunks_of_existing_shards(memory):
    job = runwide.scatter(square, range(4), store=memory, shards=2)
    store = open_store(memory)
    folder = manifest.read_job(job).id
    for shard in ("0001", "9" * 5000, "01", "\u0660\u0660\u0660\u0661", "00001", "0002", "1e3", "-001"):
        store.create(f"{folder}/shards/{shard}/chunks/000000.pack", b"theirs")
    store.create(f"{folder}/shards/0001/chunks/{'9' * 5000}.pack", b"theirs")
    assert [one.chunks for one in status(job).shards] == [0, 2]
