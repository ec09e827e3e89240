"""The image on the other versions of Python passes the tests of the image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.mounts, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("python", ["3.10", "3.12", "3.13"])
def test_the_image_on_another_version_of_python_passes_the_tests_of_the_image(engine, python):
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("docker/image-test runs in the checkout's own environment, which `make` sets up")
    environment = {key: value for key, value in os.environ.items() if key != "RUNWIDE_TESTS_PID"}
    ran = subprocess.run(
        [ROOT / "docker" / "image-test", python],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-2000:]
    assert f"runwide:dev-py{python.replace('.', '')} " in ran.stdout.splitlines()[-1]
