"""Stores for jobs: one in memory, one in a directory, and Google's on a real emulator."""

from __future__ import annotations

import itertools

import pytest

from runwide.testing.plugin import gcs, gcs_server

__all__ = ["gcs", "gcs_server"]

_numbers = itertools.count()


@pytest.fixture
def memory():
    return f"memory://jobs-{next(_numbers)}"


@pytest.fixture(params=["memory", "local", pytest.param("gcs", marks=pytest.mark.gcs)])
def anywhere(request, tmp_path, gcs_server):
    """The URI of each kind of store in turn; the server is named here so that it starts before the test does."""
    if request.param == "local":
        return str(tmp_path / "store")
    return request.getfixturevalue(request.param)
