"""One contract, three stores: memory, a directory, and Google Cloud Storage on a real emulator process."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runwide.store.base import open_store
from runwide.testing.store_contract import StoreContract

if TYPE_CHECKING:
    from runwide.store.memory import MemoryStore

_numbers = itertools.count()


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self):
        return open_store(f"memory://contract-{next(_numbers)}/some/prefix")

    def raw_write(self, store: MemoryStore, name, data):
        store._objects[f"some/prefix/{name}"] = data

    def raw_read(self, store: MemoryStore, name):
        return store._objects[f"some/prefix/{name}"]


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return open_store(f"file://{tmp_path}/some/prefix")

    def raw_write(self, store, name, data):
        path = Path(store.uri, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def raw_read(self, store, name):
        return Path(store.uri, name).read_bytes()


@pytest.mark.gcs
class TestGcsStore(StoreContract):
    @pytest.fixture
    def store(self, gcs, gcs_server):
        self._server = gcs_server
        return open_store(gcs)

    def raw_write(self, store, name, data):
        self._server.put(self._key(store, name), data)

    def raw_read(self, store, name):
        return self._server.get(self._key(store, name))

    def _key(self, store, name):
        return f"{store.uri.removeprefix(f'gs://{self._server.bucket}/')}/{name}"
