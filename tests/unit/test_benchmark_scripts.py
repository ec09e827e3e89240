"""The scripts that compare the pool with other libraries still run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import measure
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_speed_table_has_a_row_for_each_load_and_a_ratio():
    table = run("pool.py", "--quick", "--peers", "runwide,concurrent.futures").split("\n\n")[0].splitlines()
    header, _, *rows = [line.strip("| ").split(" | ") for line in table]
    assert header[-2:] == ["without fork", "goal"]
    assert len(rows) == 6
    assert all(float(row[3]) > 0 for row in rows)


def test_the_script_of_streams_counts_requests_and_prints_the_time_of_the_first_result():
    found = dict(
        line.split(maxsplit=1) for line in run("stream.py", "--items", "200", "--shards", "2").splitlines()
    )
    assert 10 < int(found["requests"].split()[0]) < 60
    assert float(found["first"].split()[0]) < 60
    assert len(found["memory"].partition(" MiB")[0].split(", ")) == 10


def test_the_map_table_has_a_row_for_each_load_and_a_ratio():
    options = ("--quick", "--table", "map", "--peers", "runwide,concurrent.futures")
    _, _, *rows = run("pool.py", *options).split("\n\n")[0].splitlines()
    assert len(rows) == 5
    assert all(float(row.split(" | ")[3]) > 0 for row in rows)


def test_the_table_of_starts_says_whether_each_goal_is_met():
    options = ("--quick", "--table", "starts", "--rows", "cold-2,later,maps", "--peers", "runwide,loky")
    cold, later, maps = run("pool.py", *options).split("\n\n")[0].splitlines()[2:]
    for row, goal in ((cold, "1.1 times loky"), (later, "1.1 times loky"), (maps, "1.1 times the best")):
        assert re.search(rf"\| at most {goal}: (met|\*\*missed\*\*) \(\d+\.\d\d\) \|$", row)


def test_the_cost_of_a_replaced_worker_is_measured_for_libraries_that_continue_after_a_death():
    options = ("--quick", "--table", "starts", "--rows", "replaced-alone", "--peers", "runwide,joblib,loky")
    (row,) = run("pool.py", *options).split("\n\n")[0].splitlines()[2:]
    _, ours, joblib, loky, *_ = row.strip("| ").split(" | ")
    assert joblib == "-"
    assert float(ours.split()[0]) > 0
    assert float(loky.split()[0]) > 0


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([0.5, 0.6, 0.7], "ahead of b, or within the noise: met (0.60)"),
        ([0.9, 1.1, 1.3], "ahead of b, or within the noise: within the noise (1.10)"),
        ([1.3, 1.4, 1.5], "ahead of b, or within the noise: **missed** (1.40)"),
        ([], "ahead of b, or within the noise: not measured"),
    ],
)
def test_a_goal_compares_medians_with_those_of_its_peer(ours, verdict, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    goal = importlib.import_module("pool").Goal(1, "b", noise=True)
    assert goal.verdict(ours, {"a": [0.1], "b": [0.8, 1.0, 1.2]}) == verdict


@pytest.mark.parametrize(("shard", "word"), [(199.0, "met (0.99 times)"), (201.0, "MISSED (1.00 times)")])
def test_a_start_is_compared_with_the_pip_step_of_kfp(shard, word):
    assert word in measure.Started(bare=10.0, shard=shard, kfp=200.0).verdict()


def test_the_fault_table_finds_no_failure_of_runwide():
    arguments = ("--pool", "runwide", "--rows", "os._exit", "result that fails to load")
    table = run("pool_faults.py", *arguments).splitlines()
    assert table[2:5] == [
        "| os._exit | 11, which why, on |",
        "| result that fails to load | 11, which why, on |",
        "| nothing left to wish | 2 of 2 |",
    ]


def test_the_fault_table_counts_only_what_a_library_offers():
    """multiprocessing's pool has no progress bar, and does not change the program's classes."""
    rows = ("results of a class of `__main__`", "progress bar, stderr a broken pipe")
    table = run("pool_faults.py", "--pool", "multiprocessing.Pool", "--rows", *rows).splitlines()
    assert table[2:5] == [
        "| results of a class of `__main__` | 12, state isinstance globals, on |",
        "| progress bar, stderr a broken pipe | - |",
        "| nothing left to wish | 1 of 1 |",
    ]


def test_the_rows_about_the_program_find_no_failure_of_runwide():
    """Two rows are left out, since they depend on the time that a worker takes to start or to write."""
    rows = (
        "os._exit, stderr a broken pipe",
        "os._exit, stderr full",
        "os._exit, stderr closed",
        "progress bar, stderr a broken pipe",
        "results of a class of `__main__`",
        "generator that waits for results",
        "non-ASCII line, stdout in ASCII",
        "array above the file size limit",
        "`-O -W -X utf8`, `hash(text)`",
    )
    table = run("pool_faults.py", "--pool", "runwide", "--rows", *rows)
    assert f"| nothing left to wish | {len(rows)} of {len(rows)} |" in table


def test_the_events_table_has_each_way_for_long_and_for_short_tasks():
    lines = run("events.py", "--quick").splitlines()
    assert sum("costs" in line and "of CPU" in line for line in lines) == 4
    assert (
        sum(line.split()[0] in ("silent", "traced", "recorded") and "s wall" in line for line in lines) == 6
    )


def test_the_redaction_tables_have_a_ratio_for_each_family_and_a_time_for_each_line():
    slow, lines = [
        table.splitlines()[2:] for table in run("redaction.py", "--largest", "2048").split("\n\n")[1:]
    ]
    assert len(slow) > 60
    assert all(float(row.strip("| ").split(" | ")[-1]) >= 0 for row in slow)
    assert len(lines) == 5
