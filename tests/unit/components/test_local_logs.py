"""The lines of steps on this machine reach the client whole, and a failed shard names its log."""

from __future__ import annotations

import os
import re
import threading

from runwide.errors import StepFailed
from runwide_components.engines.local_logs import StepLines, shown
from runwide_components.runs import with_job


def test_lines_of_steps_that_print_at_once_are_whole():
    read, write = os.pipe()

    def tell(name):
        lines = StepLines(write, name)
        for _ in range(60):
            lines.add(f"{name[-1] * 99}\n".encode() * 600)  # more than a pipe takes in one piece
        lines.end()

    tellers = [threading.Thread(target=tell, args=(f"shard {number}",)) for number in range(4)]
    for one in tellers:
        one.start()
    closing = threading.Thread(target=lambda: [*(one.join() for one in tellers), os.close(write)])
    closing.start()
    with os.fdopen(read) as lines:
        told = lines.read().splitlines()
    closing.join()
    assert len(told) == 4 * 60 * 600
    assert [line for line in told if not re.fullmatch(r"shard (\d): \1{99}", line)] == []


def test_an_empty_log_is_called_empty():
    assert shown("shard 0", "", "/tmp/0001-shard-0.log") == "shard 0: its log is empty\n"


def test_the_error_of_a_shard_names_its_log_and_how_to_go_on():
    job = "runs/1/job.json#sha256=00"
    path = "/tmp/logs/0001-shard-0.log"
    for uri, hint in (
        (job, f"'runwide rerun JOB' runs the rest here; its whole log is {path}"),
        (None, f"its whole log is {path}"),
    ):
        error = with_job(
            StepFailed(
                "shard 0 failed", step="shard 0", exitcode=-9, log="", log_path=path, uri=uri, hint=hint
            ),
            job,
        )
        assert (error.uri, error.step, error.exitcode, error.log_path) == (job, "shard 0", -9, path)
        assert str(error).count(f"its whole log is {path}") == 1
        assert f"runwide.attach({job!r})" in str(error)
        assert f"runwide wait '{job}'" in str(error)
        assert "rerun" not in str(error)
