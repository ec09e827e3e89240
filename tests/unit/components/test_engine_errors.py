"""The errors of the local engine for a failed step."""

from __future__ import annotations

import pickle

import pytest

from runwide.errors import EngineError, StepFailed
from runwide_components.engines.local_handle import _as_error

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: on purpose\n'


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (TRACEBACK, "ValueError: on purpose"),
        (f"{TRACEBACK}written to standard output before\n\n", "ValueError: on purpose"),
        ("started\nrunwide: NoItems: there is nothing\n", "runwide: NoItems: there is nothing"),
        (
            "google.api_core.exceptions.RetryError: timed out\nbye",
            "google.api_core.exceptions.RetryError: timed out",
        ),
        ('segmentation fault\n{"message": "shard.started", "severity": "INFO"}\n', "segmentation fault"),
        ("Errors were found\nsegmentation fault\n", "segmentation fault"),
    ],
)
def test_the_cause_is_the_line_that_reads_like_an_error(log, cause):
    error = _as_error({"error": "x", "failures": [{"step": "shard 3", "exitcode": 1, "log": log}]})
    assert str(error) == f"shard 3 failed with exit code 1: {cause}"


def test_a_step_without_a_word_is_named_all_the_same():
    failures = [{"step": f"shard {n}", "exitcode": -9, "log": ""} for n in (5, 7)]
    error = _as_error({"error": "x", "failures": failures})
    assert str(error) == "shard 5 (and 1 other steps) failed with exit code -9"


def test_a_run_that_failed_outside_of_its_steps_is_an_engine_error():
    error = _as_error({"error": "KeyError: 'x'", "failures": []})
    assert type(error) is EngineError
    assert str(error) == "KeyError: 'x'"


def test_it_crosses_processes_whole():
    error = StepFailed("a", step="shard 3", exitcode=1, log="b", uri="c", hint="d")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.step, copy.exitcode, copy.log, str(copy)) == ("shard 3", 1, "b", "a [c]; d")
