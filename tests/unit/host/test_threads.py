"""Thread counts of libraries: set for workers, and the user's own settings win."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runwide import settings
from runwide.host import cores, threads

COUNT = "LOKY_MAX_CPU_COUNT"
ALL = (
    COUNT,
    *(
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    *("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in ALL:
        monkeypatch.setenv(name, "")  # so that also what the test itself sets is taken back
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("workers", "each"), [(1, "4"), (2, "2"), (3, "1"), (4, "1"), (9, "1")])
def test_workers_times_threads_fills_the_cores(workers, each, machine):
    counted = cores(root=machine("gce-n2-standard-8"))
    assert threads.environment(workers, counted) == dict.fromkeys(ALL, each)
    assert threads.environment(workers, 4) == threads.environment(workers, counted)


def test_a_quota_bounds_the_threads_too(machine):
    assert threads.per_worker(1, cores(workers=1, root=machine("docker-cpus-1.5"))) == 2


def test_a_variable_of_the_users_is_left_out(monkeypatch):
    monkeypatch.setenv("POLARS_MAX_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert set(threads.environment(2, 4)) == set(ALL) - {"POLARS_MAX_THREADS", "MKL_NUM_THREADS"}


def test_the_users_openmp_setting_also_rules_the_libraries_that_follow_it(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert set(threads.environment(2, 4)) == {
        COUNT,
        "NUMBA_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "RAYON_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    }


@pytest.mark.parametrize(
    ("theirs", "each"),
    [("8", "4"), ("4", "4"), (" 3 ", "3"), ("1", "1"), ("0", "1"), ("-2", "1"), ("", "4")],
)
def test_a_count_of_the_users_lowers_the_share_of_a_worker_and_never_raises_it(monkeypatch, theirs, each):
    """It is for their program, which has the workers beside it: eight in each of two would be sixteen on eight cores."""
    monkeypatch.setenv(COUNT, theirs)
    assert threads.environment(2, 8)[COUNT] == each


def test_an_invalid_count_of_the_users_is_not_replaced(monkeypatch):
    monkeypatch.setenv(COUNT, "many")
    assert set(threads.environment(2, 8)) == set(ALL) - {COUNT}


@pytest.mark.parametrize(
    ("name", "count"), [("docker-cpus-1.5", "2"), ("gce-n2-standard-8", "4"), ("gke-pod-7.5-of-8", "4")]
)
def test_announce_sets_the_number_of_cores(monkeypatch, machine, name, count):
    threads.announce(cores(root=machine(name)))
    assert settings.value(COUNT) == count


def test_announce_ignores_the_number_of_workers(monkeypatch):
    monkeypatch.setenv("RUNWIDE_WORKERS", "not even a number")
    threads.announce()
    monkeypatch.delenv("RUNWIDE_WORKERS")
    assert settings.value(COUNT) == str(cores().usable)


def test_announce_keeps_the_users_own_number(monkeypatch):
    monkeypatch.setenv(COUNT, "3")
    threads.announce(8)
    assert settings.value(COUNT) == "3"


COUNTED = """
import json, joblib, loky
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
counts = [loky.cpu_count(physical) for physical in (True, False)]
counts += [joblib.cpu_count(physical) for physical in (True, False)]
for backend in ("loky", "threading", "multiprocessing"):
    with joblib.parallel_config(backend=backend):
        counts.append(joblib.effective_n_jobs(-1))
print(json.dumps([*counts, _openmp_effective_n_threads(-1)]))
"""


def test_joblib_loky_and_scikit_learn_use_the_announced_number():
    assert set(_run(COUNTED, threads.environment(2, 2))) == {1}
    assert set(_run(COUNTED, {COUNT: "1"})) == {1}


SHOW = """
import json, numpy, threadpoolctl
print(json.dumps([library["num_threads"] for library in threadpoolctl.threadpool_info()]))
"""
LATE = """
import json, numpy, threadpoolctl
from runwide.host import threads
named = threads.apply(json.loads('{"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}'))
print(json.dumps([library["num_threads"] for library in threadpoolctl.threadpool_info() if library["prefix"] in named]))
"""


def test_a_library_that_is_loaded_later_obeys():
    assert _run(SHOW, threads.environment(2, 2)) == [1]


def test_a_library_that_is_loaded_already_obeys():
    assert _run(LATE, {"OPENBLAS_NUM_THREADS": "2"}) == [1]


def test_without_variables_nothing_that_is_loaded_is_touched():
    default = _run(SHOW, {})
    kept = LATE.replace('"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"', "").replace(
        ' if library["prefix"] in named', ""
    )
    assert _run(kept, {}) == default


def test_applying_costs_no_import_where_no_library_is_loaded():
    code = (
        "import sys, json; from runwide.host import threads; threads.apply({'OMP_NUM_THREADS': '1'});"
        "print(json.dumps('threadpoolctl' in sys.modules))"
    )
    assert _run(code, {}) is False


def test_a_module_with_threads_of_its_own_that_is_loaded_already_obeys():
    code = (
        "import json, numexpr; from runwide.host import threads;"
        "named = threads.apply({'NUMEXPR_NUM_THREADS': '1'});"
        "print(json.dumps([named, numexpr.get_num_threads()]))"
    )
    assert _run(code, {"NUMEXPR_NUM_THREADS": "2"}) == [["numexpr"], 1]


def _run(code: str, variables: dict[str, str]):
    environment = settings.with_variables(variables)
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)
