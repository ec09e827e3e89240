"""The contract of stores as tests: inherit `StoreContract`, define how to open the store, and run it with pytest."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from runwide.errors import BadReference, FrameCorrupt, ObjectExists, ObjectNotFound
from runwide.store.base import ObjectInfo, Store, open_inside, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

BAD_NAMES = ("", "/absolute", "../up", "a/../../up", "a//b", ".", "a/.", "trailing/", "a\0b", "a/.partial-1")


class StoreContract(ABC):
    """The contract as tests. Each test gets an empty store from the fixture ``store``, which a subclass defines.

    The raw methods must not use the store under test.
    """

    @abstractmethod
    def raw_write(self, store: Store, name: str, data: bytes) -> None:
        """Write an object without the store, and replace one that is there."""

    @abstractmethod
    def raw_read(self, store: Store, name: str) -> bytes:
        """Read an object without the store."""

    def test_others_read_the_bytes_that_were_written(self, store: Store) -> None:
        """Bytes arrive unchanged, and under the name that was given."""
        store.create("folder/object", b"\x00\xff" * 1000)
        assert self.raw_read(store, "folder/object") == b"\x00\xff" * 1000

    def test_bytes_that_others_wrote_are_read(self, store: Store) -> None:
        """An object needs no metadata of ours."""
        self.raw_write(store, "object", b"theirs")
        assert store.read("object") == b"theirs"

    def test_parts_are_joined_in_order(self, store: Store) -> None:
        """Bytes, bytearrays and views of any item size are one object."""
        words = memoryview(bytearray(range(16))).cast("I")
        store.create("object", [b"head", bytearray(b""), words, memoryview(b"tail")])
        assert store.read("object") == b"head" + bytes(range(16)) + b"tail"

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        """Its size is 0."""
        store.create("empty", b"")
        assert store.read("empty") == b""
        assert list(store.list()) == [ObjectInfo("empty", 0)]

    def test_names_may_have_any_printable_character(self, store: Store) -> None:
        """Characters that are special in URLs and shells are not special in names."""
        for name in ("a b", "a%20b", "a+b", "ä/ö", "a?b=c&d", "a#b", "'\"", "~"):
            store.create(name, name.encode())
            assert store.read(name) == name.encode()

    def test_read_gives_memory_that_may_be_written_to(self, store: Store) -> None:
        """Arrays that are views of it are writable."""
        store.create("object", b"abc")
        found = store.read("object")
        found[0] = ord("x")
        assert store.read("object") == b"abc"

    @pytest.mark.parametrize(("start", "length"), [(0, 10), (0, 1), (3, 4), (9, 1), (5, None), (4, 0)])
    def test_a_range_is_exactly_that_range(self, store: Store, start: int, length: int | None) -> None:
        """Ranges are counted in bytes from 0."""
        store.create("object", b"0123456789")
        stop = 10 if length is None else start + length
        assert store.read("object", start=start, length=length) == b"0123456789"[start:stop]

    @pytest.mark.parametrize(("start", "length"), [(0, 11), (5, 6), (10, 1), (12, None), (12, 1)])
    def test_a_range_past_the_end_is_an_error_not_a_shorter_answer(
        self, store: Store, start: int, length: int | None
    ) -> None:
        """The caller relies on the number of bytes that it asked for."""
        store.create("object", b"0123456789")
        with pytest.raises(FrameCorrupt, match="object ends"):
            store.read("object", start=start, length=length)

    @pytest.mark.parametrize(("start", "length"), [(0, None), (0, 10), (4, 6), (4, None), (9, 1)])
    def test_a_read_may_be_as_large_as_it_is_expected_to_be(
        self, store: Store, start: int, length: int | None
    ) -> None:
        """The limit is the largest size that is right, and counts the bytes of the range."""
        store.create("object", b"0123456789")
        stop = 10 if length is None else start + length
        found = store.read("object", start=start, length=length, most=stop - start)
        assert found == b"0123456789"[start:stop]

    @pytest.mark.parametrize(("start", "length"), [(0, None), (0, 10), (4, 6), (4, None), (9, 1)])
    def test_an_object_that_is_larger_than_expected_is_refused_with_its_size(
        self, store: Store, start: int, length: int | None
    ) -> None:
        """No memory is allocated for it: anyone who may write to the store could put a terabyte there."""
        store.create("object", b"0123456789")
        size = (10 if length is None else start + length) - start
        with pytest.raises(
            FrameCorrupt, match=f"has {size} bytes.*, at most {size - 1} are expected"
        ) as caught:
            store.read("object", start=start, length=length, most=size - 1)
        assert caught.value.uri == store.child_uri("object")

    def test_a_limit_of_the_size_does_not_hide_that_an_object_is_missing_or_short(self, store: Store) -> None:
        """Other errors stay the same with a limit."""
        store.create("object", b"0123456789")
        with pytest.raises(ObjectNotFound):
            store.read("missing", most=0)
        with pytest.raises(FrameCorrupt, match="object ends"):
            store.read("object", start=5, length=6, most=1)
        assert store.read("object", length=0, most=0) == b""

    def test_a_missing_object_is_named(self, store: Store) -> None:
        """The error is a FileNotFoundError with the object's URI."""
        store.create("other", b"")
        with pytest.raises(ObjectNotFound) as caught:
            store.read("missing")
        assert isinstance(caught.value, FileNotFoundError)
        assert caught.value.uri == store.child_uri("missing")

    def test_the_same_bytes_again_are_success(self, store: Store) -> None:
        """So a create whose acknowledgement was lost can be repeated."""
        store.create("object", b"abc")
        store.create("object", [b"a", b"bc"])

    @pytest.mark.parametrize("other", [b"abd", b"ab", b"abcd", b""])
    def test_other_bytes_are_refused_and_the_first_stay(self, store: Store, other: bytes) -> None:
        """The error is a FileExistsError with the object's URI."""
        store.create("object", b"abc")
        with pytest.raises(ObjectExists) as caught:
            store.create("object", other)
        assert isinstance(caught.value, FileExistsError)
        assert caught.value.uri == store.child_uri("object")
        assert store.read("object") == b"abc"

    def test_of_many_writers_one_succeeds_and_the_others_get_an_error(self, store: Store) -> None:
        """If many create the same name at once, the bytes of one of them are there and stay."""

        def write(number: int) -> bool:
            try:
                store.create("object", bytes([number]) * 100_000)
            except ObjectExists:
                return False
            return True

        won = _at_once(write)
        assert sum(won) == 1
        assert store.read("object") == bytes([won.index(True)]) * 100_000

    def test_of_many_writers_of_the_same_bytes_all_succeed(self, store: Store) -> None:
        """Two copies of one shard do not disturb each other."""
        assert _at_once(lambda _: store.create("object", b"same" * 10_000) is None) == [True] * _WRITERS

    def test_a_list_is_sorted_and_has_sizes(self, store: Store) -> None:
        """Names are compared as text, folders and all."""
        for name in ("b", "a/2", "a/10", "a-", "c/d/e"):
            store.create(name, name.encode())
        assert list(store.list()) == [
            ObjectInfo(name, len(name)) for name in ("a-", "a/10", "a/2", "b", "c/d/e")
        ]

    def test_a_listing_has_the_time_of_writing(self, store: Store) -> None:
        """As Unix time; 0 in a store that does not know."""
        store.create("object", b"")
        (info,) = store.list()
        assert info.written == 0 or abs(info.written - time.time()) < 3600  # noqa: PLR2004 - clocks may differ

    def test_folders_are_listed_without_their_objects(self, store: Store) -> None:
        """Each folder once, in their order, and no objects."""
        for name in ("jobs/b-2/job.json", "jobs/b-2/items/000.pack", "jobs/a-1/job.json", "jobs/b", "c/d"):
            store.create(name, b"")
        assert list(store.folders()) == ["c", "jobs"]
        assert list(store.sub("jobs").folders()) == ["a-1", "b-2"]
        assert list(store.sub("jobs").folders("b-")) == ["b-2"]
        assert list(store.sub("jobs/none").folders()) == []

    def test_a_prefix_is_a_start_of_names(self, store: Store) -> None:
        """It need not end at a folder."""
        for name in ("shards/0001/a", "shards/0010/b", "shards/0011/c", "other"):
            store.create(name, b"")
        names = [
            [info.name for info in store.list(prefix)]
            for prefix in ("shards/001", "shards/0001/", "shards", "x/y")
        ]
        assert names == [
            ["shards/0010/b", "shards/0011/c"],
            ["shards/0001/a"],
            ["shards/0001/a", "shards/0010/b", "shards/0011/c"],
            [],
        ]

    def test_a_list_begins_at_a_name(self, store: Store) -> None:
        """Names before it are left out, also below a prefix."""
        for name in ("a/1", "a/2", "a/3/x", "b/1"):
            store.create(name, b"")
        found = {start: [one.name for one in store.list("a/", start=start)] for start in ("a/2", "a/21", "b")}
        assert found == {"a/2": ["a/2", "a/3/x"], "a/21": ["a/3/x"], "b": []}
        assert [one.name for one in store.sub("a").list(start="2")] == ["2", "3/x"]

    def test_a_long_list_is_complete(self, store: Store) -> None:
        """Services answer in pages of a thousand."""
        names = [f"object-{number:04d}" for number in range(1203)]
        for name in names:
            self.raw_write(store, name, b"")
        assert [info.name for info in store.list("object-")] == names

    def test_a_deleted_object_is_gone_and_may_be_written_again(self, store: Store) -> None:
        """Deleting twice is fine."""
        store.create("a/object", b"old")
        store.delete("a/object")
        store.delete("a/object")
        assert list(store.list()) == []
        store.create("a/object", b"new")
        assert store.read("a/object") == b"new"

    def test_a_sub_store_is_the_same_store_below_a_prefix(self, store: Store) -> None:
        """Names are shorter there, URIs are whole."""
        sub = store.sub("a/b")
        sub.create("c", b"abc")
        assert store.read("a/b/c") == b"abc"
        assert list(sub.list()) == [ObjectInfo("c", 3)]
        assert sub.child_uri("c") == store.child_uri("a/b/c")

    def test_deleting_the_last_object_of_a_sub_store_leaves_nothing_behind(self, store: Store) -> None:
        """Other objects beside it stay."""
        store.create("a/other", b"")
        sub = store.sub("a").sub("b")
        sub.create("c/d", b"abc")
        sub.delete("c/d")
        assert list(sub.list()) == []
        assert list(store.list()) == [ObjectInfo("a/other", 0)]

    @pytest.mark.parametrize("levels", [1, 2])
    def test_a_folder_is_opened_inside_of_its_store_by_its_whole_uri(self, store: Store, levels: int) -> None:
        """It is the same store, under the same URI."""
        store.create("a/b/object", b"abc")
        inside = open_inside(store.child_uri("a/b"), levels)
        assert inside.uri == store.child_uri("a/b")
        assert inside.read("object") == b"abc"

    def test_objects_with_invalid_names_are_not_listed_and_are_swept(self, store: Store) -> None:
        """A caller can delete every listed object; `sweep` removes the rest of a folder, and nothing outside of it."""
        for name in ("a/object", "a/bell\a", "a/b/line\u2028", "a/.partial-1", "ab/bell\a"):
            self.raw_write(store, name, b"theirs")
        assert list(store.list()) == [ObjectInfo("a/object", 6)]
        store.sweep("a")
        assert self.raw_read(store, "a/object") == b"theirs"
        assert self.raw_read(store, "ab/bell\a") == b"theirs"
        for name in ("a/bell\a", "a/b/line\u2028", "a/.partial-1"):
            with pytest.raises((OSError, KeyError)):
                self.raw_read(store, name)

    def test_its_uri_opens_the_same_store(self, store: Store) -> None:
        """A URI is all that travels to another component."""
        store.create("object", b"abc")
        assert open_store(store.uri).read("object") == b"abc"
        assert open_store(store.uri + "/").uri == store.uri

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_no_name_leads_out_of_the_store(self, store: Store, name: str) -> None:
        """Every method refuses a name that is not a plain relative path."""
        calls: list[Callable[[], Any]] = [
            lambda: store.create(name, b""),
            lambda: store.read(name),
            lambda: store.delete(name),
            lambda: store.sub(name),
        ]
        for call in calls:
            with pytest.raises(BadReference):
                call()


_WRITERS = 8


def _at_once(function: Callable[[int], bool]) -> list[bool]:
    """Call a function in `_WRITERS` threads that all start together, and return its results."""
    barrier = threading.Barrier(_WRITERS)
    results = [False] * _WRITERS

    def run(index: int) -> None:
        barrier.wait()
        results[index] = function(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
