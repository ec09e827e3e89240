"""Any sequence of operations leaves a store as it would leave a dict."""

from __future__ import annotations

import itertools
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from runwide.errors import FrameCorrupt, ObjectExists, ObjectNotFound, StoreNotFound
from runwide.store.base import ObjectInfo, open_store

_numbers = itertools.count()

SEGMENT = st.sampled_from(["a", "b", "items", "0001", "x y", "é"])
# A name is either a folder or an object: a directory cannot hold both, and no name of a job needs it.
NAMES = st.builds("{}/{}.pack".format, SEGMENT, SEGMENT) | st.builds("{}.json".format, SEGMENT)
DATA = st.binary(max_size=64) | st.integers(60_000, 70_000).map(lambda size: b"z" * size)


class AgainstADict(RuleBasedStateMachine):
    uri = ""

    def __init__(self):
        super().__init__()
        self.root = f"{self.uri}/{next(_numbers)}"
        self.store = open_store(self.root)
        self.model: dict[str, bytes] = {}

    @rule(name=NAMES, data=DATA, cut=st.integers(0, 64))
    def create(self, name, data, cut):
        if self.model.setdefault(name, data) == data:
            self.store.create(name, [data[:cut], data[cut:]])
        else:
            with pytest.raises(ObjectExists):
                self.store.create(name, data)

    @rule(name=NAMES, start=st.integers(0, 70), length=st.none() | st.integers(0, 70))
    def read(self, name, start, length):
        if name not in self.model:
            with pytest.raises((ObjectNotFound, StoreNotFound)):  # a directory is made with its first object
                self.store.read(name, start=start, length=length)
            return
        data = self.model[name]
        stop = len(data) if length is None else start + length
        if stop > len(data) or (start and start >= len(data)):
            with pytest.raises(FrameCorrupt):
                self.store.read(name, start=start, length=length)
        else:
            assert self.store.read(name, start=start, length=length) == data[start:stop]

    @rule(name=NAMES)
    def delete(self, name):
        self.model.pop(name, None)
        self.store.delete(name)

    @rule(prefix=SEGMENT.map("{}/".format) | SEGMENT | st.just(""))
    def list(self, prefix):
        found = [
            ObjectInfo(name, len(data))
            for name, data in sorted(self.model.items())
            if name.startswith(prefix)
        ]
        assert list(self.store.list(prefix)) == found

    @rule()
    def open_again(self):
        self.store = open_store(self.root)

    @invariant()
    def every_object_is_whole(self):
        for name, data in self.model.items():
            assert self.store.read(name) == data


def run(uri, *, examples):
    machine = type("Machine", (AgainstADict,), {"uri": uri})
    quiet = settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(machine, settings=quiet)


def test_a_memory_store_behaves_as_a_dict():
    run("memory://against-a-dict", examples=60)


def test_a_local_store_behaves_as_a_dict():
    folder = tempfile.mkdtemp()
    try:
        run(folder, examples=60)
    finally:
        shutil.rmtree(folder)


@pytest.mark.gcs
def test_a_gcs_store_behaves_as_a_dict(gcs):
    run(gcs, examples=25)


def test_a_store_that_a_package_adds_behaves_as_a_dict(tmp_path):
    run(f"sqlite://{tmp_path}/objects.db", examples=10)
