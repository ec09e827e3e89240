"""A store that another package adds is one file: retries, rates and errors come with its base class."""

from __future__ import annotations

import importlib.metadata
import itertools
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import runwide
from runwide.errors import (
    BadReference,
    InputError,
    IntegrityError,
    ObjectExists,
    StoreError,
    StoreNotFound,
    StoreNotReadable,
    StoreNotWritable,
    StoreUnavailable,
)
from runwide.store import schemes
from runwide.store.base import open_store
from runwide.store.meaning import Broken, Damaged, Meaning
from runwide.store.remote import Page, RemoteStore
from runwide.testing.sqlite import SqliteStore
from runwide.testing.store_contract import StoreContract

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
SECTION = f'[project.entry-points."{schemes.GROUP}"]'
_numbers = itertools.count()


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = open_store(f"sqlite://{tmp_path}/objects.db/some/prefix")
        store.create("first", b"")  # makes the file and its table
        store.delete("first")
        return store

    def raw_write(self, store, name, data):
        with closing(sqlite3.connect(store._file, isolation_level=None)) as database:
            database.execute("REPLACE INTO objects VALUES (?, ?, 0)", (f"some/prefix/{name}", data))

    def raw_read(self, store, name):
        query = "SELECT data FROM objects WHERE key = ?"
        with closing(sqlite3.connect(store._file)) as database:
            row = database.execute(query, (f"some/prefix/{name}",)).fetchone()
        if row is None:
            raise KeyError(name)
        return bytes(row[0])


@pytest.fixture
def uri(tmp_path):
    return f"sqlite://{tmp_path}/objects.db"


def test_a_map_keeps_its_results_in_the_store(uri, tmp_path):
    """The second call reads them back: the function has left a mark for each run."""

    def square(x):
        with (tmp_path / "runs").open("a") as file:
            file.write("x")
        return x * x

    for _ in range(2):
        assert runwide.map(square, [1, 2, 3], store=uri, name="squares", workers=1) == [1, 4, 9]
    assert (tmp_path / "runs").read_text() == "xxx"


def test_a_job_runs_over_two_shards_in_programs_of_their_own(uri):
    """A shard gets the URI alone, and finds the store by its scheme."""
    job = runwide.scatter(abs, [-1, -2, -3, -4], store=uri, shards=2)
    program = "import runwide, sys; print(runwide.shard(sys.argv[1], int(sys.argv[2]), workers=1))"
    shards = [
        subprocess.run(
            [sys.executable, "-c", program, job, str(index)], check=True, capture_output=True, text=True
        ).stdout.strip()
        for index in range(2)
    ]
    assert runwide.gather(job, shards) == [1, 2, 3, 4]


@pytest.mark.parametrize("path", ["relative.db", "/folder/objects", "/folder/objects.dbx", ""])
def test_a_path_without_a_sqlite_file_is_refused(path):
    with pytest.raises(BadReference, match="not the path of a SQLite file"):
        open_store(f"sqlite://{path}")


def test_a_file_that_cannot_be_written_is_reported_with_its_remedy(uri, tmp_path):
    (tmp_path / "objects.db").mkdir()  # refused for every user, root too
    with pytest.raises(StoreNotWritable, match="unable to open") as caught:
        open_store(uri).create("object", b"x")
    assert caught.value.uri == f"{uri}/object"
    assert "writable" in caught.value.hint


class Refused(Exception):
    """An exception of an imagined library."""


class PlannedStore(RemoteStore):
    """A store in a dict, whose requests first raise the exceptions that a test has planned."""

    def __init__(self):
        super().__init__(f"planned://{next(_numbers)}")
        self.objects, self.faults, self.requests = {}, [], 0

    def meaning(self, error):
        if isinstance(error, KeyError):
            return Meaning.ABSENT
        return error.args[0] if isinstance(error, Refused) else None

    def _request(self):
        self.requests += 1
        if self.faults:
            raise self.faults.pop(0)

    def put(self, key, parts):
        if key in self.objects:
            raise Refused(Meaning.EXISTS)
        lost = [fault for fault in self.faults if isinstance(fault, Broken)]
        if lost:  # the object is stored and the answer is lost
            self.objects[key] = b"".join(parts)
        self._request()
        self.objects[key] = b"".join(parts)

    def get(self, key, wanted):
        self._request()
        data = self.objects[key]
        return data[wanted.start : wanted.stop(len(data))]

    def page(self, prefix, start, token):
        self._request()
        names = sorted(
            name for name in self.objects if name.startswith(prefix) and name >= max(start, token or "")
        )
        return Page(
            [(name, len(self.objects[name]), 0.0) for name in names[:2]], [], names[2] if names[2:] else None
        )

    def remove(self, key):
        self._request()
        del self.objects[key]


@pytest.fixture
def planned(monkeypatch):
    monkeypatch.setattr("google.api_core.retry.retry_unary.time.sleep", lambda _: None)
    return PlannedStore()


@pytest.mark.parametrize(
    "fault", [Refused(Meaning.TRANSIENT), Refused(Meaning.SLOW_DOWN), Broken(), Damaged(), ConnectionError(), TimeoutError()]
)  # fmt: skip
def test_a_transient_fault_is_repeated(planned, fault):
    for use in (
        lambda: planned.create("object", b"x"),
        lambda: planned.read("object"),
        lambda: list(planned.list()),
        lambda: planned.delete("object"),
    ):
        planned.faults += [fault] * 3
        use()
    assert not planned.faults


def test_an_object_whose_acknowledgement_was_lost_is_not_sent_again(planned):
    planned.faults.append(Broken())
    planned.create("object", b"x")
    assert planned.requests == 2  # the upload, and a look whether it is there


