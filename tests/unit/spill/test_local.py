"""A directory as a store: objects are whole or missing, even if writers are killed."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from runwide.errors import (
    BadReference,
    FrameCorrupt,
    ObjectNotFound,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
)
from runwide.store import local
from runwide.store.base import open_store

NOBODY = 65534

WRITER = """
import sys
from runwide.store.base import open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
for number in range(100000):
    store.create(f"objects/{number}", [bytes([number % 256]) * 1000] * 3000)
"""


@pytest.mark.faults
def test_a_writer_that_is_killed_leaves_whole_objects_or_none(tmp_path):
    moments = random.Random(20261124)
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        store = open_store(str(folder))
        for info in list(store.list()):
            assert info.size == 3_000_000
            number = int(info.name.removeprefix("objects/"))
            assert store.read(info.name) == bytes([number % 256]) * 3_000_000
            store.create(info.name, bytes([number % 256]) * 3_000_000)  # the next writer agrees


def test_partial_files_are_not_objects(tmp_path):
    store = open_store(str(tmp_path))
    store.create("a/object", b"abc")
    Path(tmp_path, "a", ".partial-1-2").write_bytes(b"half")
    assert [info.name for info in store.list()] == ["a/object"]


def test_only_the_object_is_left_after_a_create(tmp_path):
    store = open_store(str(tmp_path))
    store.create("object", b"abc")
    with pytest.raises(StoreError):
        store.create("object", b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_the_directory_is_made_when_the_first_object_is_written(tmp_path):
    store = open_store(f"{tmp_path}/a/b")
    assert not Path(tmp_path, "a").exists()
    store.create("object", b"")
    assert Path(tmp_path, "a/b/object").exists()


def test_deleting_the_last_object_of_a_folder_deletes_the_folder_but_not_the_store(tmp_path):
    store = open_store(str(tmp_path))
    store.create("a/b/object", b"")
    store.delete("a/b/object")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_and_a_missing_object_have_different_errors(tmp_path):
    with pytest.raises(StoreNotFound, match="mounted here"):
        open_store(f"{tmp_path}/nowhere").read("object")
    with pytest.raises(ObjectNotFound):
        open_store(str(tmp_path)).read("object")


def test_a_path_below_a_file_cannot_be_written(tmp_path):
    Path(tmp_path, "file").write_bytes(b"")
    with pytest.raises(StoreNotWritable, match="choose another store"):
        open_store(f"{tmp_path}/file/store").create("object", b"")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, StoreNotWritable),
        (errno.EROFS, StoreNotWritable),
        (errno.EPERM, StoreNotWritable),
        (errno.ENOSPC, StoreError),
        (errno.EIO, StoreError),
    ],
)
def test_an_error_of_the_system_names_the_object(number, kind):
    # As root, and without a full disk, the system refuses nothing: the mapping is a function of the error.
    error = local._not_writable(OSError(number, os.strerror(number)), "/store/object")
    assert type(error) is kind
    assert error.uri == "/store/object"
    assert error.hint


@pytest.fixture
def anyone():
    """Continue the test as a user who is not root, and return a folder of theirs: root may read and write everything."""
    with tempfile.TemporaryDirectory(prefix="runwide-anyone-") as folder:
        before = os.geteuid()
        user = before or NOBODY
        os.chown(folder, user, -1)
        list(open_store(folder).list())  # modules that are loaded on first use may be readable by root only
        os.seteuid(user)
        try:
            yield Path(folder)
        finally:
            os.seteuid(before)


def test_missing_permissions_are_reported(anyone):
    store = open_store(str(anyone))
    store.create("object", b"abc")
    Path(anyone, "object").chmod(0)
    with pytest.raises(StoreNotReadable):
        store.read("object")
    anyone.chmod(0o500)
    with pytest.raises(StoreNotWritable):
        store.create("other", b"abc")
    anyone.chmod(0o700)


def test_a_folder_is_not_an_object(tmp_path):
    store = open_store(str(tmp_path))
    store.create("a/b", b"")
    with pytest.raises(FrameCorrupt, match="this is a folder, not an object"):
        store.read("a")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "file://relative",
        "s3://bucket/x",
        "gs://",
        "gs:/bucket/x",
        "gs:bucket",
        "file:/x",
        "memory://",
        "a\0b",
    ],
)
def test_a_uri_that_is_not_a_store_is_refused(uri):
    with pytest.raises(BadReference):
        open_store(uri)


def test_a_folder_whose_name_looks_like_a_scheme_is_given_with_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("./gs:").uri == f"{tmp_path}/gs:"


def test_a_path_a_relative_path_and_a_file_uri_are_one_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a b").mkdir()
    assert {open_store(uri).uri for uri in (f"{tmp_path}/a b", "a b", f"file://{tmp_path}/a%20b/")} == {
        f"{tmp_path}/a b"
    }
