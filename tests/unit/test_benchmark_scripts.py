"""The scripts that hold the pool against its peers still run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    assert header[-1] == "without fork"
    assert len(rows) == 12
    assert all(float(row[3]) > 0 for row in rows)


def test_the_fault_table_finds_nothing_left_to_wish_in_runwide():
    arguments = ("--pool", "runwide", "--rows", "os._exit", "result that fails to load")
    table = run("pool_faults.py", *arguments).splitlines()
    assert table[2:5] == [
        "| os._exit | 11, which why, on |",
        "| result that fails to load | 11, which why, on |",
        "| nothing left to wish | 2 of 2 |",
    ]


def test_the_fault_table_counts_only_what_a_library_offers():
    """multiprocessing's pool has no progress bar, and leaves the program's classes alone."""
    rows = ("results of a class of `__main__`", "progress bar, stderr a broken pipe")
    table = run("pool_faults.py", "--pool", "multiprocessing.Pool", "--rows", *rows).splitlines()
    assert table[2:5] == [
        "| results of a class of `__main__` | 12, state isinstance globals, on |",
        "| progress bar, stderr a broken pipe | - |",
        "| nothing left to wish | 1 of 1 |",
    ]


def test_the_rows_about_the_program_find_nothing_left_to_wish_in_runwide():
    """Without the two whose cells depend on the time that a worker takes to start or to write."""
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