@pytest.mark.parametrize("other", [b"y", b"xy", b""])
def test_other_bytes_that_are_there_stay(planned, other):
    planned.create("object", other)
    planned.faults.append(Refused(Meaning.TRANSIENT))
    with pytest.raises(ObjectExists):
        planned.create("object", b"x")
    assert planned.objects["object"] == other


@pytest.mark.parametrize(
    ("meaning", "writing", "ours"),
    [
        (Meaning.ABSENT, True, StoreNotFound),
        (Meaning.DENIED, True, StoreNotWritable),
        (Meaning.DENIED, False, StoreNotReadable),
        (Meaning.TRANSIENT, False, StoreUnavailable),
        (Meaning.OTHER, True, StoreError),
    ],
)
def test_a_meaning_becomes_one_of_our_errors(planned, meaning, writing, ours, monkeypatch):
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "1")
    planned.objects["object"] = b"x"
    planned.faults += [Refused(meaning)] * 1000
    with pytest.raises(ours) as caught:
        planned.create("other", b"x") if writing else planned.read("object")
    assert type(caught.value) is ours
    assert caught.value.uri == f"{planned.uri}/{'other' if writing else 'object'}"


def test_an_exception_without_a_meaning_passes_unchanged(planned):
    planned.faults.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        planned.read("object")


def test_answers_that_stay_damaged_end_the_call(planned):
    planned.faults += [Damaged("other bytes")] * 5
    with pytest.raises(IntegrityError, match="damaged on the way 5 times"):
        planned.read("object")


def test_a_request_to_slow_down_halves_the_rate(planned):
    limiter = planned.traffic().writes
    before = limiter._pace.rate(limiter._clock())
    planned.faults.append(Refused(Meaning.SLOW_DOWN))
    planned.create("object", b"x")
    assert limiter._pace.rate(limiter._clock()) < before * 0.6


def test_a_listing_goes_over_pages(planned):
    for number in range(5):
        planned.create(f"object-{number}", b"x")
    assert len(list(planned.list())) == 5


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is installed, with an entry point for a scheme."""

    def install(scheme, value, module=""):
        about = tmp_path / f"{scheme}_store-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}-store\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[{schemes.GROUP}]\n{scheme} = {value}\n")
        if module:
            (tmp_path / f"{value.partition(':')[0]}.py").write_text(module)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(schemes, "_registered", {})

    return install


def test_a_package_adds_a_scheme(package, tmp_path):
    package(
        "elsewhere",
        "elsewhere_store:Store",
        "from runwide.testing.sqlite import SqliteStore\nclass Store(SqliteStore): pass\n",
    )
    store = open_store(f"elsewhere://{tmp_path}/objects.db/runs")
    assert isinstance(store, SqliteStore)
    assert type(store).__module__ == "elsewhere_store"


def test_a_scheme_that_cannot_be_loaded_is_named_with_its_package(package):
    package("broken", "no_such_module:Store")
    with pytest.raises(InputError, match=r"broken://.*no_such_module:Store.*ModuleNotFoundError") as caught:
        open_store("broken://bucket/runs")
    assert "install the package" in caught.value.hint


INCOMPLETE = """
from runwide.store.remote import RemoteStore
class Incomplete(RemoteStore):
    def __init__(self, path):
        super().__init__(f"bad://{path}")
def five(path): return 5
def none(path): pass
def raises(path): raise KeyError("no client")
number = 5
"""


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("Incomplete", "TypeError: Can't instantiate abstract class Incomplete"),
        ("five", "it returned an object of the type int, not a Store"),
        ("none", "it returned None, not a Store"),
        ("raises", "KeyError: 'no client'"),
        ("number", "TypeError: 'int' object is not callable"),
    ],
)
def test_a_fault_of_a_stores_author_is_one_error_with_entry_point_package_and_cause(package, name, cause):
    package("bad", f"bad_store:{name}", INCOMPLETE)
    with pytest.raises(InputError) as caught:
        open_store("bad://bucket/runs")
    assert caught.value.message.startswith("the store for bad:// cannot be opened: entry point bad = ")
    assert f"'bad_store:{name}' of the package bad-store: {cause}" in caught.value.message
    assert "docs/stores.md" in caught.value.hint


def test_an_error_of_runwide_that_a_store_raises_passes_unchanged(package):
    package("short", "runwide.testing.sqlite:SqliteStore")
    with pytest.raises(BadReference, match="not the path of a SQLite file"):
        open_store("short://relative.db")


def test_an_unknown_scheme_is_refused_with_the_known_ones(package):
    package("elsewhere", "elsewhere_store:Store")
    with pytest.raises(
        BadReference, match=r"no store for s3://; known here: .*elsewhere://.*gs://"
    ) as caught:
        open_store("s3://bucket/runs")
    assert schemes.GROUP in caught.value.hint


def test_built_in_schemes_are_found_without_reading_the_metadata_of_packages(monkeypatch):
    monkeypatch.setattr(schemes, "_registered", {})
    monkeypatch.setattr(importlib.metadata, "entry_points", None)
    assert [open_store(uri).uri for uri in ("memory://a", "gs://bucket/a", "/a")] == [
        "memory://a",
        "gs://bucket/a",
        "/a",
    ]


def test_built_in_schemes_are_entry_points_too():
    lines = PROJECT.read_text(encoding="utf-8").partition(SECTION)[2].partition("\n[")[0].splitlines()[1:]
    named = dict(line.replace('"', "").split(" = ") for line in lines if line)
    assert {scheme: named.get(scheme) for scheme in schemes.BUILT_IN} == schemes.BUILT_IN
