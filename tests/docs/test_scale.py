"""Every command of docs/scale.md runs, copied word for word; commands for the cloud use local servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runwide.testing.plugin import gcs, gcs_server

__all__ = ["gcs", "gcs_server"]

GUIDE = Path(__file__).parents[2] / "docs" / "scale.md"
BLOCK = re.compile(r"^```(python|sh)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"python": [sys.executable], "sh": ["bash", "-euo", "pipefail"]}


@pytest.mark.gcs
@pytest.mark.xdist_group("vertex")
def test_the_commands_of_the_guide_work(gcs, tmp_path):
    from vertex_server import VertexServer

    assert gcs.startswith("gs://bucket/")  # which the guide uses, and which `gcs` directs to the emulator
    shown = BLOCK.findall(GUIDE.read_text())
    assert {language for language, _, _ in shown} == set(RUN)
    with VertexServer() as vertex:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": vertex.url,
            # one block of the guide exports it
            "RUNWIDE_IMAGE": "europe-west1-docker.pkg.dev/shop/runwide/runwide:0.1.0-py311",
        }
        for number, (language, file, text) in enumerate(shown):
            program = tmp_path / (file or f"block-{number}")
            program.write_text(text)
            if file:
                continue
            ran = subprocess.run(
                [*RUN[language], program.name],
                cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
            if "--dry-run" in text:
                assert re.search(r"components +200 of \S+, 10 at the same time", ran.stdout)
                assert "about 2,004 of the store" in ran.stdout
            if "--csv" in text:
                assert "fr,7,fr: 1 weeks," in ran.stdout
        assert len(vertex.jobs) == 3  # one map and two runs of a pipeline
