"""The emulator, for faults of a bucket."""

from __future__ import annotations

import time
import types
from pathlib import Path

import pytest

from runwide.store import google_auth
from runwide.testing.plugin import gcs, gcs_server

__all__ = ["gcs", "gcs_server"]


@pytest.fixture
def hundredfold(gcs, monkeypatch):
    """The clock by which requests are tried again runs a hundred times as fast."""
    began = time.monotonic()
    _tried_again_by(monkeypatch, lambda: began + (time.monotonic() - began) * 100)
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "900")  # the default


@pytest.fixture
def short_pauses(gcs, monkeypatch):
    """Requests are tried again after a hundredth of the usual time, and the deadline is as far away as ever."""
    _tried_again_by(monkeypatch, time.monotonic)
    monkeypatch.setenv("RUNWIDE_STORE_DEADLINE", "900")  # the default


def _tried_again_by(monkeypatch, monotonic):
    clock = types.SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 100), monotonic=monotonic)
    for name in ("retry_base", "retry_unary"):
        monkeypatch.setattr(google_auth.module(f"google.api_core.retry.{name}"), "time", clock)


class Bomb:
    """Goes off when it is unpickled, in whatever process that is."""

    def __init__(self, folder):
        self.crater = str(folder / "crater")

    def __reduce__(self):
        return (Path.touch, (Path(self.crater),))


@pytest.fixture
def bomb(tmp_path):
    bomb = Bomb(tmp_path)
    yield bomb
    assert not Path(bomb.crater).exists(), "something of the attacker's was unpickled"
