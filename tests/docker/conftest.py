"""Fixtures of the tests of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import wheels

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def wheel(tmp_path):
    """Make a small wheel with one module and further files, in a folder that every user can read."""

    def make(name: str, version: str, text: str, *, more: dict[str, str] | None = None) -> Path:
        path = wheels.written(tmp_path, name, version, text, more)
        tmp_path.chmod(0o755)
        path.chmod(0o644)
        return path

    return make
