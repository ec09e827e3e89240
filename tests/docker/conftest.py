"""What the tests of the image share."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def wheel(tmp_path):
    """Make the smallest wheel that there is: one module and what more is given, in a folder that every user can read."""

    def make(name: str, version: str, text: str, *, more: dict[str, str] | None = None) -> Path:
        path, info = tmp_path / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": text,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            **(more or {}),
        }
        record = "".join(f"{member},,\n" for member in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in {**files, f"{info}/RECORD": record}.items():
                archive.writestr(member, content)
        tmp_path.chmod(0o755)
        path.chmod(0o644)
        return path

    return make
