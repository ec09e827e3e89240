from __future__ import annotations

import os
import time

import pytest


class Meeting:
    """A task that returns its worker's pid when so many workers are in it, so that each of them has one."""

    def __init__(self, folder, workers):
        self.folder, self.workers = folder, workers

    def __call__(self, _=None):
        (self.folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < self.workers:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return os.getpid()


@pytest.fixture
def meeting(tmp_path):
    """Makes such tasks, of so many workers."""

    def make(workers):
        folder = tmp_path / f"meeting-{os.urandom(8).hex()}"
        folder.mkdir()
        return Meeting(folder, workers)

    return make
