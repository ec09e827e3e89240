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
    arguments = ("--pool", "runwide", "--fault", "os._exit", "--fault", "result that fails to load")
    table = run("pool_faults.py", *arguments).splitlines()
    assert table[2:5] == [
        "| os._exit | 11, which why, on |",
        "| result that fails to load | 11, which why, on |",
        "| nothing left to wish | 2 of 2 |",
    ]


def test_the_events_table_has_each_way_for_long_and_for_short_tasks():
    lines = run("events.py", "--quick").splitlines()
    assert sum("costs" in line and "of CPU" in line for line in lines) == 4
    assert (
        sum(line.split()[0] in ("silent", "traced", "recorded") and "s wall" in line for line in lines) == 6
    )
