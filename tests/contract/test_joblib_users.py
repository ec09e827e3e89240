"""The parallel tests of joblib and scikit-learn pass with the backend `runwide` instead of loky.

The tests are those of the installed packages, unchanged. Some are excluded below by name, each with its reason; tests at the
end of this file show what runwide does instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from pickle import PicklingError

import numpy as np
import pytest
from joblib import Parallel, delayed

from runwide.errors import ExceptionNotPortable
from runwide.joblib import RunwideBackend

HERE = Path(__file__).parent
SECONDS = 280  # a part takes less than 60 on an idle machine
PARTS = 4
AT_LEAST = 10  # tests that ran something on the backend

MEMMAPS = "asks for arrays in files of joblib's temporary folder: here they are arrays of the worker's own"
EXCLUDED = {
    "test_auto_memmap_on_arrays_from_generator": MEMMAPS,
    "test_memmapping_leaks": MEMMAPS,
    "test_parallel_config_no_backend": MEMMAPS,
    "test_loky_reuse_workers": "looks at the executor of joblib's loky; test_initializer_reused asks the same by pids",
    "test_multiple_generator_call_separated_gc": "asks for the error of an executor that all calls share, of which the end "
    "of one is the end of the other",
    "test_nested_parallel_warnings[loky-multiprocessing-True]": "joblib's loky tells its workers that they are nested by a "
    "counter of its own",
    "test_nested_parallel_warnings[threading-loky-True]": "asks for one worker below threads: here they share workers",
    "test_parallel_pickling": "asks for loky's words; the PicklingError is the same",
    "test_error_capture": "asks for the KeyboardInterrupt of a task: here it is an error, or the caller's program would end",
    "test_parallel_with_interactively_defined_bound_method_loky": "looks for the log lines of loky's executor",
}

JOBLIB = [
    "joblib.test.test_parallel",
    "joblib.test.test_config",
    "joblib.test.test_func_inspect",
    "joblib.test.test_memory",
    "joblib.test.test_store_backends",
    # The others of this module are about its memory maps.
    "joblib.test.test_memmapping::test_numpy_arrays_use_different_memory",
    "joblib.test.test_memmapping::test_direct_mmap",
    "joblib.test.test_memmapping::test_parallel_memmap2d_as_memmap_1d_base",
]
SKLEARN = [
    "sklearn.utils.tests.test_parallel",
    "sklearn.tests.test_config",
    "sklearn.tests.test_multioutput",
    "sklearn.compose.tests.test_column_transformer",
    "sklearn.ensemble.tests.test_bagging",
    "sklearn.ensemble.tests.test_voting",
    "sklearn.inspection.tests.test_permutation_importance",
    "sklearn.model_selection.tests.test_search",
    "sklearn.model_selection.tests.test_validation",
]
# They fit many forests.
SKLEARN_AT_LENGTH = [
    *SKLEARN,
    "sklearn.ensemble.tests.test_forest",
    "sklearn.ensemble.tests.test_iforest",
    "sklearn.feature_selection.tests.test_rfe",
]


@pytest.mark.parametrize("modules", [JOBLIB, SKLEARN], ids=["joblib", "sklearn"])
def test_their_own_tests_pass(modules, tmp_path):
    hold(modules, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("modules", [JOBLIB, SKLEARN_AT_LENGTH], ids=["joblib", "sklearn"])
def test_their_own_tests_pass_with_all_their_parameters(modules, part, tmp_path):
    hold(modules, tmp_path, str(part), str(PARTS))


def hold(modules, folder, *part):
    excluded = EXCLUDED if modules is JOBLIB else {}
    answer = run(modules, excluded, folder, *part)
    assert answer["failed"] == {}, "\n".join(answer["failed"].values())
    assert len(answer["on_runwide"]) >= AT_LEAST
    assert answer["unknown"] == [], "the list of excluded tests has names that do not exist"
    assert answer["threads"] == ["MainThread"], "threads of a pool have outlived it"


def test_a_failing_test_is_reported(tmp_path):
    module = "joblib.test.test_parallel::test_parallel_pickling"
    (failed,) = run([module], [], tmp_path)["failed"].values()
    assert "the task to send" in failed


def run(modules, excluded, folder, *part):
    """Return the outcome of each test of some modules."""
    path = [str(HERE / "joblib_places"), os.environ.get("PYTHONPATH", "")]
    program = [sys.executable, str(HERE / "joblib_run.py"), json.dumps(modules), json.dumps(list(excluded))]
    ended = subprocess.run(
        [*program, *part],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


# Behaviour that the excluded tests contradict


def parallel(**options):
    return Parallel(n_jobs=2, backend=RunwideBackend(), **options)


def change(array):
    array[:] = 1
    return array


def test_an_array_is_the_workers_own_and_may_be_changed():
    """joblib's memory maps are read-only."""
    array = np.zeros(1_000_000)
    for changed in parallel(max_nbytes=1)(delayed(change)(array) for _ in range(3)):
        assert changed.all()
    assert not array.any()


def test_a_generator_that_is_dropped_ends_its_own_call_only():
    dropped = parallel(return_as="generator")(delayed(time.sleep)(60) for _ in range(10))
    kept = parallel(return_as="generator")(delayed(abs)(-x) for x in range(10))
    with pytest.warns(UserWarning, match="tasks which were still being processed"):
        del dropped
    assert list(kept) == parallel()(delayed(abs)(-x) for x in range(10)) == list(range(10))


def test_a_value_that_cannot_be_pickled_is_a_pickling_error_as_with_loky():
    class Unwilling:
        def __reduce__(self):
            raise RuntimeError("cannot pickle")

    with pytest.raises(PicklingError, match="Unwilling"):
        parallel()(delayed(id)(Unwilling()) for _ in range(10))


def interrupt(_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("task", "expected"), [(interrupt, ExceptionNotPortable), (lambda _: 1 / 0, ZeroDivisionError)]
)
def test_after_the_error_of_a_task_the_parallel_is_usable(task, expected):
    with parallel() as opened:
        with pytest.raises(expected):
            opened(delayed(task)(x) for x in range(2))
        assert opened(delayed(abs)(x) for x in range(10)) == list(range(10))
    with pytest.raises(expected):
        parallel()(delayed(task)(x) for x in range(2))
