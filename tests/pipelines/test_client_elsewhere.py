"""A client on Windows or macOS, simulated on Linux: names that are missing there are hidden from our own modules.

Python's modules and other packages keep what they need (``elsewhere/hidden.py`` says how it is done). The program
(``elsewhere/client.py``) goes all of a client's ways against the local servers and the emulator, which run in this process
and in others. It takes every ``open`` of ours without an encoding for an error, its locale knows ASCII alone, and what
commands print goes to a console with code page 1252.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runwide.store.signing import new_key

pytestmark = [pytest.mark.gcs, pytest.mark.xdist_group("vertex")]
PROGRAM = Path(__file__).parent / "elsewhere" / "client.py"
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONWARNDEFAULTENCODING": "1"}


CLIENTS = [("vertex", "win32"), ("kubeflow", "win32"), ("kubeflow", "darwin")]


@pytest.fixture
def signed(monkeypatch):
    """A signing key, which the servers' steps have, too."""
    monkeypatch.setenv("RUNWIDE_SIGNING_KEY", new_key())
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize(("engine", "system"), CLIENTS, ids=["-".join(client) for client in CLIENTS])
def test_a_client_goes_all_its_ways(engine, system, request, gcs, tmp_path):
    server = request.getfixturevalue(f"{engine}_server")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), engine, system, server.url, gcs],
        env={**os.environ, **ASCII, "RUNWIDE_LOG_LEVEL": "error"},
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["done"], done.stdout + done.stderr
