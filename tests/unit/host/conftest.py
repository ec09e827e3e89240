"""The recorded machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from runwide.host.measuring import recording

TREES = Path(__file__).parents[2] / "fixtures" / "host"


@pytest.fixture
def machine(tmp_path):
    """A function that unpacks a recorded machine, changes some of its files, and gives its root."""

    def unpack(name: str, **changes: str | None) -> Path:
        root = recording.unpack((TREES / f"{name}.tree").read_text(encoding="utf-8"), tmp_path / name)
        for path, text in changes.items():
            _write(root / path.lstrip("/"), text)
        return root

    return unpack


@pytest.fixture
def tree(tmp_path):
    """A function that makes a machine of a few files."""

    def make(files: dict[str, str]) -> Path:
        for path, text in files.items():
            _write(tmp_path / path.lstrip("/"), text)
        return tmp_path

    return make


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
