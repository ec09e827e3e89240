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
    """A fake-gcs-server process for the whole session."""
    with fake_gcs_server() as emulator:
        yield emulator


@pytest.fixture
def gcs(gcs_server: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty prefix on the emulator, to which Google's client is directed."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "20")  # a test that needs longer has found a fault
    return f"gs://{gcs_server.bucket}/test-{os.getpid()}-{next(_numbers)}"
