"""The emulator, for faults of a bucket."""

from __future__ import annotations

import time
import types

import pytest

from runwide.spill import library
from runwide.testing.plugin import gcs, gcs_server

__all__ = ["gcs", "gcs_server", "hundredfold"]


@pytest.fixture
def hundredfold(gcs, monkeypatch):
    """The clock by which requests are tried again runs a hundred times as fast."""
    began = time.monotonic()
    clock = types.SimpleNamespace(
        sleep=lambda seconds: time.sleep(seconds / 100),
        monotonic=lambda: began + (time.monotonic() - began) * 100,
    )
    for name in ("retry_base", "retry_unary"):
        monkeypatch.setattr(library.module(f"google.api_core.retry.{name}"), "time", clock)
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "900")  # the default
