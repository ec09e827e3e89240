"""Fixtures for pytest; import those you need into a conftest."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from runwide.testing.emulator import Emulator, fake_gcs_server

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Emulator]:
    """Run a fake-gcs-server for the whole session."""
    with fake_gcs_server() as emulator:
        yield emulator


@pytest.fixture
def gcs(gcs_server: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Direct Google's client to the emulator, and return the URI of an empty prefix there."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "20")  # a test that needs longer has found a fault
    return f"gs://{gcs_server.bucket}/test-{os.getpid()}-{next(_numbers)}"
