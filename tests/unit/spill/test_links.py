"""A directory as a store, with links, pipes and other things that are not objects."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from runwide.errors import FrameCorrupt, ObjectExists, ObjectNotFound, StoreNotFound, StoreNotWritable
from runwide.store import base as stores
from runwide.store.base import ObjectInfo, open_store

TREASURE = b"what lies outside"


@pytest.fixture
def outside(tmp_path):
    """A folder beside the store, which must be unchanged in the end."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "treasure").write_bytes(TREASURE)
    yield folder
    assert [path.name for path in folder.iterdir()] == ["treasure"]
    assert (folder / "treasure").read_bytes() == TREASURE


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def no_descriptor_left_open(descriptors):
    """Check that a store closes all files and folders, also after it has refused something."""
    before = descriptors()
    yield
    assert not descriptors() - before


def bound(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the whole path may be too long for a socket's
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which has no end
    except PermissionError:
        pytest.skip("only root may make devices")


PLANTS = {
    "a link to a file": lambda path, outside: path.symlink_to(outside / "treasure"),
    "a link to a folder": lambda path, outside: path.symlink_to(outside),
    "a link beside it": lambda path, outside: path.symlink_to("good"),
    "a link to nothing": lambda path, outside: path.symlink_to(outside / "nothing"),
    "a loop of links": lambda path, outside: path.symlink_to(path.name),
    "a link to a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, outside: os.mkfifo(path),
    "a socket": lambda path, outside: bound(path),
    "a device": lambda path, outside: device(path),
    "a folder": lambda path, outside: path.mkdir(),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_only_a_regular_file_is_an_object(root, outside, plant):
    store = open_store(root)
    store.create("a/good", b"ours")
    planted = root / "a/object"
    PLANTS[plant](planted, outside)
    before = planted.lstat()
    for options in ({}, {"start": 1}, {"length": 0}, {"most": 4}):
        with pytest.raises(FrameCorrupt, match=r"this is .*, not an object") as caught:
            store.read("a/object", **options)
        assert caught.value.uri == str(planted)
        assert "\n" not in str(caught.value)
    for data in (TREASURE, b"ours", b""):
        with pytest.raises(ObjectExists):
            store.create("a/object", data)
    assert list(store.list()) == [ObjectInfo("a/good", 4)]
    assert (planted.lstat().st_ino, planted.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert sorted(path.name for path in (root / "a").iterdir()) == ["good", "object"]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_link_or_pipe_is_deleted_and_not_its_target(root, outside, plant):
    store = open_store(root)
    (root / "a").mkdir(parents=True)
    PLANTS[plant](root / "a/object", outside)
    store.delete("a/object")
    store.sweep("a")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("inside", [0, 1, 2, 3])
@pytest.mark.parametrize("target", ["outside", "within", "nothing", "itself"])
def test_no_link_to_a_folder_is_followed_at_any_depth(root, outside, depth, inside, target):
    names = ["job", "shards", "0000"]
    plain = open_store(root)
    plain.create("else/shards/0000/theirs", b"theirs")
    link = Path(root, *names[:depth])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to({"within": root / "else", "itself": link}.get(target, tmp(outside, target)))
    store = plain.sub("/".join(names[:inside])) if inside else plain
    name = "/".join([*names[inside:], "treasure"])
    with pytest.raises(FrameCorrupt, match="this is a link, not a folder") as caught:
        store.read(name)
    assert caught.value.uri == str(link)
    with pytest.raises(StoreNotWritable, match=r"this is a link, not a folder.*; remove it") as refused:
        store.create(name, b"ours")
    assert refused.value.uri == str(link)
    for prefix in ("", *("/".join(names[inside:end]) for end in range(inside + 1, 4))):
        assert [info for info in store.list(prefix) if not info.name.startswith("else/")] == []
        assert list(store.list(f"{prefix}/" if prefix else "job")) == []
    store.delete(name)
    assert link.is_symlink()
    if depth > 1:
        plain.sweep("job")
        assert not os.path.lexists(link)
    assert [info.name for info in plain.list()] == ["else/shards/0000/theirs"]


def tmp(outside, target):
    return outside if target == "outside" else outside / "nothing"


def test_a_folder_that_is_a_link_is_not_swept(root, outside):
    root.mkdir()
    (root / "job").symlink_to(outside)
    (root / "job/.partial-1").write_bytes(b"")
    with pytest.raises(StoreNotWritable, match="this is a link, not a folder"):
        open_store(root).sweep("job")
    (outside / ".partial-1").unlink()


@pytest.mark.parametrize("plant", ["a pipe", "a socket", "a file"])
def test_a_link_or_file_in_place_of_a_folder_has_no_objects(root, outside, plant):
    root.mkdir()
    {**PLANTS, "a file": lambda path, _: path.write_bytes(b"")}[plant](root / "a", outside)
    store = open_store(root)
    with pytest.raises(ObjectNotFound):
        store.read("a/object")
    with pytest.raises(StoreNotWritable, match=f"this is {plant}, not a folder"):
        store.create("a/object", b"ours")
    store.delete("a/object")
    with pytest.raises(StoreNotFound):
        store.sub("a").read("object")
    assert [path.name for path in root.iterdir()] == ["a"]


def test_the_path_of_the_store_itself_may_contain_links(tmp_path):
    (tmp_path / "disk/real").mkdir(parents=True)
    (tmp_path / "mnt").symlink_to("disk")
    (tmp_path / "disk/given").symlink_to("real")
    store = open_store(tmp_path / "mnt/given")
    store.create("a/object", b"ours")
    assert store.uri == f"{tmp_path}/mnt/given"
    assert (tmp_path / "disk/real/a/object").read_bytes() == b"ours"
    assert list(store.list()) == [ObjectInfo("a/object", 4)]
    assert store.sub("a").read("object") == b"ours"
    store.delete("a/object")
    assert list((tmp_path / "disk/real").iterdir()) == []
    assert (tmp_path / "disk/given").is_symlink()


def test_a_link_is_not_opened_as_a_job_inside_of_its_store(root, outside):
    root.mkdir()
    (root / "job").symlink_to(outside)
    assert open_store(root / "job").read("treasure") == TREASURE  # a user may well name it
    with pytest.raises(FrameCorrupt, match="a link, not a folder"):
        stores.open_inside(root / "job").read("treasure")
    with pytest.raises(FrameCorrupt, match="a link, not a folder"):
        stores.open_inside(root / "job/deeper", 2).read("treasure")


@pytest.mark.parametrize(
    ("uri", "levels", "opened"),
    [
        ("/job", 1, "/job"),
        ("/store/job/", 1, "/store/job"),
        ("file:///store/a%20b/c", 2, "/store/a b/c"),
        ("gs://bucket/job", 1, "gs://bucket/job"),
        ("gs://bucket/runs/job/shards/", 3, "gs://bucket/runs/job/shards"),
        ("memory://name/job", 1, "memory://name/job"),
    ],
)
def test_a_folder_of_a_store_has_the_uri_by_which_it_was_opened(uri, levels, opened):
    assert stores.open_inside(uri, levels).uri == opened


@pytest.mark.parametrize(
    ("uri", "levels"), [("/", 1), ("/job", 2), ("gs://bucket", 1), ("gs://bucket/job", 2), ("memory://a", 3)]
)
def test_only_a_folder_of_a_store_is_opened_inside_of_it(uri, levels):
    with pytest.raises(stores.BadReference, match="not a folder in a store"):
        stores.open_inside(uri, levels)


def test_names_that_are_not_text_are_left_out_and_swept(root):
    store = open_store(root)
    store.create("a/object", b"")
    for name in (b"a/\xff\xfe", b"a/new\nline", b"a/\x1b[31m"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"theirs")
    bad = Path(os.fsdecode(os.fsencode(root / "a") + b"/\xff"))
    bad.mkdir()
    (bad / "inside").write_bytes(b"theirs")
    assert [info.name for info in store.list()] == ["a/object"]
    store.sweep("a")
    assert [path.name for path in (root / "a").iterdir()] == ["object"]


def dug(folder, depth):
    """Make folders in each other, deeper than any path may be long; a file is at the bottom."""
    descriptor = os.open(folder, os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("bottom", os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)


@pytest.mark.parametrize("depth", [10, 31, 32, 33, 100, 3000])
def test_folders_of_any_depth_are_listed_and_swept(root, depth):
    store = open_store(root)
    store.create("job/object", b"")
    dug(root / "job", depth)
    listed = [info.name for info in store.list()]
    assert listed[-1] == "job/object"
    assert len(listed) == (2 if depth < 32 else 1)
    for name in listed:
        store.delete(name)
    store.sweep("job")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("size", [1 << 40, 1 << 43])
def test_a_sparse_file_is_refused_before_memory_is_taken(root, size):
    root.mkdir()
    with Path(root, "object").open("wb") as file:
        file.truncate(size)
    store = open_store(root)
    for options in ({}, {"start": 10}, {"length": size}, {"start": 7, "length": size - 7}):
        with pytest.raises(
            FrameCorrupt, match=r"the object has \d+ bytes.*, more than the \d+ bytes of memory"
        ):
            store.read("object", **options)
        with pytest.raises(FrameCorrupt, match=r"the object has \d+ bytes.*, at most 1000 are expected"):
            store.read("object", **options, most=1000)
    assert store.read("object", start=size - 10, length=10, most=10) == bytes(10)
    assert store.read("object", start=size - 10, most=10) == bytes(10)
    with pytest.raises(ObjectExists):
        store.create("object", b"ours")


def test_folders_that_others_remove_are_made_again(root):
    store = open_store(root)
    store.create("stays", b"")

    def write(number):
        for _ in range(150):
            store.create(f"a/b/c/{number}", b"ours")
            store.delete(f"a/b/c/{number}")

    in_threads(write, 4)
    assert [info.name for info in store.list()] == ["stays"]
    assert [path.name for path in root.iterdir()] == ["stays"]


def test_a_folder_that_turns_into_a_link_now_and_then_leads_nowhere_else(root, outside):
    """Nothing is written, read, listed or deleted outside, whenever the link is put there."""
    store = open_store(root)
    store.create("else", b"")
    over = threading.Event()

    def swap(_):
        for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
            for step in (
                (root / "a").mkdir,
                lambda number=number: (root / "a").rename(root / f"old-{number}"),
                lambda: (root / "a").symlink_to(outside),
                (root / "a").unlink,
            ):
                with contextlib.suppress(OSError):  # the other thread may have made the folder
                    step()

    def use(_):
        try:
            for number in range(1000):
                attempt(lambda number=number: store.create(f"a/{number}", b"ours"))
                attempt(lambda number=number: store.delete(f"a/{number}"))
                attempt(lambda: store.delete("a/treasure"))
                attempt(lambda: found.append(bytes(store.read("a/treasure"))))
                found.extend(info.name for info in store.list("a/") if info.name == "a/treasure")
        finally:
            over.set()

    def attempt(call):
        with contextlib.suppress(FrameCorrupt, OSError):
            call()

    found = []
    in_threads(lambda number: (swap, use)[number](number), 2)
    assert found == []


def in_threads(function, number):
    errors = []

    def run(index):
        try:
            function(index)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
